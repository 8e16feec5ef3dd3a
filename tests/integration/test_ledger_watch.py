"""A watch of the ledger on a real nats-server: it is there while it is wanted, and at once when it is wanted again."""

import asyncio
from dataclasses import replace
from typing import Any

from nats.js.errors import APIError

from coordinator.core.ledger import Ledger, Write
from coordinator.edge.watch import LedgerWatch
from nats_identify.schedule.model import SECOND
from tests.contract.ways_to_the_ledger import real_bucket
from tests.processes import until

LEDGER = Ledger("identify", "a", "ai", 1, 1, 3 * SECOND, lineage="a-0")


async def test_one_that_leads_has_no_consumer_and_is_shown_what_is_newest_afterwards(tmp_path):
    async with real_bucket(tmp_path) as bucket:
        writer, watcher = bucket.way("ai"), bucket.way("bi")
        writer.watch.set_wanted(is_wanted=False)
        await writer.read()
        await writer.write(Write(LEDGER, 0))

        async def is_watched():
            return await bucket.watchers() == 1

        await until(is_watched, "one watches")
        watcher.watch.set_wanted(is_wanted=False)

        async def is_unwatched():
            return await bucket.watchers() == 0

        await until(is_unwatched, "it watches no more")
        await writer.write(Write(replace(LEDGER, sequence=2), 1))
        watcher.watch.set_wanted(is_wanted=True)
        assert (await watcher.is_shown(2)).ledger == replace(LEDGER, sequence=2)


class Refusing:
    """A stream that gives no consumer; the refusal comes when it is let through."""

    def __init__(self):
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def subscribe(self, *_: Any, **__: Any):
        self.asked.set()
        await self.answers.wait()
        raise APIError(code=400, description="maximum consumers limit reached", err_code=10026)


class Log:
    """Keeps what is logged."""

    def __init__(self):
        self.said = []

    def warning(self, said, **_: Any):
        self.said.append(said)

    info = warning


class Store:
    """As much of a store as a watch needs."""

    subject, stream, revision = "$KV.identify.ledger", "KV_identify", 0

    def __init__(self):
        self.jetstream, self.log = Refusing(), Log()


async def watching(store):
    watch: Any = LedgerWatch(store, "ai", lambda _: None)
    running = asyncio.create_task(watch.run())
    await store.jetstream.asked.wait()
    return watch, running


async def test_a_refusal_that_comes_when_no_watch_is_wanted_is_not_logged():
    store: Any = Store()
    watch, running = await watching(store)
    watch.set_wanted(is_wanted=False)
    store.jetstream.answers.set()
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    assert store.log.said == []


async def test_a_refusal_is_over_when_no_watch_is_wanted():
    store: Any = Store()
    watch, running = await watching(store)
    store.jetstream.answers.set()
    while not store.log.said:  # noqa: ASYNC110  # the watch that is tried has its turn
        await asyncio.sleep(0)
    watch.set_wanted(is_wanted=False)
    watch.set_wanted(is_wanted=False)
    running.cancel()
    refused, over = store.log.said
    assert refused.startswith("NATS refuses a watch of the ledger")
    assert over == "no watch of the ledger is needed any more"
