"""Text from outside, at each place where people read it: one line, nothing that a terminal obeys, no endless text."""

import json
import logging
import random
from io import StringIO
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Srv
from pydantic import ValidationError
from rich.console import Console

from coordinator import process
from coordinator.edge.connections import CannotServeError
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from coordinator.edge.publisher import Publisher
from coordinator.edge.recent import Recent
from coordinator.edge.trouble import Trouble
from coordinator.settings import SettingsError
from nats_identify import NatsQueue, wire
from nats_identify.cli.demo.board import Board
from nats_identify.cli.demo.watch import Watch
from nats_identify.cli.status import draw_status
from nats_identify.cli.up import _until_ready
from nats_identify.client.discord_local_queue import LargeBotQueue
from nats_identify.client.outage import OutageLog, address_of
from nats_identify.client.requester import Received
from nats_identify.clock import NS_PER_S
from nats_identify.discord.backoff import FetchResult
from nats_identify.integrations._outage import Outage
from nats_identify.integrations._websocket import what_ended
from nats_identify.printable import printable, printable_lines
from nats_identify.processes.subprocesses import ChildDiedError
from nats_identify.schedule.model import Event
from tests.hostile import NUMBERS, OTHER, TEXTS

FORGED = "2026-11-27 ERROR all is lost"
HOSTILE = f"[red]\n{FORGED}\r\x1b[31m\x1b]0;title\x07\u202e\u2066\x00\x7f\x85\u2028\ud800b" + "w" * 600
COLUMNS = 100


class Closed(Exception):  # noqa: N818  # stands for a library's
    """What a library raises where Discord has closed a connection."""

    code = 4004


LIBRARY: Any = SimpleNamespace(reconnect_error=KeyError, closed_error=Closed)


class Verbatim(Exception):  # noqa: N818  # as above
    """An error that shows its text as it is."""

    def __repr__(self):
        return f"Verbatim({self})"


def assert_plain(text, *, lines=1):
    """No character of the text is raw but the ends of so many lines, and none of these is the forged one."""
    shown = text.rstrip("\n").split("\n")
    assert lines is None or len(shown) == lines, shown
    assert FORGED[:10] in text, "it is shown at all"
    for line in shown:
        assert line.isprintable(), ascii(line)
        assert not line.startswith(FORGED)
        assert len(line) < 2_500


def test_what_is_printable_stays_and_what_is_not_is_escaped():
    assert printable("shards-3 é 日本 [red] \\n") == "shards-3 é 日本 [red] \\n"
    assert printable("a\nb\x1b\u202e\ud800\x85") == r"a\nb\x1b\u202e\ud800\x85"
    assert printable("x" * 10, 4) == "xxxx…"
    assert printable("\n" * 10, 4) == r"\n\n…"
    assert printable(ValueError("a\nb")) == r"a\nb"
    assert printable_lines("a\nb\rc") == "  | a\n  | b\\rc"
    assert len(printable("\x00" * 10_000_000)) < 2_000


# --- a bot's log


@pytest.fixture
def line(caplog):
    """Return the one line that was logged since."""
    caplog.set_level(logging.DEBUG)

    def only():
        (record,) = caplog.records
        caplog.clear()
        return logging.Formatter("%(levelname)s %(message)s").format(record)

    return only


@pytest.mark.parametrize("code", ["overloaded", "timeout", "ended", "bad_request"])
async def test_a_refusals_message(line, code):
    queue = NatsQueue.connect("nats://127.0.0.1:1")
    queue._enter()
    pending = queue._begin(0, 0, None)
    refused = {"status": "refused", "code": code, "message": HOSTILE, "request_id": pending.requester.request_id}
    payload = json.dumps(refused).encode()
    if "\ud800" in HOSTILE:  # no JSON in UTF-8 can carry it
        payload = json.dumps({**refused, "message": HOSTILE.replace("\ud800", "")}).encode()
    queue._received(pending.requester.request_id, Received(wire.decode_reply(payload)))
    assert_plain(line())
    await queue.close()


