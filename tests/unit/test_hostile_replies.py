"""What a forged or broken reply can do to a shard: at most delay it within bounds, never crash, flood or hurry it."""

import json
import random

import pytest
from pydantic import ValidationError

from nats_identify import wire
from nats_identify.client.requester import (
    SENDINGS_MAX,
    USE_WITHIN_MAX_NS,
    Begin,
    DeliverGrant,
    Received,
    Requester,
    SendRequest,
    State,
    Tick,
)
from nats_identify.schedule.model import MS, SECOND
from nats_identify.schedule.timers import SPARE_MAX, TimerKind, Timers
from tests.unit.shard_in_hand import half

NAME = "r1"
IDS = {"shard_id": 5, "bucket": 1, "request_id": NAME}
QUEUED = {
    "status": "queued",
    **IDS,
    "position": 2,
    "eta_ms": 20_000,
    "renew_in_ms": 10_000,
    "reason": "window",
    "max_concurrency": 4,
}
GRANTED = {
    "status": "granted",
    **IDS,
    "grant_id": "g1",
    "renewal": 0,
    "use_within_ms": 5_000,
    "waited_ms": 0,
    "remaining": 9,
    "max_concurrency": 4,
}
REFUSED = {"status": "refused", "code": "overloaded", "message": "why", "request_id": NAME}


def begun():
    requester = Requester(5, NAME, jitter=half, max_concurrency=4)
    requester.handle(Begin(), 0)
    return requester


def decoded(reply, **fields):
    return wire.decode_reply(json.dumps({**reply, **fields}).encode())


@pytest.mark.parametrize(
    ("reply", "fields"),
    [
        (QUEUED, {"renew_in_ms": -1}),
        (QUEUED, {"renew_in_ms": 10**400}),
        (QUEUED, {"eta_ms": -(2**60)}),
        (QUEUED, {"eta_ms": 10**400}),
        (QUEUED, {"position": 0}),
        (QUEUED, {"max_concurrency": -5}),
        (QUEUED, {"max_concurrency": 2**60}),
        (GRANTED, {"max_concurrency": 0}),
        (GRANTED, {"max_concurrency": 2**60}),
        (GRANTED, {"use_within_ms": 10**400}),
        (GRANTED, {"use_within_ms": -1}),
        (GRANTED, {"grant_id": "a.b\r\nPUB x 0"}),
        (GRANTED, {"remaining": -1}),
        (REFUSED, {"retry_after_ms": -1}),
        (REFUSED, {"retry_after_ms": 10**400}),
        (REFUSED, {"message": "x" * 5_000}),
        (REFUSED, {"max_concurrency": 2**60}),
    ],
)
def test_a_number_that_cannot_be_is_no_reply(reply, fields):
    decoded(reply)
    with pytest.raises(ValidationError):
        decoded(reply, **fields)


@pytest.mark.parametrize("fields", [{"shard_id": 9}, {"bucket": 2}, {"max_concurrency": 3}])
def test_a_grant_that_is_not_this_shards_is_dropped(fields):
    requester = begun()
    assert requester.handle(Received(decoded(GRANTED, **fields), "to"), 1) == []
    assert requester.state is State.ASKING
    (handed,) = requester.handle(Received(decoded(GRANTED), "to"), 2)
    assert isinstance(handed, DeliverGrant)


def test_a_grant_is_never_usable_for_longer_than_the_longest_setting():
    (handed,) = begun().handle(Received(decoded(GRANTED, use_within_ms=2**50), "to"), 1)
    assert isinstance(handed, DeliverGrant)
    assert handed.use_by_ns == USE_WITHIN_MAX_NS


def sent_within(requester, reply_to_each, duration_ns):
    """Answer each request at once; return how many were sent."""
    sent, now_ns = 1, 0
    actions = requester.handle(Received(reply_to_each(sent), "to"), now_ns)
    while True:
        if any(isinstance(action, SendRequest) for action in actions):
            sent += 1
            actions = requester.handle(Received(reply_to_each(sent), "to"), now_ns)
            continue
        deadline_ns = requester.next_deadline_ns()
        if deadline_ns is None or deadline_ns > duration_ns:
            return sent
        assert deadline_ns > now_ns, "a deadline in the past would block the event loop"
        now_ns = deadline_ns
        actions = requester.handle(Tick(), now_ns)


