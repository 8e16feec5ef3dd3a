"""`nats-identify top` without a terminal: what its screen knows, shows at each size, and what its keys mean."""

import sys
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from nats_identify.cli.options import CommandError, Where
from nats_identify.cli.top.board import EVENTS_KEPT, GRANT_OPEN_S, Board
from nats_identify.cli.top.dialog import KEYS, Dialog, Do, LookUp, Quit
from nats_identify.cli.top.keyboard import split_keys
from nats_identify.cli.top.picture import draw
from nats_identify.cli.top.run import run_top
from nats_identify.nats_options import NatsOptions
from nats_identify.operator_wire import Command, FullStatus
from nats_identify.reason import Reason


def status(buckets=2, waiting=3, **fields: Any):
    first = [
        {"request_id": "r", "shard_id": number, "priority": 0, "managed": True, "waited_ms": 1, "client": "shards-x"}
        for number in range(20)
    ]
    body = {
        "window_ms": 5000,
        "session_start_limit": {"total": 1000, "remaining": 990, "reset_after_ms": 60_000},
        "name": "pod-1",
        "role": "standby",
        "prefix": "identify",
        "leader": "pod-0",
        "term": 7,
        "reserve": 10,
        "waiting": waiting * buckets,
        "max_concurrency": buckets,
        "buckets": [
            {"bucket": number, "waiting": waiting, "next_release_ms": 2400, "reason": "window", "first": first}
            for number in range(buckets)
        ],
        "busiest": [{"client": "shards-3", "new_requests": 1, "messages": 120, "over_ms": 10_000}],
    }
    return FullStatus.model_validate({**body, **fields}, strict=False)


def picture(board, columns=80, lines=24, line=KEYS, **more: Any):
    console = Console(width=columns, height=lines, file=StringIO(), force_terminal=True, record=True)
    options = {"is_question": False, "at": "16:00:00 UTC", "now_s": 10.0, **more}
    console.print(draw(board, line, columns=columns, lines=lines, **options))
    return console.export_text()


@pytest.fixture
def board():
    board = Board(0.0)
    board.answered(status(), 10.0)
    return board


@pytest.mark.parametrize("columns", [80, 100, 110, 200])
@pytest.mark.parametrize("lines", [10, 24, 60])
@pytest.mark.parametrize("buckets", [1, 2, 16, 300])
def test_it_fits_every_screen(columns, lines, buckets):
    board = Board(0.0)
    board.answered(status(buckets), 10.0)
    for number in range(EVENTS_KEPT):
        board.happened("refused", {"at": "x" * 500, "shard_id": number, "why": "y" * 500}, 10.0)
    shown = picture(board, columns, lines).splitlines()
    assert len(shown) <= lines
    assert max(map(len, shown)) <= columns
    assert shown[-1].startswith(KEYS)


def test_it_shows_what_an_operator_looks_for(board):
    board.happened("granted", {"at": "2026-11-27T16:02:03Z", "shard_id": 4, "bucket": 0}, 10.0)
    shown = picture(board)
    for text in ("pod-0 leads, term 7", "asked pod-1", "990 of 1000 starts left", "next day in 0:01:00"):
        assert text in shown
    for text in (
        "0 identified, 6 wait",
        "1 grant in 10 s",
        "2.4 s",
        "0 (shards-x)  1 (shards-x)",
        "messages in 10.0 s: shards-3 120",
    ):
        assert text in shown
    assert "granted       shard 4 bucket 0" in shown


def test_a_client_that_asks_and_withdraws_in_a_loop_pushes_no_other_event_out(board):
    board.happened("leader", {"at": "2026-11-27T16:02:03Z", "leader": "pod-0", "term": 7}, 10.0)
    for _ in range(EVENTS_KEPT):
        board.happened("queued", {"at": "2026-11-27T16:02:04Z", "shard_id": 30}, 10.0)
        board.happened("cancelled", {"at": "2026-11-27T16:02:04Z", "shard_id": 30}, 10.0)
    assert "16:02:03  leader" in picture(board)


def test_under_a_pause_the_next_turn_of_a_bucket_comes_at_its_end():
    whole = status(1, paused={"left_ms": 545_000})
    paused = [bucket.model_copy(update={"reason": Reason.PAUSED}) for bucket in whole.buckets]
    board = Board(0.0)
    board.answered(whole.model_copy(update={"buckets": paused}), 10.0)
    assert "0        3   0:09:05  pause" in picture(board)


def test_many_buckets_show_those_in_which_shards_wait():
    whole = status(300, waiting=0)
    busy = [bucket.model_copy(update={"waiting": 5}) if bucket.bucket == 290 else bucket for bucket in whole.buckets]
    board = Board(0.0)
    board.answered(whole.model_copy(update={"buckets": busy, "waiting": 5}), 10.0)
    shown = picture(board)
    assert "   290        5" in shown
    assert "more buckets, in which 0 wait" in shown


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"leader": None}, "NO LEADER"),
        ({"trouble": "it refuses the token"}, "no figures from Discord: it refuses the token"),
        ({"paused": {"by": "al\x1b[31m", "why": "deploy", "left_ms": 5000}}, "PAUSED by al\\x1b[31m: every request"),
        ({"session_start_limit": {}}, "day    not known"),
        (
            {"held_back": 1, "crash_loops": [{"request_id": "r", "shard_id": 7, "opens_in_ms": 1}]},
            "crash loops: 1 held back: shard 7",
        ),
    ],
)
def test_trouble_is_seen(fields, said):
    board = Board(0.0)
    board.answered(status(**fields), 10.0)
    assert said in picture(board)


