"""Another client of the NATS account answers in place of JetStream, and not with its JSON: no task ends by it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from nats import errors

from coordinator.edge import bucket, event_stream, watch
from coordinator.edge.bucket import KvBucket
from coordinator.edge.event_stream import EventStream
from coordinator.edge.watch import LedgerWatch
from coordinator.settings import Settings
from nats_identify.wire import Subjects
from tests.processes import until

WRONG = [
    ValueError("no JSON"),
    TypeError("no list"),
    AttributeError("a list"),
    KeyError("no field"),
    OverflowError("1e999"),
    RecursionError("too deep"),
    None,
]


class JetStream:
    """Answers each call with what nats-py makes of an answer that is none; None: with no settings and no state."""

    def __init__(self, error):
        self.calls = 0
        self._error = error

    async def stream_info(self, *_):
        self.calls += 1
        if self._error is None:
            return SimpleNamespace(config=None, state=None)
        raise self._error

    async def subscribe(self, *_, **__):
        self.calls += 1
        raise self._error or AttributeError("no settings")


class Log:
    """Keeps the warnings."""

    def __init__(self):
        self.warnings = []

    def warning(self, text, *more, **fields):
        self.warnings.append((text, more or fields))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(bucket, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(event_stream, "RETRY_MIN_S", 0.001)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.001)


async def goes_on(running, jetstream):
    """Run it until it has asked again and again; raise what ended it."""
    task = asyncio.create_task(running)

    async def has_asked_again():
        return task.done() or jetstream.calls > bucket.LOOKS_IN_VAIN_MAX

    await until(has_asked_again, "it asks again")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def settings(**more):
    return Settings(nats_url=None, **more)


@pytest.mark.parametrize("error", WRONG, ids=str)
async def test_the_bucket_s_settings_are_looked_at_again(error):
    jetstream: Any = JetStream(error)
    log: Any = Log()
    connection: Any = SimpleNamespace(jetstream=lambda **_: jetstream, warn_throttled=log.warning)
    await goes_on(KvBucket(connection, "identify", settings(), log).watch(lambda: 1, lambda: True), jetstream)
    assert {kind for kind, _ in log.warnings} == {"bucket"}, "it says what it cannot read, and names no permission"


async def test_looks_in_vain_count_only_while_the_ledger_can_be_read():
    jetstream: Any = JetStream(errors.OutboundBufferLimitError())
    log: Any = Log()
    connection: Any = SimpleNamespace(jetstream=lambda **_: jetstream, warn_throttled=log.warning)
    await goes_on(KvBucket(connection, "identify", settings(), log).watch(lambda: 1, lambda: False), jetstream)
    assert log.warnings == []


async def test_a_user_that_may_not_look_is_said_which_permission_it_needs():
    jetstream: Any = JetStream(errors.TimeoutError())
    log: Any = Log()
    connection: Any = SimpleNamespace(jetstream=lambda **_: jetstream, warn_throttled=log.warning)
    await KvBucket(connection, "identify", settings(), log).watch(lambda: 1, lambda: True)
    assert log.warnings[0][1] == {"subject": "$JS.API.STREAM.INFO.KV_identify"}


@pytest.mark.parametrize("error", WRONG, ids=str)
async def test_the_history_is_asked_for_again(error):
    jetstream: Any = JetStream(error)
    connection: Any = SimpleNamespace(jetstream=lambda **_: jetstream, is_clustered=False, is_connected=True)
    log: Any = Log()
    stream = EventStream(
        connection, Subjects("identify"), settings(identify_history="1d"), has_ledger=lambda: True, log=log
    )
    await goes_on(stream.run(), jetstream)
    assert len(log.warnings) == 1


@pytest.mark.parametrize("error", WRONG, ids=str)
async def test_the_ledger_is_watched_again(error):
    jetstream: Any = JetStream(error)
    log: Any = Log()
    store: Any = SimpleNamespace(jetstream=jetstream, subject="ledger", stream="KV_identify", revision=0, log=log)
    await goes_on(LedgerWatch(store, "instance", lambda _: None).run(), jetstream)
    assert len(log.warnings) == 1
