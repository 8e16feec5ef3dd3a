"""The crash-loop guard: whom it keeps, for how long, what it forgets, and that a successor keeps them too."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.edge.ledger_json import LedgerWriter, decode
from nats_identify.schedule import crash_loop, model
from nats_identify.schedule.crash_loop import CrashLoopGuard, ShardHistory
from nats_identify.schedule.model import DAY, MS, SECOND, Limits, Outcome, Reason
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk, events, granted, replies

MINUTE = 60 * SECOND


def guard_of(*granted_ns, grants=3):
    """A guard whose shard 0 was granted then, each time as soon as it asked and might."""
    guard = CrashLoopGuard(grants)
    for at_ns in granted_ns:
        guard.count(0, at_ns, at_ns)
    return guard


def looping(grants=3, turns=12):
    """When each grant comes to a shard that asks again at once."""
    guard, now_ns, times = CrashLoopGuard(grants), 0, []
    for _ in range(turns):
        asked_ns = now_ns + SECOND
        now_ns = max(asked_ns, guard.opens_at_ns(0, asked_ns, asked_ns))
        guard.count(0, asked_ns, now_ns)
        times.append(now_ns)
    return times


def test_so_many_are_free_and_each_later_one_waits_twice_as_long():
    times = looping(grants=3, turns=10)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[:2] == [SECOND, SECOND]
    assert gaps[2:] == [(5 << strike) * MINUTE for strike in range(7)]


def test_one_that_is_granted_as_often_as_it_may_never_waits():
    guard, every_ns = CrashLoopGuard(10), 361 * SECOND
    for turn in range(200):
        assert guard.opens_at_ns(0, turn * every_ns, turn * every_ns) <= turn * every_ns
        guard.count(0, turn * every_ns, turn * every_ns)
    assert all(history.strikes == 0 for history in guard.ages(200 * every_ns))


def test_one_too_many_in_the_period_waits_even_when_the_period_ends_meanwhile():
    guard = guard_of(0, 1 * MINUTE, 58 * MINUTE)
    assert guard.opens_at_ns(0, 59 * MINUTE, 59 * MINUTE) == 63 * MINUTE
    assert guard.opens_at_ns(0, 59 * MINUTE, 61 * MINUTE) == 63 * MINUTE  # it asked within it, and the word stands
    assert guard.opens_at_ns(0, 61 * MINUTE, 61 * MINUTE) == 0


def test_a_claim_to_have_waited_for_long_gains_nothing():
    guard = guard_of(0, SECOND, 2 * SECOND)
    assert guard.opens_at_ns(0, -DAY, 3 * SECOND) == 2 * SECOND + 5 * MINUTE


def test_another_shard_is_not_concerned():
    assert guard_of(0, 1, 2).opens_at_ns(1, 3, 3) == 0


def test_it_is_forgotten_when_no_more_than_so_many_fell_in_a_day():
    late_ns = DAY - 5 * MINUTE
    guard = guard_of(0, SECOND, 2 * SECOND, 3 * SECOND + 5 * MINUTE, late_ns)
    before_ns, after_ns = DAY - SECOND, DAY + SECOND  # then the first two are a day old, and three are left
    assert guard.opens_at_ns(0, before_ns, before_ns) == DAY + SECOND
    assert guard.opens_at_ns(0, after_ns, after_ns) == 0
    guard.count(0, after_ns, after_ns)
    assert guard.ages(after_ns)[0].strikes == 0


def test_a_wait_ends_at_the_latest_when_all_is_forgotten():
    guard = CrashLoopGuard(3)
    history = ShardHistory(0, 9, (DAY - 40 * SECOND, DAY - 30 * SECOND, DAY - 20 * SECOND, 20 * SECOND))
    guard.restore([history], DAY)  # as ages: granted 40, 30 and 20 s after DAY began, and a moment ago
    assert guard.opens_at_ns(0, DAY, DAY) == DAY + 40 * SECOND


def test_a_turn_that_is_given_back_never_counted():
    guard = guard_of(0, SECOND, 2 * SECOND)
    for round_ns in range(3 * SECOND, 30 * SECOND, SECOND):
        guard.refund(0)
        assert guard.opens_at_ns(0, round_ns, round_ns) == 0
        guard.count(0, round_ns, round_ns)
    assert guard.opens_at_ns(0, 30 * SECOND, 30 * SECOND) == 29 * SECOND + 5 * MINUTE


def test_a_strike_that_is_given_back_is_as_if_it_had_not_been():
    guard = guard_of(0, SECOND, 2 * SECOND)
    opens_ns = guard.opens_at_ns(0, 3 * SECOND, 3 * SECOND)
    guard.count(0, 3 * SECOND, opens_ns)
    guard.refund(0)
    assert guard.opens_at_ns(0, opens_ns + SECOND, opens_ns + SECOND) == opens_ns


def test_0_is_no_guard():
    guard = guard_of(*range(50), grants=0)
    guard.restore([ShardHistory(0, 5, (1, 2, 3))], 100)
    guard.refund(0)
    assert guard.opens_at_ns(0, 100, 100) == 0
    assert guard.ages(100) == ()


def test_a_successor_is_told_of_those_that_may_loop_and_of_no_other():
    guard = CrashLoopGuard(10)
    for shard_id in range(100):
        for turn in range(4):
            guard.count(shard_id, turn, turn)
    assert guard.ages(10) == ()
    guard.count(7, 20, 20)
    assert guard.ages(30) == (ShardHistory(7, 0, (30, 29, 28, 27, 10)),)
    assert guard.ages(3_600 * SECOND + 30) == ()


def test_what_is_remembered_and_told_is_bounded(monkeypatch):
    monkeypatch.setattr(crash_loop, "SHARDS_MAX", 50)
    monkeypatch.setattr(crash_loop, "TOLD_MAX", 20)
    guard = CrashLoopGuard(2)
    for turn in range(10):
        for shard_id in range(200):
            guard.count(shard_id, turn, turn)
    assert len(guard.ages(10)) == 20
    assert all(len(history.granted_ns) <= 4 for history in guard.ages(10))


def test_a_successor_of_a_successor_knows_as_much_and_never_opens_earlier():
    first, second = guard_of(0, SECOND, 2 * SECOND), CrashLoopGuard(3)
    second.restore(first.ages(10 * SECOND), 11 * SECOND)  # seen a second later
    assert second.opens_at_ns(0, 20 * SECOND, 20 * SECOND) == 3 * SECOND + 5 * MINUTE


class Plain:
    """The guard by its definition: every grant that there ever was, looked at again each time."""

    def __init__(self, grants, period_ns):
        self.most, self.period_ns = grants, period_ns
        self.granted, self.strikes = [], 0

    def strikes_now(self, now_ns):
        return self.strikes if sum(at_ns > now_ns - DAY for at_ns in self.granted) > self.most else 0

    def loops(self, asked_ns, now_ns):
        if not self.granted:
            return False
        before_ns = max(asked_ns, self.granted[-1])
        is_full = sum(before_ns - at_ns < self.period_ns for at_ns in self.granted) >= self.most
        return is_full or self.strikes_now(now_ns) > 0

    def opens_at_ns(self, asked_ns, now_ns):
        if not self.loops(asked_ns, now_ns):
            return 0
        opens_ns = self.granted[-1] + (crash_loop.FIRST_WAIT_NS << self.strikes_now(now_ns))
        is_striking = self.strikes_now(now_ns) > 0
        return min(opens_ns, self.granted[-self.most - 1] + DAY) if is_striking else opens_ns

    def count(self, asked_ns, now_ns):
        self.strikes = self.strikes_now(now_ns) + 1 if self.loops(asked_ns, now_ns) else 0
        self.granted.append(now_ns)


@settings(deadline=None)  # a busy machine is no failure
@given(
    grants=st.integers(1, 4),
    period_s=st.integers(1, 7_200),
    steps=st.lists(st.tuples(st.integers(0, 40_000), st.booleans(), st.booleans(), st.booleans()), max_size=60),
)
def test_what_is_kept_is_enough_to_know_all_that_is_asked(grants, period_s, steps):
    """A few grants of each shard, and no more, answer as the whole history would, also at a successor's."""
    guard, plain = CrashLoopGuard(grants, period_s * SECOND), Plain(grants, period_s * SECOND)
    now_ns = 0
    for gap_s, asks_at_once, is_given_back, has_successor in steps:
        asked_ns = now_ns if asks_at_once else now_ns + gap_s * SECOND
        now_ns += gap_s * SECOND
        assert guard.opens_at_ns(0, asked_ns, now_ns) == plain.opens_at_ns(asked_ns, now_ns)
        now_ns = max(now_ns, plain.opens_at_ns(asked_ns, now_ns))
        if is_given_back:
            before = guard.opens_at_ns(0, asked_ns, now_ns)
            guard.count(0, asked_ns, now_ns)
            guard.refund(0)
            assert guard.opens_at_ns(0, asked_ns, now_ns) == before
            continue
        guard.count(0, asked_ns, now_ns)
        plain.count(asked_ns, now_ns)
        if has_successor and guard.ages(now_ns):
            ages, guard = guard.ages(now_ns), CrashLoopGuard(grants, period_s * SECOND)
            guard.restore(ages, now_ns)


