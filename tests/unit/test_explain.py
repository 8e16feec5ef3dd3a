"""`nats-identify status --shard`: why it waits, and when its turn is, in plain sentences."""

from datetime import UTC, datetime
from typing import Any

import pytest

from nats_identify.cli.explain import explain
from nats_identify.operator_wire import FullStatus, StatusQuery

NOW = datetime(2026, 11, 27, 16, 0, tzinfo=UTC)
BARE = {
    "window_ms": 5000,
    "session_start_limit": {},
    "name": "pod-0",
    "role": "leader",
    "prefix": "identify",
    "waiting": 1,
    "reserve": 10,
    "buckets": [],
    "max_concurrency": 16,
}
REQUEST = {
    "request_id": "abc",
    "shard_id": 17,
    "bucket": 1,
    "client": "shards-17",
    "priority": 0,
    "managed": True,
    "position": 3,
    "eta_ms": 10_400,
    "reason": "window",
    "waited_ms": 65_000,
    "renewed_ms_ago": 1200,
}
GRANT = {
    "grant_id": "g-1",
    "request_id": "abc",
    "shard_id": 17,
    "bucket": 1,
    "client": "shards-17",
    "state": "unconfirmed",
    "opens_in_ms": 9000,
    "granted_ms_ago": 1200,
}


def text(query: dict[str, Any] | None = None, **fields: Any) -> str:
    status = FullStatus.model_validate({**BARE, **fields}, strict=False)
    return "\n".join(explain(status, StatusQuery(**(query or {"shard_id": 17})), NOW))


def test_a_request_that_waits_for_its_window():
    ahead = [{"request_id": "a", "shard_id": 1, "client": "shards-1"}, {"request_id": "b", "shard_id": 33}]
    said = text(requests=[{**REQUEST, "ahead_count": 2, "ahead": ahead}], requests_total=1)
    assert said.splitlines() == [
        "Shard 17 (shards-17) waits in bucket 1 at position 3; its turn comes in 10.4 s.",
        "It waits for the window of its bucket and for the 2 requests before it: shard 1 (shards-1), shard 33.",
        "It has waited since 15:58:55 (0:01:05); its last renewal came 1.2 s ago.",
        "Its request is abc, priority 0, managed.",
    ]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"reason": "paused"}, {"paused": {"by": "al", "why": "deploy"}}, "PAUSED by al: every request waits until"),
        ({"reason": "crash_loop"}, {}, "nats-identify pardon 17"),
        ({"reason": "limits_unknown", "eta_ms": None}, {"trouble": "it refuses the token"}, "it refuses the token"),
        ({"reason": "limits_unknown", "eta_ms": None}, {}, "its turn comes at an unknown time"),
        ({"reason": "session_limit", "eta_ms": 7_200_000}, {}, "its turn comes in 2:00:00, at 18:00:00."),
        ({"reason": "session_limit", "eta_ms": 28_800_000}, {}, "comes in 8:00:00, at 00:00:00 on 2026-11-28."),
        ({"reason": "session_limit"}, {}, "waits for the next day"),
        ({"ahead_count": 0}, {}, "nothing is before it"),
        ({"ahead_count": 1, "ahead": [{"request_id": "a", "shard_id": 1}]}, {}, "for the request before it: shard 1."),
        (
            {"ahead_count": 9, "ahead": [{"request_id": "a", "shard_id": 1}]},
            {},
            "for the 9 requests before it, the nearest: shard 1.",
        ),
        ({"renewed_ms_ago": 90_000}, {}, "which is late: its process may be gone"),
        ({"renewed_ms_ago": 90_000, "managed": False}, {}, "0:01:30 ago."),
        ({"is_unresponsive": True}, {}, "others pass it until it renews"),
        ({"client": "\x1b[31mx"}, {}, "Shard 17 (\\x1b[31mx) waits"),
        ({"waited_ms": 2**53}, {}, "It has waited since"),
    ],
)
def test_each_reason_says_what_an_operator_needs(change, status, said):
    assert said in text(requests=[{**REQUEST, **change}], requests_total=1, **status)


def test_a_granted_request_is_explained_once():
    said = text(requests=[{**REQUEST, "grant_id": "g-1"}], requests_total=1, grants=[GRANT])
    assert "is granted in bucket 1 and has not confirmed it yet" in said
    assert said.count("grant g-1") == 1
    assert "waits for the window" not in said


@pytest.mark.parametrize(
    ("state", "said"),
    [("unconfirmed", "not confirmed"), ("identified", "has sent IDENTIFY"), ("ready", "is up"), ("new\n", "new\\n")],
)
def test_a_shard_that_does_not_wait_has_its_grant_explained(state, said):
    shown = text(grants=[{**GRANT, "state": state}])
    assert shown.startswith("Shard 17 (shards-17) was granted 1.2 s ago in bucket 1 (grant g-1): ")
    assert said in shown
    assert shown.endswith("the bucket opens in 9.0 s.")


def test_a_shard_without_a_request_says_where_it_may_be():
    said = text()
    assert "Shard 17 has no request here and no live grant" in said
    assert "under another prefix or another NATS address" in said
    assert "Its bucket is 1." in said


def test_many_requests_are_a_line_each_and_the_page_says_how_to_go_on():
    requests = [{**REQUEST, "request_id": f"r{number}"} for number in range(19)]
    requests.insert(0, {**REQUEST, "position": 0, "grant_id": "g-9"})
    lines = text({"bucket": 1}, requests=requests, requests_total=45, next_offset=20).splitlines()
    assert len(lines) == 21
    assert "granted as g-9 and not confirmed yet" in lines[0]
    assert "position 3, turn in 10.4 s, waits for window, renewed 1.2 s ago, request r0" in lines[1]
    assert lines[-1] == "Bucket 1: 20 of 45 requests are shown; go on with --offset 20."


@pytest.mark.parametrize("grants", [[], [GRANT]], ids=["no grant", "a grant"])
@pytest.mark.parametrize(("total", "count"), [(30, "30 requests"), (1, "1 request")])
def test_a_page_beyond_the_last_request_is_no_empty_queue(grants, total, count):
    lines = text({"bucket": 1, "offset": 40}, requests_total=total, grants=grants).splitlines()
    assert len(lines) == len(grants) + 1
    assert lines[-1] == f"Bucket 1 has {count}, and none is at offset 40; begin again with --offset 0."
