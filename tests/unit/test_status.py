"""What `nats-identify status` says of the day: how long, whether it suffices, and who is held back."""

import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from nats_identify.cli.status import draw_status
from nats_identify.operator_wire import FullStatus
from nats_identify.schedule.model import Reason
from nats_identify.wire import BucketStatus, HeldBack, Projection, SessionStartLimit, Status

KNOWN: dict[str, Any] = {
    "window_ms": 5000,
    "leader": "pod-0",
    "term": 7,
    "name": "pod-0",
    "role": "leader",
    "prefix": "identify",
    "session_start_limit": SessionStartLimit(total=1000, remaining=12, reset_after_ms=3_600_000),
    "waiting": 40,
    "reserve": 10,
    "buckets": [],
}


def shown(status):
    console = Console(width=200, record=True, file=StringIO())
    console.print(draw_status(status))
    return console.export_text()


def drawn(**fields):
    return shown(Status(**{**KNOWN, **fields}))


@pytest.mark.parametrize(
    ("projection", "line"),
    [
        (
            Projection(shards=40, all_up_in_ms=52_000, session_starts_short=0),
            "in 0:00:52; today's session starts suffice",
        ),
        (Projection(shards=40, all_up_in_ms=3_700_001, session_starts_short=38), "in 1:01:41; today lacks 38 session"),
        (Projection(shards=40, session_starts_short=3), "at an unknown time; today lacks 3 session starts"),
        (Projection(shards=40, session_starts_short=1), "at an unknown time; today lacks 1 session start\n"),
        (Projection(shards=40), "may identify at an unknown time\n"),
    ],
)
def test_those_who_wait_are_told_when_and_whether_the_day_suffices(projection, line):
    assert line in drawn(projection=projection)


def test_a_restart_is_told_before_it_starts():
    restart = Projection(shards=64, all_up_in_ms=130_000, session_starts_short=0)
    assert "a restart of 64 shards now: all up in 0:02:10; today's session starts suffice" in drawn(restart=restart)


def test_those_that_are_held_back_are_named():
    held_back = [HeldBack(request_id="r", shard_id=7, opens_in_ms=290_500, client="shards-7")]
    text = drawn(held_back=1, crash_loops=held_back)
    assert "1 held back, crash-looping: shard 7 (shards-7) for 0:04:51" in text


def test_what_each_bucket_waits_for_and_who_waits_is_named():
    request = {"request_id": "r", "priority": 0, "managed": True, "waited_ms": 5}
    first = [{**request, "shard_id": 3, "client": "shards-3"}, {**request, "shard_id": 7, "client": "\x1b[31mx"}]
    rest: dict[str, Any] = {"waiting": 2, "next_release_ms": 1500, "first": first}
    buckets = [BucketStatus(bucket=number, reason=reason, **rest) for number, reason in enumerate(Reason)]
    lines = drawn(buckets=buckets).splitlines()[-len(Reason) :]
    assert all(line.endswith("shard 3 (shards-3), shard 7 (\\x1b[31mx)") for line in lines)
    waits_for = ["its window", "the next day", "its crash loop's delay", "Discord's limits", "a pause by an operator"]
    assert [said for said, line in zip(waits_for, lines, strict=True) if said not in line] == []


NEXT_TURNS = {
    "window": "1.5 s",
    "session_limit": "1:00:00",
    "crash_loop": "0:04:51",
    "limits_unknown": "unknown",
    "paused": "0:09:00",
}


@pytest.mark.parametrize(("reason", "next_turn"), NEXT_TURNS.items())
def test_the_next_turn_of_a_bucket_comes_when_what_it_waits_for_is_over(reason, next_turn):
    first = {"request_id": "r", "shard_id": 7, "priority": 0, "managed": True, "waited_ms": 5}
    bucket = {"bucket": 0, "waiting": 1, "next_release_ms": 1500, "reason": reason, "first": [first]}
    held = [HeldBack(request_id=name, shard_id=7, opens_in_ms=ms) for name, ms in (("other", 9), ("r", 290_500))]
    status = FullStatus.model_validate(
        {**KNOWN, "paused": {"left_ms": 540_000}, "crash_loops": held, "buckets": [bucket]}, strict=False
    )
    assert re.split(r" {2,}", shown(status).splitlines()[-1].strip())[2] == next_turn


@pytest.mark.parametrize(("release_ms", "next_turn"), [(0, "open"), (1500, "1.5 s")])
def test_an_empty_bucket_is_open_or_will_be_at_the_end_of_its_window(release_ms, next_turn):
    bucket = BucketStatus(bucket=0, waiting=0, next_release_ms=release_ms, first=[])
    assert drawn(buckets=[bucket]).splitlines()[-1].split()[2:] == next_turn.split()


def test_a_pause_without_an_end_has_no_next_turn():
    bucket = {"bucket": 0, "waiting": 1, "next_release_ms": 0, "reason": "paused", "first": []}
    status = FullStatus.model_validate({**KNOWN, "paused": {"by": "alice"}, "buckets": [bucket]}, strict=False)
    assert "unknown" in shown(status).splitlines()[-1]


def test_a_reason_that_is_newer_than_this_program_is_named_so():
    bucket = BucketStatus.model_validate_json(
        '{"bucket": 0, "waiting": 1, "next_release_ms": 0, "reason": "of next year", "first": []}'
    )
    assert "something that this version does not know: update it" in drawn(buckets=[bucket])


def test_trouble_with_discord_is_shown():
    assert "no figures from Discord: it refuses the token" in drawn(trouble="it refuses the token")


def test_an_older_coordinator_says_less():
    text = drawn()
    assert "40 waiting\n" in text
    assert "restart" not in text