# --- in the schedule


def burn(desk, shard_id, turns, *, priority=0, gap_ms=6_000, name="t"):
    """A shard that identifies and is back at once, so many times."""
    for turn in range(turns):
        request_id = f"s{shard_id}{name}{turn}"
        said = desk.ask(shard_id, request_id=request_id, priority=priority, after_ms=gap_ms)
        (body,) = replies(said)
        desk.answer(body.grant_id)


def test_a_looping_shard_is_told_why_and_until_when_whatever_priority_it_claims():
    desk = Desk(guard=CrashLoopGuard(3))
    burn(desk, 0, 3)
    said = desk.ask(0, request_id="fourth", priority=10, after_ms=6_000)
    (queued,) = replies(said, model.Queued)
    assert queued.reason is Reason.CRASH_LOOP
    assert queued.eta_ns == 5 * MINUTE - 6 * SECOND
    assert "crash_loop" in events(said)
    renewal = 0
    while not granted(said):
        renewal += 1
        (queued, *_) = replies(said, model.Queued) or [queued]
        said = desk.ask(0, request_id="fourth", priority=10, renewal=renewal, after_ms=queued.renew_in_ns // model.MS)
        assert renewal < 100
    assert desk.now_ns == pytest.approx(1_018 * SECOND + 5 * MINUTE, abs=2.1 * SECOND)  # it renews each two seconds
    assert events(desk.said).count("crash_loop") == 1


def test_a_wait_is_announced_once_however_often_its_shard_asks():
    """A client that asks anew ten times a second for two minutes, as plain scripts do."""
    desk = Desk(guard=CrashLoopGuard(3))
    burn(desk, 0, 3)
    for number in range(1_200):
        said = desk.ask(0, request_id=f"again{number}", after_ms=100)
        assert replies(said, model.Queued)[0].reason is Reason.CRASH_LOOP
        desk.tell(model.Cancel(f"again{number}"))
    assert events(desk.said).count("crash_loop") == 1
    said = desk.ask(0, request_id="patient", after_ms=200_000)
    desk.answer(replies(said)[0].grant_id)
    for number in range(10):
        desk.ask(0, request_id=f"and again{number}", after_ms=100)
    assert events(desk.said).count("crash_loop") == 2, "its next wait, twice as long, is another one"


def test_a_shard_that_loops_again_after_it_was_well_is_announced_again():
    desk = Desk(guard=CrashLoopGuard(3))
    burn(desk, 0, 3)
    desk.ask(0, request_id="held back", after_ms=6_000)
    desk.tell(model.Cancel("held back"))
    desk.pass_ms(25 * 3_600_000)
    burn(desk, 0, 3, name="later")
    assert events(desk.said).count("crash_loop") == 1
    desk.ask(0, request_id="held back again", after_ms=6_000)
    assert events(desk.said).count("crash_loop") == 2


def test_who_loops_stands_behind_everybody_and_shows_it():
    desk = Desk(guard=CrashLoopGuard(3))
    burn(desk, 0, 3)
    desk.ask(0, request_id="fourth", priority=10, after_ms=1_000)
    said = desk.ask(1)
    (queued,) = replies(said, model.Queued)
    assert (queued.position, queued.reason) == (1, Reason.WINDOW)
    assert queued.eta_ns == 5_200 * model.MS - SECOND
    assert granted(desk.ask(1, renewal=1, after_ms=4_200)) == [1]


def test_its_place_is_where_it_was_when_its_wait_is_over():
    desk = Desk(guard=CrashLoopGuard(3))
    burn(desk, 0, 3)
    desk.ask(0, request_id="fourth")
    desk.pass_ms(5 * 60_000 - 5_000)
    desk.ask(0, request_id="fourth", renewal=1)
    first = desk.ask(1)
    assert granted(first) == [1]
    desk.answer(replies(first)[0].grant_id)
    desk.ask(2)
    for renewal in (2, 3):
        desk.ask(0, request_id="fourth", renewal=renewal, after_ms=2_500)
        desk.ask(2, renewal=renewal - 1)
    desk.pass_ms(3_000)
    assert granted(desk.said)[-1] == 0
    assert 2 not in granted(desk.said)


def test_a_second_asking_of_a_looping_shard_is_passed_over_too():
    desk = Desk(guard=CrashLoopGuard(3))
    burn(desk, 0, 2)
    desk.ask(0, request_id="one", after_ms=1_000)
    desk.ask(0, request_id="two")
    desk.ask(1)
    desk.ask(0, request_id="one", renewal=1, after_ms=4_000)
    desk.ask(0, request_id="two", renewal=1)
    desk.ask(1, renewal=1)
    desk.pass_ms(300)
    assert granted(desk.said)[-1] == 0
    desk.answer(replies(desk.said)[-1].grant_id)
    desk.ask(0, request_id="two", renewal=2, after_ms=4_000)
    desk.ask(1, renewal=2)
    assert granted(desk.pass_ms(2_000)) == [1]
    assert desk.view.requests["two"].deferred_until_ns > desk.now_ns


def test_declined_turns_hold_nobody_back():
    desk = Desk(guard=CrashLoopGuard(3))
    for renewal in range(30):
        said = desk.ask(0, renewal=renewal, after_ms=100)
        desk.answer(replies(said)[0].grant_id, Outcome.DECLINED)
    assert "crash_loop" not in events(desk.said)
    assert desk.view.remaining == 1000


def test_the_guard_holds_across_a_renumbering():
    desk = Desk(guard=CrashLoopGuard(3))
    burn(desk, 5, 3)
    desk.ask(5, request_id="fourth")
    desk.tell(model.LimitsFetched(Limits(4, 1000, 900, 3_600 * SECOND)), after_ms=60_000)
    request = desk.view.requests["fourth"]
    assert request.bucket == 1
    assert request.deferred_until_ns > desk.now_ns
    desk.ask(5, request_id="fourth", renewal=1, bucket=1)
    assert granted(desk.pass_ms(10_000)) == []


def test_a_loop_that_ends_later_than_was_told_is_looked_at_when_it_ends():
    """A successor counts the loop from when it read of it: seed 770003422, where the bucket was left open."""
    desk = Desk(guard=CrashLoopGuard(3))
    guard = desk.schedule.state.guard
    burn(desk, 0, 3)
    desk.ask(0, request_id="held", after_ms=1_000)
    request = desk.view.requests["held"]
    wait_ms = (request.deferred_until_ns - desk.now_ns) // MS
    for renewal in range(1, 1 + wait_ms // 5_000):
        desk.ask(0, request_id="held", renewal=renewal, after_ms=5_000)
    desk.ask(0, request_id="held", renewal=1_000, after_ms=(request.deferred_until_ns - desk.now_ns) // MS - 100)
    guard.restore(guard.ages(desk.now_ns - 50 * MS), desk.now_ns)
    assert guard.opens_at_ns(0, request.asked_at_ns, desk.now_ns) == request.deferred_until_ns + 50 * MS
    assert granted(desk.pass_ms(200)) == [0]


# --- across a change of leader


def loop_until_held(cluster, shard_id=0, most=20):
    """A shard identifies again and again until it is held back; return how often it did."""
    for turn in range(most):
        cluster.ask(shard_id, request_id=f"t{turn}-{len(cluster.grant_log)}")
        before = len(cluster.grant_log)
        cluster.pass_ms(5_500)
        if len(cluster.grant_log) == before and not cluster.grant_log[-1][1].request_id.startswith(f"t{turn}-"):
            return turn
        cluster.answer(cluster.grant_log[-1][1].grant_id)
        cluster.pass_ms(5_300)
    return most


@pytest.mark.parametrize("successor", ["b", "c"])
def test_a_successor_holds_back_whom_its_predecessor_held_back(successor):
    """b has heard everything; c has started since, and knows the ledger alone."""
    cluster = Cluster("a", "b", crash_loop_grants=3)
    assert loop_until_held(cluster) == 3
    if successor == "c":
        cluster.kill("b")
        cluster.start("c")
        cluster.pass_ms(2_000)
    assert cluster.leader == "a"
    cluster.kill("a")
    cluster.pass_ms(4_000)
    assert cluster.leader == successor
    before = len(cluster.grant_log)
    cluster.ask(0, request_id="again", priority=10)
    queued = [
        a.body for a in cluster.said[successor] if isinstance(a, model.Reply) and isinstance(a.body, model.Queued)
    ]
    assert queued[-1].reason is Reason.CRASH_LOOP
    assert queued[-1].eta_ns is not None
    assert 4 * MINUTE < queued[-1].eta_ns <= 5 * MINUTE
    cluster.ask(1)
    cluster.pass_ms(11_000)
    assert [body.shard_id for _, body in cluster.grant_log[before:]] == [1]


def test_the_ledger_of_an_older_coordinator_has_no_histories():
    cluster = Cluster("a", crash_loop_grants=3)
    loop_until_held(cluster)
    written = LedgerWriter().write(cluster.ledger)
    assert len(decode(written).crash_loops) == 1
    assert decode(written).crash_loops[0].strikes == 0
    older = written.replace(b'"crash_loops"', b'"unknown"').replace(b'"margin_ms"', b'"unknown_too"')
    assert decode(older).crash_loops == ()
    assert decode(older).margin_ns is None
