"""What the page is given of a replica: bounded, in plain values, the same as a shard's own reply."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic_core import to_json

from coordinator.edge import page
from coordinator.edge.busiest import Busiest
from coordinator.edge.recent import EVENTS_PER_NAME, EVENTS_SHOWN, MINUTE_MS, MINUTES_KEPT, Recent
from nats_identify.operator_wire import PAGE_MAX, StatusQuery
from nats_identify.schedule import model
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import DAY, SECOND
from tests.unit.desk import Desk, replies

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e"
ALIASES = page.Aliases(b"key")
AT_MS = 1_700_000_000_000


def replica_of(desk) -> Any:
    """A replica that leads with this schedule."""
    ledger = SimpleNamespace(leader="pod-0", term=7)
    return SimpleNamespace(
        schedule=desk.schedule,
        settings=SimpleNamespace(name="pod-0", prefix="identify"),
        role=SimpleNamespace(value="leader"),
        is_leading=lambda _now_ns: True,
        view=SimpleNamespace(ledger=ledger),
    )


def picture_of(desk, recent=None, busiest=None, **more):
    """What the page shows of it."""
    limits = SimpleNamespace(shards=None, trouble=None)
    given: Any = {"limits": limits, "version": "1", "trouble": None, "aliases": ALIASES, **more}
    made = page.picture(replica_of(desk), recent or Recent(), busiest or Busiest(0), desk.now_ns, AT_MS, **given)
    json.dumps(made)  # plain values alone
    return made


async def find(desk, **query):
    return await page.find(replica_of(desk), lambda: desk.now_ns, ALIASES, StatusQuery(limit=PAGE_MAX, **query))


def crowded(buckets, each):
    """A desk whose every bucket has granted one shard, and has so many that wait."""
    desk = Desk(buckets)
    for shard_id in range(buckets * (each + 1)):
        desk.ask(shard_id, client=f"pod-{shard_id}")
    return desk


def test_a_bucket_shows_who_holds_it_and_who_is_next():
    desk = crowded(1, 3)
    (bucket,) = picture_of(desk)["buckets"]
    assert [grant["shard_id"] for grant in bucket["grants"]] == [0]
    assert bucket["grants"][0]["state"] == "unconfirmed"
    assert [request["shard_id"] for request in bucket["first"]] == [1, 2, 3]
    hold_ms = 5200
    assert [request["eta_ms"] for request in bucket["first"]] == [10_200 + hold_ms * turn for turn in range(3)]
    assert bucket["last_eta_ms"] == 10_200 + hold_ms * 2
    assert {request["reason"] for request in bucket["first"]} == {"window"}


def test_a_confirmed_grant_says_when_its_bucket_opens():
    desk = crowded(1, 1)
    (granted,) = replies(desk.said)
    desk.answer(granted.grant_id, after_ms=300)
    desk.pass_ms(1000)
    (grant,) = picture_of(desk)["buckets"][0]["grants"]
    assert (grant["state"], grant["identified_ms_ago"], grant["opens_in_ms"]) == ("identified", 1000, 4200)
    assert grant["granted_ms_ago"] == 1300


async def test_why_a_shard_waits_is_found_with_those_before_it():
    desk = crowded(4, 15)
    found = await find(desk, shard_id=57)
    (request,) = found["requests"]
    assert (request["bucket"], request["position"], request["ahead_count"]) == (1, 14, 13)
    assert [one["shard_id"] for one in request["ahead"]] == [17, 21, 25, 29, 33, 37, 41, 45, 49, 53]
    assert (request["reason"], request["client"]) == ("window", "pod-57")
    assert (await find(desk, shard_id=1))["grants"][0]["state"] == "unconfirmed"
    assert (await find(desk, shard_id=999)) == {"requests": [], "requests_total": 0, "grants": []}


async def test_a_client_is_found_in_all_buckets():
    desk = Desk(4)
    for shard_id in range(16):
        desk.ask(shard_id, client=f"pod-{shard_id % 2}")
    found = await find(desk, client="pod-1")
    assert [request["shard_id"] for request in found["requests"]] == [1, 3, 5, 9, 13, 7, 11, 15]  # granted ones first
    assert [grant["shard_id"] for grant in found["grants"]] == [1, 3]
    assert found["requests_total"] == 8


async def test_a_search_is_bounded():
    desk = Desk(1, max_waiting=1000)
    for number in range(300):
        desk.ask(0, request_id=f"r{number}", client="pod")
    found = await find(desk, client="pod")
    assert (found["requests_total"], len(found["requests"])) == (300, PAGE_MAX)


def test_many_buckets_are_summed_up_and_the_fullest_are_shown():
    desk = Desk(4096, total=100_000, max_waiting=10_000)
    for shard_id in [*range(4096), *range(4096, 4096 + 100), *[4000 + 4096 * turn for turn in range(1, 6)]]:
        desk.ask(shard_id)
    made = picture_of(desk)
    shown = [bucket["bucket"] for bucket in made["buckets"]]
    assert len(shown) == page.BUCKETS_SHOWN
    assert 4000 in shown
    assert shown == sorted(shown)
    assert made["other_buckets"] == 4096 - page.BUCKETS_SHOWN
    assert sum(bucket["waiting"] for bucket in made["buckets"]) + made["other_waiting"] == made["waiting"] == 105


@pytest.mark.parametrize("buckets", [1, 16, 4096])
def test_a_picture_is_bounded(buckets):
    desk = Desk(buckets, total=100_000, max_waiting=10_000)
    for shard_id in range(buckets + 2000):
        desk.ask(shard_id, client="\U0001f600" * 32)
    assert len(to_json(picture_of(desk))) < 150_000
    assert sum(len(bucket["first"]) for bucket in picture_of(desk)["buckets"]) <= page.FIRST_IN_ALL


def test_text_from_outside_is_printable():
    desk = Desk(1)
    recent = Recent()
    desk.ask(0, client=HOSTILE)
    desk.ask(1, client=HOSTILE)
    recent.add("refused", {"message": HOSTILE, "shard_id": 1}, AT_MS)
    texts = [
        picture_of(desk)["buckets"][0]["first"][0]["client"],
        page.events(ALIASES, recent.after(0))[0]["fields"]["message"],
    ]
    assert texts == [r"<img src=x onerror=alert(1)>\x1b[31m\u202e"] * 2


async def test_a_crash_loop_is_listed_and_found():
    desk = Desk(1, guard=CrashLoopGuard(2, 3600 * SECOND))
    for number in range(3):
        desk.ask(0, request_id=f"r{number}", client="pod-0", after_ms=11_000)
        if number < 2:
            desk.answer(f"g{number + 1}")
    made = picture_of(desk)
    (loop,) = made["crash_loops"]
    assert (loop["shard_id"], loop["client"], made["held_back"]) == (0, "pod-0", 1)
    assert (await find(desk, shard_id=0))["requests"][0]["reason"] == "crash_loop"


def test_an_unknown_day_is_said_to_be_unknown():
    desk = Desk(1, total=None)
    desk.ask(0)
    made = picture_of(desk)
    assert made["session_start_limit"] == {"total": None, "remaining": None, "reset_after_ms": None}
    (request,) = made["buckets"][0]["first"]
    assert (request["eta_ms"], request["reason"]) == (None, "limits_unknown")


def test_the_busiest_clients_are_named():
    desk = Desk(1)
    busiest = Busiest(desk.now_ns)
    for client in ("pod-1", HOSTILE, HOSTILE):
        busiest.message(client, desk.now_ns)
    busiest.new_request(HOSTILE, desk.now_ns)
    first, second = picture_of(desk, busiest=busiest)["busiest"]
    assert (first["client"], first["new_requests"], first["messages"]) == (
        r"<img src=x onerror=alert(1)>\x1b[31m\u202e",
        1,
        2,
    )
    assert second["client"] == "pod-1"


def test_a_spent_day_says_when_it_ends():
    desk = Desk(1, static=False)
    desk.tell(model.LimitsFetchStarted())
    desk.tell(model.LimitsFetched(model.Limits(1, 1000, 0, DAY // 24)))
    desk.ask(0)
    (request,) = picture_of(desk)["buckets"][0]["first"]
    assert (request["eta_ms"], request["reason"]) == (3_600_000, "session_limit")


# --- the recent past


def test_events_of_one_name_do_not_push_out_another():
    recent = Recent()
    recent.add("rejected", {"shard_id": 7}, AT_MS)
    for number in range(10 * EVENTS_PER_NAME):
        recent.add("queued", {"shard_id": number}, AT_MS)
    names = [event.name for event in recent.after(0)]
    assert names == ["rejected", *["queued"] * EVENTS_PER_NAME]
    assert recent.newest == 10 * EVENTS_PER_NAME + 1


def test_only_what_is_newer_is_returned_in_order_and_bounded():
    recent = Recent()
    for number in range(1, 10 * EVENTS_PER_NAME):
        recent.add(f"event-{number % 7}", {}, AT_MS + number)
    assert [event.number for event in recent.after(recent.newest - 3)] == [
        recent.newest - 2,
        recent.newest - 1,
        recent.newest,
    ]
    everything = [event.number for event in recent.after(0)]
    assert everything == sorted(everything)
    assert len(everything) == EVENTS_SHOWN
    assert recent.after(recent.newest) == []


def test_each_minute_is_counted_and_old_ones_are_dropped():
    recent = Recent()
    for minute in range(2 * MINUTES_KEPT):
        for _ in range(3):
            recent.add("granted", {}, AT_MS + minute * MINUTE_MS)
    recent.add("rejected", {}, AT_MS)  # the clock was set back
    assert len(recent.minutes) == MINUTES_KEPT
    newest = AT_MS + (2 * MINUTES_KEPT - 1) * MINUTE_MS
    assert recent.minutes[-1] == (newest - newest % MINUTE_MS, {"granted": 3, "rejected": 1})


def test_a_change_of_the_leader_is_noted_once():
    recent = Recent()
    for leader, term in ((None, 0), ("a", 1), ("a", 1), (None, 1), ("b", 2), ("b", 3)):
        recent.observe_leader(leader, term, AT_MS)
    assert [(change.leader, change.term) for change in recent.leaders] == [("a", 1), (None, 1), ("b", 2), ("b", 3)]