def test_what_nats_says(line):
    log = OutageLog("identify.request.*")
    log.error(nats.errors.Error(HOSTILE))
    log.connection(False, "here", 0)
    log.connection(False, "here", 2 * NS_PER_S)
    assert_plain(line())
    log.error_while_connected(nats.errors.Error(HOSTILE), "here", 0)
    assert_plain(line())


def test_a_reply_that_cannot_be_used(line):
    log = OutageLog("identify.request.*")
    log.unusable_reply(ValueError(HOSTILE), "here", 0)
    assert_plain(line())
    with pytest.raises(ValidationError) as raised:
        wire.decode_reply(json.dumps({"status": HOSTILE.replace("\ud800", "")}).encode())
    log = OutageLog("identify.request.*")
    log.unusable_reply(raised.value, "here", 0)
    assert_plain(line())


def test_the_address_that_a_server_names():
    url: Any = SimpleNamespace(hostname=HOSTILE, port=4222)
    connected: Any = SimpleNamespace(connected_url=url, servers=[])
    known: Any = SimpleNamespace(connected_url=None, servers=[Srv(url).uri])
    assert_plain(address_of(connected))
    assert_plain(address_of(known))


def test_discords_close_reason_and_a_librarys_error(line):
    websocket: Any = SimpleNamespace(closed_with=(4004, HOSTILE))
    assert_plain(what_ended(LIBRARY, Closed(), websocket))
    assert_plain(what_ended(LIBRARY, Verbatim(HOSTILE), None))
    Outage(3).note("kind", f"lost its connection: {HOSTILE}")
    assert_plain(line())


def test_what_discords_api_says(line):
    queue = LargeBotQueue("a.b.c" + "d" * 60)
    queue._failed(FetchResult.UNAVAILABLE, 0, HOSTILE)
    assert_plain(line())


# --- a coordinator


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_coordinators_log(capsys, style):
    log = make_log("debug", style, replica="pod-0")
    no_blank = HOSTILE.replace(" ", "")  # shown without quotes
    log.warning(f"event {HOSTILE}")
    log.warning(FORGED[:10], client=HOSTILE)
    log.warning(FORGED[:10], client=no_blank)
    log.warning(FORGED[:10], names=[HOSTILE], facts={HOSTILE: HOSTILE})
    log.warning(FORGED[:10], error=repr(Verbatim(HOSTILE)), bidi="\u202e", feed="\n")
    for shown in capsys.readouterr().err.splitlines(keepends=True)[:5]:
        assert_plain(shown.replace("\x7f", "") if style == "json" else shown)


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_exception_in_the_coordinators_log(capsys, style):
    log = make_log("debug", style)
    try:
        raise ValueError(HOSTILE)  # noqa: TRY301  # what is logged
    except ValueError:
        log.exception("a page cannot be shown")
    first, *rest = capsys.readouterr().err.rstrip("\n").split("\n")
    assert "a page cannot be shown" in first
    assert_plain("\n".join([first, *rest]).replace("\x7f", ""), lines=None)
    assert all(line.startswith("  | ") for line in rest)


def test_the_reason_on_readyz_and_the_last_words_of_a_coordinator(capsys):
    trouble = Trouble("the ledger cannot be written", "it can", lambda: 0, make_log("error", "json"))
    trouble.met(HOSTILE, "do this")
    assert_plain(trouble.reason)
    capsys.readouterr()
    process._say(ExceptionGroup("", [CannotServeError(HOSTILE)]))
    assert_plain(capsys.readouterr().err)
    process._say(ExceptionGroup("", [SettingsError(HOSTILE)]))
    assert_plain(capsys.readouterr().err)


# --- the command line


def status(**fields):
    limit = {"total": 1_000, "remaining": 12, "reset_after_ms": 3_600_000}
    known = {"window_ms": 5_000, "session_start_limit": limit, "leader": "pod-0", "term": 7}
    here = {"name": "pod-0", "role": "leader", "prefix": "identify", "waiting": 2, "reserve": 10, "held_back": 1}
    one = {"request_id": "r", "shard_id": 3, "client": "shards-3"}
    waits = {**one, "priority": 0, "managed": True, "waited_ms": 5}
    bucket = {"bucket": 0, "waiting": 2, "next_release_ms": 1_500, "reason": "window", "first": [waits]}
    rest = {"crash_loops": [{**one, "opens_in_ms": 5}], "buckets": [bucket], "restart": {"shards": 8}}
    return {**known, **here, **rest, **fields}


