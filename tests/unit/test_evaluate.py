"""One decision for a bucket: applied once it is spent, earlier it changes nothing, and no look is forgotten."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nats_identify.schedule import model
from nats_identify.schedule.evaluate import Decision, evaluate, passable_at_ns, step_ns
from nats_identify.schedule.grants import AWAITING
from nats_identify.schedule.model import MS, Outcome, Timing
from tests.unit.desk import Desk, granted

SHARDS = 6

steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "renew", "cancel", "confirm", "unreachable", "slow", "cut"]),
        st.integers(0, SHARDS - 1),
        st.integers(0, 4_000),
    ),
    max_size=40,
)


class Play:
    """A leading schedule, and what its shards do."""

    def __init__(self, max_concurrency):
        self.desk = Desk(max_concurrency)
        self.state = self.desk.schedule.state
        self.renewals = dict.fromkeys(range(SHARDS), 0)
        self.names = dict.fromkeys(range(SHARDS), 0)

    def name(self, shard_id):
        return f"r{shard_id}-{self.names[shard_id]}"

    def do(self, what, shard_id):
        name = self.name(shard_id)
        match what:
            case "ask" | "renew":
                self.renewals[shard_id] += 1
                self.desk.ask(shard_id, request_id=name, renewal=self.renewals[shard_id])
            case "cancel":
                self.desk.tell(model.Cancel(name))
                self.names[shard_id] += 1
            case "confirm":
                hold = self.state.holds.for_request(name)
                if hold is not None and hold.state in AWAITING:
                    self.desk.answer(hold.grant.grant_id, Outcome.DECLINED if shard_id % 2 else Outcome.IDENTIFIED)
                    self.names[shard_id] += not shard_id % 2
            case "unreachable":
                self.desk.tell(model.NudgeUndeliverable(name))
            case "slow":
                self.desk.schedule.on_slow_commit(self.desk.now_ns)
            case "cut":
                self.desk.schedule.on_reconnected(self.desk.now_ns)
                self.desk.pass_ms(0)
                self.desk.tell(model.Wake())

    def decisions(self, at_ns):
        return {bucket: evaluate(self.state, bucket, at_ns) for bucket in self.state.requests.queues}


@given(steps, st.integers(1, 3), st.floats(0, 1))
@example([("ask", 1, 0), ("ask", 1, 2201), ("ask", 1, 4000), ("slow", 0, 4000), ("ask", 0, 199)], 1, 0.0)
@settings(max_examples=150, deadline=None)
def test_a_decision_that_was_applied_is_spent_and_no_look_is_forgotten(moves, max_concurrency, part):
    play = Play(max_concurrency)
    for what, shard_id, after_ms in moves:
        play.desk.pass_ms(after_ms)
        play.do(what, shard_id)
        now_ns = play.desk.now_ns
        deadline_ns = play.desk.schedule.next_deadline_ns() or now_ns + model.DAY
        earlier_ns = now_ns + int(part * (deadline_ns - 1 - now_ns))
        for at_ns in (now_ns, earlier_ns, deadline_ns - 1):
            for bucket, decision in play.decisions(at_ns).items():
                assert (decision.grant, decision.nudges) == (None, ()), f"bucket {bucket} was not looked at"


@given(steps, st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_at_the_instant_to_look_again_the_decision_is_another(moves, max_concurrency):
    play = Play(max_concurrency)
    for what, shard_id, after_ms in moves:
        play.desk.pass_ms(after_ms)
        play.do(what, shard_id)
        for bucket, decision in play.decisions(play.desk.now_ns).items():
            if decision.look_again_at_ns is not None:
                assert decision.look_again_at_ns > play.desk.now_ns
                assert evaluate(play.state, bucket, decision.look_again_at_ns) != decision


def test_evaluating_changes_nothing():
    desk = Desk(1)
    for shard_id in range(4):
        desk.ask(shard_id)
    at_ns = desk.now_ns + 9_000 * MS
    state = desk.schedule.state
    assert evaluate(state, 0, at_ns) == evaluate(state, 0, at_ns)
    assert evaluate(state, 7, at_ns) == Decision()  # no request in that bucket


def test_a_stale_request_is_passable_a_step_after_its_nudge_and_not_before_one():
    desk = Desk(1)
    for shard_id in range(3):
        desk.ask(shard_id)
    state = desk.schedule.state
    (second, third) = state.requests.queues[0]
    assert passable_at_ns(state, second) is None
    desk.pass_ms(10_200 - 2_000)  # the lead before the bucket opens
    nudged_at_ns = second.nudged_at_ns
    assert passable_at_ns(state, second) == nudged_at_ns + step_ns(Timing())
    desk.schedule.on_slow_commit(nudged_at_ns + 50 * MS)
    assert passable_at_ns(state, second) == nudged_at_ns + 50 * MS + step_ns(Timing())
    desk.tell(model.NudgeUndeliverable(second.message.request_id))
    assert passable_at_ns(state, second) == 0
    assert third.nudged_at_ns == desk.now_ns  # the next one is nudged at once


def test_a_fresh_request_that_is_nudged_again_is_granted_once_those_before_it_have_missed_a_step():
    """After a commit of unknown outcome both are nudged again, neither answers, and the next commit is slow."""
    desk = Desk(1)
    desk.ask(0)
    desk.answer("g1")
    desk.ask(1)
    desk.ask(2)
    desk.pass_ms(4_900)
    desk.ask(2, renewal=1)
    desk.schedule.on_commit_unknown(desk.now_ns + 1)
    assert granted(desk.pass_ms(350)) == []
    desk.schedule.on_slow_commit(desk.now_ns)
    assert granted(desk.pass_ms(600)) == [2]