def test_old_figures_are_named_so(board):
    board.failed("no coordinator answers")
    assert "the figures are 5.0 s old: no coordinator answers" in picture(board, now_s=15.0)


def test_text_from_outside_is_escaped(board):
    board.happened("x\x1b[2J", {"at": "\x1b]0;t", "shard_id": 1, "client": "\x9b31m\u202e", "k\n": ["\x07"]}, 10.0)
    shown = picture(board)
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(shown)
    assert "\\x1b[2J" in shown


def test_a_start_is_counted_until_nothing_waits(board):
    for name, shard in (("granted", 0), ("identified", 0), ("ready", 0), ("granted", 1), ("identified", 1)):
        board.happened(name, {"shard_id": shard}, 11.0)
    assert (board.identified, board.ready, board.identified_of(1)) == ({0, 1}, {0}, 1)
    board.happened("rejected", {"shard_id": 1}, 11.0)
    assert board.identified == {0}
    board.answered(status(waiting=0), 12.0)
    assert board.identified == {0}  # it stays on the screen until the next start
    board.happened("queued", {"shard_id": 5}, 13.0)
    assert board.identified == set()


@pytest.mark.parametrize(("ends_by", "at_s"), [("released", 20.0), ("declined", 20.0), (None, 10.0 + GRANT_OPEN_S)])
def test_a_start_ends_though_a_grant_is_never_confirmed(board, ends_by, at_s):
    board.happened("granted", {"shard_id": 4}, 10.0)
    board.happened("ready", {"shard_id": 5}, 10.0)
    board.answered(status(waiting=0), 10.0)
    if ends_by:
        board.happened(ends_by, {"shard_id": 4}, at_s)
    board.happened("queued", {"shard_id": 6}, 10.0)
    assert board.ready == {5}, "the grant of shard 4 is open: this is the same start"
    board.answered(status(waiting=0), at_s)
    board.happened("queued", {"shard_id": 6}, at_s)
    assert board.ready == set()


def test_a_flood_of_grants_is_bounded(board, monkeypatch):
    monkeypatch.setattr("nats_identify.cli.top.board.SHARDS_KEPT", 3)
    for shard_id in range(9):
        board.happened("granted", {"shard_id": shard_id}, 10.0)
    assert len(board._granted_at_s) == 3
    for shard_id in range(9):
        board.happened("ready", {"shard_id": shard_id}, 10.0)
    assert board.ready == {0, 1, 2}
    board.answered(status(waiting=0), 10.0)
    board.happened("granted", {"shard_id": 7}, 10.0)
    board.happened("ready", {"shard_id": 7}, 10.0)
    assert board.ready == {7}, "the next start is counted"


def test_the_rate_is_of_the_last_minute(board):
    for second in range(100):
        board.happened("granted", {"shard_id": 1}, float(second))
    assert board.rate(99.0) == (61, 60.0)


@pytest.mark.parametrize("fields", [{"shard_id": True}, {"shard_id": "1"}, {"shard_id": None}, {"shard_id": [1]}, {}])
def test_an_event_of_no_shard_is_shown_and_not_counted(board, fields):
    board.happened("identified", fields, 11.0)
    assert (len(board.events), len(board.identified)) == (1, 0)


def press(dialog, keys, *, is_paused=False):
    return [act for key in keys if (act := dialog.press(key, is_paused=is_paused)) is not None]


@pytest.mark.parametrize(("keys", "acts"), [("q", [Quit()]), ("Q", [Quit()]), ("x\x1b\r", []), ("pn", []), ("pq", [])])
def test_keys(keys, acts):
    assert press(Dialog(), keys) == acts


def test_a_pause_is_asked_for_and_so_is_its_end():
    dialog = Dialog()
    assert press(dialog, "p") == []
    assert (dialog.is_open, dialog.line) == (True, "Pause: grant no turn until resume? [y/N]")
    assert press(dialog, "y") == [Do(Command.PAUSE)]
    assert press(dialog, "py", is_paused=True) == [Do(Command.RESUME)]


async def test_without_a_standard_input_it_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandError, match="top needs a terminal"):
        await run_top(Where(NatsOptions.of("nats://127.0.0.1:1"), "identify"), Console(force_terminal=True))


def test_a_kick_looks_up_first_and_asks_then():
    dialog = Dialog()
    assert press(dialog, "k1x27\x7f\r") == [LookUp(12)]
    dialog.found(12, ["shard 12 (pod-12), position 3, waiting 1.0 s"], ("abc",))
    assert dialog.line == "Kick shard 12 (pod-12), position 3, waiting 1.0 s? [y/N]"
    assert press(dialog, "y") == [Do(Command.KICK, ("abc",))]
    dialog.found(12, ["", ""], ("abc", "abd"))
    assert dialog.line == "Kick all 2 requests of shard 12? [y/N]"
    dialog.found(12, ["", ""], ("abc", "abd"), left_out=3)
    assert dialog.line == "Kick 2 of the 5 requests of shard 12? [y/N]"
    assert press(dialog, "\r") == []
    assert dialog.line == "nothing was done"


def test_a_kick_of_a_shard_that_does_not_wait_says_so():
    dialog = Dialog()
    press(dialog, "k7\r")
    dialog.found(7, [], ())
    assert (dialog.is_open, dialog.line) == (False, "shard 7 has no waiting request")


@pytest.mark.parametrize(
    ("data", "keys"),
    [(b"k17\r", ["k", "1", "7", "\r"]), (b"\x1b", ["\x1b"]), (b"\x1b[A", []), (b"\xff", []), (b"", [])],
)
def test_sequences_of_other_keys_are_dropped(data, keys):
    assert split_keys(data) == keys