def drawn(answer):
    shown = StringIO()
    console = Console(width=COLUMNS, file=shown, force_terminal=False, highlight=False)
    console.print(draw_status(wire.Status.model_validate_json(json.dumps(answer))))
    return shown.getvalue()


@pytest.mark.parametrize("field", ["leader", "trouble", "prefix", "client"])
def test_the_picture_of_the_status(field):
    text = HOSTILE.replace("\ud800", "")
    answer = status(**{field: text})
    if field == "client":
        answer["buckets"][0]["first"][0]["client"] = text
        answer["crash_loops"][0]["client"] = text
    picture = drawn(answer)
    assert "[red]" in picture.replace("\n", "")
    assert len(picture.splitlines()) <= len(drawn(status(trouble="x")).splitlines()) + 8
    for row in picture.splitlines():
        assert row.isprintable()
        assert not row.startswith(FORGED)


def test_a_status_of_random_values_is_drawn_or_refused():
    dice, shown = random.Random(7), 0
    for _ in range(3_000):
        answer = status()
        inner = (
            answer,
            answer["session_start_limit"],
            answer["restart"],
            answer["buckets"][0],
            answer["crash_loops"][0],
        )
        for part in dice.sample((*inner, answer["buckets"][0]["first"][0]), dice.randint(1, 3)):
            field = dice.choice(sorted(part))
            part[field] = dice.choice((*NUMBERS, *TEXTS, *OTHER))
        try:
            picture = drawn(answer)
        except ValidationError as error:
            assert wire.why_invalid(error).isprintable()  # noqa: PT017  # it is what is looked at
            continue
        shown += 1
        assert all(row.isprintable() for row in picture.splitlines())
    assert shown > 100


async def test_the_trouble_that_up_shows():
    said: list[str] = []
    answer = {
        "window_ms": 5_000,
        "session_start_limit": {},
        "leader": "pod-0",
        "trouble": HOSTILE.replace("\ud800", ""),
    }
    info = wire.Info.model_validate_json(json.dumps(answer))

    async def until_known(_condition, **_options):
        return info

    cluster: Any = SimpleNamespace(until_known=until_known)
    await _until_ready(cluster, "identify", said.append)
    assert_plain(said[0], lines=2)


def test_the_last_lines_of_a_child():
    died = ChildDiedError("the coordinator", 1, [HOSTILE.replace("\n", " "), "ends"])
    assert_plain(f"{died}", lines=3)


async def test_events_of_anybody_leave_the_demo_watching():
    board = Board(2, 1, started_ns=0)
    watch = Watch(board)
    garbage = (b"", b"{", b"\xff", b"[]", b"null", b"[" * 100_000, b"9" * 10_000, b'{"shard_id": [1]}')
    numbers = tuple(json.dumps({"shard_id": number}).encode() for number in (*NUMBERS, *TEXTS, *OTHER))
    for data in (*garbage, *numbers):
        for name in ("queued", "granted", HOSTILE):
            event: Any = SimpleNamespace(subject=f"identify.event.{name}", data=data)
            await watch._heard(event)
    assert len(board.buckets[0]) == 2


async def test_an_event_has_no_raw_character_that_a_terminal_obeys():
    sent: list[bytes] = []
    traffic: Any = SimpleNamespace(
        can_send=True, new_inbox=lambda: "in", publish_now=lambda _to, payload, **_: sent.append(payload)
    )
    nothing: Any = None
    log = make_log("error", "json")
    publisher = Publisher(
        traffic, wire.Subjects(), nothing, metrics=Metrics(), recent=Recent(), log=log, clock=lambda: 1
    )
    for client in ("pod-1", "\x9b2J\u202e"):
        publisher.publish_event(Event("queued", {"shard_id": 1, "bucket": 0, "request_id": "a", "client": client}))
        assert sent[-1].isascii()
        assert json.loads(sent[-1])["client"] == client