@pytest.mark.parametrize(
    "reply",
    [
        lambda _: decoded(QUEUED, renew_in_ms=0),
        lambda _: decoded(QUEUED, renew_in_ms=1),
        lambda _: decoded(REFUSED, retry_after_ms=0),
        lambda _: decoded(REFUSED, retry_after_ms=1),
        lambda _: decoded(REFUSED, code="wrong_bucket", max_concurrency=4),
        lambda number: decoded(REFUSED, code="wrong_bucket", max_concurrency=1 + number % 4),
        lambda number: decoded(GRANTED, grant_id=f"g{number}", renewal=0, use_within_ms=0),
    ],
)
def test_no_reply_makes_a_shard_send_without_end(reply):
    seconds = 4
    assert sent_within(begun(), reply, seconds * SECOND) <= SENDINGS_MAX * (seconds + 1)


def test_a_slow_pace_does_not_let_the_request_expire():
    requester = begun()
    requester.handle(Received(decoded(QUEUED, renew_in_ms=2**50), "to"), 0)
    assert (requester.next_deadline_ns() or 0) <= 60 * SECOND
    requester.handle(Received(decoded(REFUSED, retry_after_ms=2**50), "to"), 0)
    assert (requester.next_deadline_ns() or 0) <= 72 * SECOND  # with the jitter of a fifth


NUMBERS = (-(2**63), -5, -1, 0, 1, 2, 3, 4, 5, 1_000, 60_000, 2**31, 2**53, 2**60, 10**400)


def random_reply(dice):
    reply = dict(dice.choice((QUEUED, GRANTED, REFUSED)))
    for field in dice.sample(sorted(reply), dice.randint(0, 3)):
        reply[field] = dice.choice((*NUMBERS, None, "", NAME, "g\x1b[2J\n", [], {}, True, 1.5, "x" * 300))
    if dice.random() < 0.3:
        reply |= {"code": dice.choice(("wrong_bucket", "timeout")), "retry_after_ms": dice.choice(NUMBERS)}
        reply["max_concurrency"] = dice.choice(NUMBERS)
    return json.dumps(reply).encode()


def test_random_replies_neither_raise_nor_flood_nor_hurry():
    dice = random.Random(13)
    requester, now_ns, sent, handed = begun(), 0, 1, 0
    for _ in range(100_000):
        now_ns += dice.randrange(2 * MS)
        actions = requester.handle(Tick(), now_ns)
        try:
            reply = wire.decode_reply(random_reply(dice))
        except ValidationError:
            continue
        finally:
            sent += sum(isinstance(action, SendRequest) for action in actions)
        actions = requester.handle(Received(reply, "to"), now_ns)
        sent += sum(isinstance(action, SendRequest) for action in actions)
        for action in actions:
            if isinstance(action, DeliverGrant):
                handed += 1
                assert (action.grant.shard_id, action.grant.request_id) == (5, NAME)
                assert now_ns <= action.use_by_ns <= now_ns + USE_WITHIN_MAX_NS
                requester = Requester(5, NAME, jitter=half, max_concurrency=4)  # the next one: this turn is used
                requester.handle(Begin(), now_ns)
    assert sent <= SENDINGS_MAX * (now_ns // SECOND + 1) + handed * SENDINGS_MAX
    assert handed > 10


def test_replies_that_replace_alarms_do_not_fill_the_memory():
    alarms = Timers()
    for number in range(100_000):  # each looks a little earlier than the one before
        alarms.at(10**12 - number, TimerKind.REQUEST, f"r{number % 8}")
    assert len(alarms._heap) <= 2 * 8 + SPARE_MAX + 1
    due = [alarms.pop_due(10**12) for _ in range(9)]
    assert [alarm and alarm.key for alarm in due] == ["r7", "r6", "r5", "r4", "r3", "r2", "r1", "r0", None]


@pytest.mark.parametrize("seed", range(4))
def test_alarms_are_due_in_order_whatever_was_replaced_and_dropped_and_what_was_takes_no_room(seed):
    dice, alarms = random.Random(seed), Timers()
    known: dict[tuple[TimerKind, str | int], int] = {}
    for now_ns in range(0, 40_000, 4):
        kind, key = dice.choice([TimerKind.REQUEST, TimerKind.BUCKET]), dice.randrange(200)
        if dice.random() < 0.2:
            alarms.drop(kind, key)
            known.pop((kind, key), None)
        else:
            at_ns = now_ns + dice.randrange(4_000)
            alarms.at(at_ns, kind, key)
            known[kind, key] = min(at_ns, known.get((kind, key), at_ns))
        assert alarms.next_ns() == min(known.values(), default=None)
        while (due := alarms.pop_due(now_ns)) is not None:
            assert known.pop((due.kind, due.key)) == due.at_ns <= now_ns
        assert min(known.values(), default=now_ns + 1) > now_ns
        assert len(alarms._heap) <= 2 * len(known) + SPARE_MAX + 1
