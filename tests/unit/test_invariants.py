"""A state that contradicts itself is found: each contradiction is made by hand in a state that was well before."""

from collections.abc import Callable

import pytest

from nats_identify.schedule.grants import HoldState
from nats_identify.schedule.state import ScheduleState
from nats_identify.schedule.timers import TimerKind
from tests.invariants import check, check_replica
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk


def a_busy_state() -> ScheduleState:
    """Shard 0 is granted; a, b and r3 wait for its bucket, the first with a promise."""
    desk = Desk()
    desk.ask(0)
    for order, name in enumerate("ab"):
        desk.ask(order + 1, request_id=name, source="pod", asked_us=order)
    desk.ask(3)
    desk.pass_ms(9_000)
    desk.ask(1, request_id="a", renewal=1, source="pod", asked_us=0)
    state = desk.schedule.state
    check(state)
    return state


def queue_of(state):
    return state.requests.queues[0]


def hold_of(state):
    (hold,) = state.holds
    return hold


def moves_behind(state):
    state.requests.by_id["b"].place_ns += 60_000_000_000


def forgets_the_sender(state):
    state.requests._senders.remove(state.requests.by_id["a"].message.reply_to)


def leaves_the_hold(state):
    state.requests.by_id["r0"].grant_id = None


def forgets_the_index(state):
    state.holds._by_request.clear()


def forgets_what_is_blocked(state):
    state.holds._here.clear()


def ends_a_request_that_waits(state):
    state.requests._ended["a"] = None


def drops_the_timer_of_a_hold(state):
    state.timers.drop(TimerKind.HOLD, hold_of(state).grant.grant_id)


def drops_the_timer_of_a_request(state):
    state.timers.drop(TimerKind.REQUEST, "a")


def empties_the_heap(state):
    state.timers._heap.clear()


def keeps_a_promise_of_one_that_is_gone(state):
    queue_of(state)._promised["gone"] = state.requests.by_id["r0"]


def confirms_without_a_time(state):
    hold_of(state).state = HoldState.IDENTIFIED


def knows_the_rest_of_no_total(state):
    state.budget.total = None


def counts_other_buckets(state):
    state.max_concurrency = 2


def lets_a_standby_lead(state):
    state.is_leading = False


CONTRADICTIONS: dict[Callable[[ScheduleState], None], str] = {
    moves_behind: "b has changed and kept its place|against the order",
    forgets_the_sender: "counted by sender",
    leaves_the_hold: "r0 is neither queued nor granted",
    forgets_the_index: "its request is served by none",
    forgets_what_is_blocked: "block nothing",
    ends_a_request_that_waits: "a has ended and is still known",
    drops_the_timer_of_a_hold: "has no timer: it would never end",
    drops_the_timer_of_a_request: "have no timer",
    empties_the_heap: "would never be due",
    keeps_a_promise_of_one_that_is_gone: "gone was promised its turn and is not queued",
    confirms_without_a_time: "its confirm says else",
    knows_the_rest_of_no_total: "of an unknown total",
    counts_other_buckets: "2 buckets",
    lets_a_standby_lead: "a standby has the grant g1",
}


@pytest.mark.parametrize("contradict", CONTRADICTIONS, ids=lambda contradict: contradict.__name__)
def test_a_contradiction_is_found_and_said(contradict):
    state = a_busy_state()
    contradict(state)
    with pytest.raises(AssertionError, match=CONTRADICTIONS[contradict]):
        check(state)


def test_a_leader_whose_schedule_stands_by_is_found():
    cluster = Cluster("a")
    replica = cluster.replicas["a"]
    check_replica(replica)
    replica.schedule.state.is_leading = False
    with pytest.raises(AssertionError, match="a leader whose schedule has is_leading False"):
        check_replica(replica)
