"""When an unanswered or refused request is sent again, and when one is after a reconnect. Chance is put in by hand."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from nats_identify.client.absence import PROBE_MAX_NS, PROBE_NS, Absence
from nats_identify.client.requester import (
    PACE_NS,
    SPREAD_MAX_NS,
    Begin,
    Decline,
    Reconnected,
    Requester,
)
from nats_identify.schedule.bucket_queue import EXPIRY_MIN_NS
from nats_identify.schedule.model import MS, SECOND, Code
from tests.unit.shard_in_hand import Shard, half, renewals, requests

FLEET = 100_000
BUCKETS = 16


def lowest() -> float:
    return 0.0


def highest() -> float:
    return 1.0


def waits_s(shard: Shard, count: int) -> list[float]:
    """The pauses before the next sendings, while no reply comes."""
    sent_ns: list[int] = [shard.now_ns]
    while len(sent_ns) <= count:
        deadline_ns = shard.requester.next_deadline_ns()
        assert deadline_ns is not None
        if renewals(shard.pass_ms((deadline_ns - shard.now_ns) / MS)):
            sent_ns.append(shard.now_ns)
    return [(later - earlier) / SECOND for earlier, later in pairwise(sent_ns)]


# --- no answer


def test_the_bound_of_an_unanswered_request_doubles_up_to_a_minute():
    shard = Shard(jitter=highest)
    shard.begin()
    assert waits_s(shard, 8) == [2, 4, 8, 16, 32, 60, 60, 60]


def test_each_wait_is_drawn_from_a_floor_to_the_bound():
    shard = Shard(jitter=lowest)
    shard.begin()
    assert waits_s(shard, 8) == [1.0] * 8
    chance = random.Random(1).random
    drawn = []
    for _ in range(200):
        shard = Shard(jitter=chance)
        shard.begin()
        drawn.append(waits_s(shard, 4)[3])
    assert 1 <= min(drawn) < 3
    assert 15 < max(drawn) <= 16
    assert 7.5 <= sum(drawn) / len(drawn) <= 9.5  # the middle is 8.5 s


@pytest.mark.parametrize("pace_ns", [PACE_NS, 400 * MS])
def test_the_first_bound_is_the_pace_of_the_queue(pace_ns):
    shard = Shard(jitter=highest, pace_ns=pace_ns)
    shard.begin()
    assert waits_s(shard, 2) == [pace_ns / SECOND, 2 * pace_ns / SECOND]


def test_a_told_pace_is_kept_first_and_then_one_lost_message_is_repeated_soon():
    shard = Shard(jitter=highest)
    shard.begin()
    shard.queued(renew_in_ms=30_000)
    assert waits_s(shard, 4) == [30, 2, 4, 8]


@pytest.mark.parametrize("reply", ["queued", "refused", "granted"])
def test_the_first_answer_ends_the_backoff(reply):
    shard = Shard(jitter=highest)
    shard.begin()
    waits_s(shard, 7)
    if reply == "queued":
        shard.queued(renew_in_ms=2_000)
        assert waits_s(shard, 2) == [2, 2]
    elif reply == "refused":
        shard.refused(Code.OVERLOADED, retry_after_ms=5_000)
        assert waits_s(shard, 2) == [10, 2]
    else:
        shard.granted(renewal=7)
        shard.tell(Decline(goes_on=True))
        assert waits_s(shard, 1) == [2]


@pytest.mark.parametrize("told_ms", [0, 400, 2_000, 4_000, 10_000, 30_000, 60_000])
def test_one_that_is_queued_backs_off_no_further_than_two_in_the_time_of_its_expiry(told_ms):
    """A coordinator that receives the renewals, and whose replies are lost, keeps the request in its queue."""
    shard = Shard(jitter=highest)
    shard.begin()
    shard.queued(renew_in_ms=told_ms)
    expires_after_s = max(3 * told_ms / 1_000, EXPIRY_MIN_NS / SECOND)
    assert max(waits_s(shard, 12)[1:]) == min(expires_after_s / 2, 60)


def test_one_that_was_refused_is_in_no_queue_and_backs_off_to_a_minute():
    shard = Shard(jitter=highest)
    shard.begin()
    shard.queued(renew_in_ms=2_000)
    shard.refused(Code.OVERLOADED, retry_after_ms=5_000)
    assert max(waits_s(shard, 8)) == 60


def test_a_crowd_that_is_not_answered_sends_less_and_less():
    chance = random.Random(2).random
    sent = Counter[int]()
    for _ in range(1_000):
        shard = Shard(jitter=chance)
        began_ns = shard.now_ns
        shard.begin()
        while shard.now_ns < began_ns + 300 * SECOND:
            waits_s(shard, 1)
            sent[(shard.now_ns - began_ns) // (60 * SECOND)] += 1
    assert sent[0] > sent[1] > 1_000
    assert max(sent[minute] for minute in (2, 3, 4)) <= 2_200  # half a minute each, where it was 2 s: 27,000
    assert sent[0] <= 8_000


# --- refused


def test_a_refused_request_waits_as_told_and_longer_with_each_refusal():
    shards = {chance: Shard(jitter=chance) for chance in (lowest, highest)}
    waits: dict[str, list[float]] = {}
    for chance, shard in shards.items():
        shard.begin()
        for _ in range(5):
            shard.refused(Code.OVERLOADED, retry_after_ms=5_000)
            waits.setdefault(chance.__name__, []).extend(waits_s(shard, 1))
    assert waits == {"lowest": [5] * 5, "highest": [10, 20, 40, 60, 60]}


def test_a_place_in_the_queue_ends_the_row_of_refusals():
    shard = Shard(jitter=highest)
    shard.begin()
    for _ in range(3):
        shard.refused(Code.OVERLOADED, retry_after_ms=5_000)
    shard.queued()
    shard.refused(Code.OVERLOADED, retry_after_ms=5_000)
    assert waits_s(shard, 1) == [10]


def test_what_a_refused_request_has_waited_counts_on():
    shard = Shard()
    shard.begin()
    waited_ms = []
    for _ in range(3):
        shard.refused(Code.OVERLOADED, retry_after_ms=5_000)
        waited_ms += [request.waited_ms for request in requests(shard.pass_ms(7_500))[:1]]
        shard.pass_ms(60_000)
    assert waited_ms[0] == 7_500
    assert waited_ms == sorted(set(waited_ms))
    shard.refused(Code.OVERLOADED, retry_after_ms=60_000)
    assert requests(shard.pass_ms(72_000))[0].waited_ms > 200_000


# --- after a reconnect


def reconnected_after_ns(position: int | None, chance: float, *, waited_ns: int = 0) -> int:
    """How long a request waits after a reconnect until it renews."""
    shard = Shard(jitter=highest, max_concurrency=BUCKETS)
    shard.begin()
    if position is None:
        shard.pass_ms(63_000)  # the next renewal is a minute away
    else:
        shard.queued(position=position, renew_in_ms=60_000, max_concurrency=BUCKETS)
    began_ns = shard.now_ns
    if renewals(shard.tell(Reconnected(chance, waited_ns))):
        return 0
    return (shard.requester.next_deadline_ns() or 0) - began_ns


def test_the_head_renews_at_once_after_a_reconnect_and_the_others_by_their_places():
    for chance in (0, 0.5, 1):
        assert reconnected_after_ns(1, chance) == 0
    assert reconnected_after_ns(2, 1) == 800_000  # sixteen steps of 50 µs: one for each bucket
    assert reconnected_after_ns(2, 0) == 400_000
    after_ns = [reconnected_after_ns(position, 0.5) for position in (1, 2, 10, 100, 1_000, 6_000)]
    assert after_ns == sorted(after_ns)
    assert reconnected_after_ns(10_000, 1) == SPREAD_MAX_NS
    assert reconnected_after_ns(10**9, 0) == SPREAD_MAX_NS // 2


def test_a_fleet_returns_over_seconds():
    chance = random.Random(3).random
    per_bucket = FLEET // BUCKETS
    positions = range(1, per_bucket, 3)  # each third, of each bucket the same
    after_ns = [reconnected_after_ns(position, chance()) for position in positions]
    in_tenths = Counter(wait_ns // (100 * MS) for wait_ns in after_ns)
    share = max(in_tenths.values()) / len(after_ns)
    assert share <= 1 / 20  # in a tenth of a second; it was the whole fleet
    assert max(after_ns) <= SPREAD_MAX_NS


def test_those_that_were_never_answered_return_within_the_time_that_they_have_waited():
    assert reconnected_after_ns(None, 1, waited_ns=100 * SECOND) == SPREAD_MAX_NS
    assert reconnected_after_ns(None, 0.5, waited_ns=100 * SECOND) == SPREAD_MAX_NS // 2
    assert reconnected_after_ns(None, 1, waited_ns=40 * MS) == 40 * MS  # the first connection of a bot
    assert reconnected_after_ns(None, 0, waited_ns=100 * SECOND) == 0


def test_a_request_is_unplaced_from_its_first_sending_to_its_place_in_a_queue():
    shard = Shard()
    assert shard.requester.unplaced_since_ns is None
    shard.begin()
    began_ns = shard.now_ns
    shard.pass_ms(3_000)
    assert shard.requester.unplaced_since_ns == began_ns
    shard.queued()
    assert shard.requester.unplaced_since_ns is None
    shard.refused(Code.OVERLOADED)
    assert shard.requester.unplaced_since_ns == began_ns


def test_a_reconnect_ends_the_backoff():
    shard = Shard(jitter=highest)
    shard.begin()
    waits_s(shard, 7)
    shard.tell(Reconnected(1, 100 * SECOND))
    assert waits_s(shard, 4) == [5, 2, 4, 8]


def test_a_connection_that_is_lost_again_and_again_does_not_put_off_a_renewal():
    shard = Shard(jitter=highest)
    shard.begin()
    shard.queued(position=10**6, renew_in_ms=60_000)
    sent = []
    for _ in range(8):
        shard.tell(Reconnected(1))
        sent += renewals(shard.pass_ms(1_000))
    assert sent[:1] == [1]


def test_a_reconnect_is_nothing_to_a_request_that_has_not_begun():
    requester = Requester(0, "r", jitter=half)
    assert requester.handle(Reconnected(), 0) == []
    assert requester.handle(Begin(pause_ns=SECOND), 0) == []
    requester.handle(Reconnected(), 1)
    assert requester.next_deadline_ns() == SECOND


# --- no coordinator is connected


def test_probes_are_sent_while_none_is_connected_and_only_then():
    absence = Absence(highest)
    assert not absence.is_due(10**15)
    absence.no_responders(0)
    absence.no_responders(SECOND)  # a second 503 puts nothing off
    assert absence.probe_at_ns == PROBE_NS
    assert not absence.is_due(PROBE_NS - 1)
    assert absence.is_due(PROBE_NS)
    assert not absence.is_due(PROBE_NS)
    assert absence.probe_at_ns == 2 * PROBE_NS


def test_a_fleet_does_not_probe_in_step():
    absences = [Absence(chance) for chance in (lowest, half, highest)]
    for absence in absences:
        absence.no_responders(0)
    assert [absence.probe_at_ns for absence in absences] == [PROBE_NS // 2, PROBE_NS * 3 // 4, PROBE_NS]


def test_the_end_of_an_absence_is_reported_once():
    for name in ("probe_answered", "request_answered"):
        absence = Absence(half)
        assert not getattr(absence, name)()
        absence.no_responders(0)
        assert getattr(absence, name)()
        assert not getattr(absence, name)()
        assert absence.probe_at_ns is None


def test_probes_back_off_where_they_are_answered_and_requests_are_not():
    absence = Absence(highest)
    pauses_ns = []
    for _ in range(8):
        absence.no_responders(0)
        pauses_ns.append(absence.probe_at_ns or 0)
        absence.probe_answered()
    assert [pause_ns // SECOND for pause_ns in pauses_ns] == [2, 4, 8, 16, 32, 60, 60, 60]
    assert pauses_ns[-1] == PROBE_MAX_NS
    absence.request_answered()
    absence.no_responders(0)
    assert absence.probe_at_ns == PROBE_NS
