"""A bucket opens at the earlier of two proofs: `identified` with the margin, and READY or Invalid Session without."""

import asyncio

import pytest

from coordinator.core.replica import Role
from nats_identify import LocalQueue
from nats_identify.client.base_queue import Message, PendingAcquire
from nats_identify.client.requester import SendAnswer
from nats_identify.schedule import model
from nats_identify.schedule.grants import Grant, HoldRecord
from nats_identify.schedule.model import MS, SECOND, Limits, Outcome, Timing
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk, granted

PROVED_MS = 5_002.5
CONFIRMED_MS = 5_200
UNANSWERED_MS = 10_200


def opens_in_ms(desk, bucket=0):
    return (desk.view.opens_at_ns[bucket] - desk.now_ns) / MS


def desk_with_grant():
    desk = Desk(1)
    desk.ask(0)
    return desk


# --- the rule


@pytest.mark.parametrize("outcome", [Outcome.READY, Outcome.REJECTED])
def test_a_bucket_opens_one_window_after_the_outcome(outcome):
    desk = desk_with_grant()
    desk.answer("g1")
    desk.answer("g1", outcome, after_ms=80)
    assert opens_in_ms(desk) == PROVED_MS
    desk.ask(1, after_ms=3_000)
    desk.ask(1, renewal=1, after_ms=1_000)
    assert not granted(desk.pass_ms(PROVED_MS - 4_000.5))
    assert granted(desk.pass_ms(0.5)) == [1]


def test_a_late_outcome_extends_no_hold():
    desk = desk_with_grant()
    desk.answer("g1")
    desk.answer("g1", Outcome.READY, after_ms=1_000)
    assert opens_in_ms(desk) == CONFIRMED_MS - 1_000


def test_an_outcome_that_overtakes_identified_counts_alone():
    desk = desk_with_grant()
    desk.answer("g1", Outcome.READY)
    desk.answer("g1", after_ms=500)
    assert opens_in_ms(desk) == PROVED_MS - 500


def test_a_repeated_outcome_changes_nothing():
    desk = desk_with_grant()
    desk.answer("g1")
    desk.answer("g1", Outcome.READY)
    for outcome in (Outcome.READY, Outcome.REJECTED, Outcome.DECLINED, Outcome.IDENTIFIED):
        desk.answer("g1", outcome, after_ms=100)
    assert opens_in_ms(desk) == PROVED_MS - 400


def test_a_lost_outcome_leaves_the_margin():
    desk = desk_with_grant()
    desk.answer("g1")
    assert opens_in_ms(desk) == CONFIRMED_MS


@pytest.mark.parametrize("grant_id", ["g0", "g2", "elsewhere"])
def test_the_outcome_of_another_grant_proves_nothing(grant_id):
    desk = desk_with_grant()
    desk.answer(grant_id, Outcome.READY)
    assert opens_in_ms(desk) == UNANSWERED_MS


def test_the_outcome_of_the_grant_before_proves_nothing_of_this_one():
    desk = desk_with_grant()
    desk.answer("g1")
    desk.pass_ms(4_000)
    desk.ask(1)
    assert granted(desk.pass_ms(1_200)) == [1]
    desk.answer("g1", Outcome.READY, after_ms=50)
    assert opens_in_ms(desk) == UNANSWERED_MS - 50


def test_a_plain_grant_opens_by_its_outcome_too():
    desk = Desk(1)
    desk.ask(0, managed=False)
    desk.answer("g1")
    assert opens_in_ms(desk) == CONFIRMED_MS
    desk.answer("g1", Outcome.READY, after_ms=50)
    assert opens_in_ms(desk) == PROVED_MS


def test_a_fast_clock_opens_no_bucket_early():
    timing, million, fastest = Timing(), 1_000_000, 1_000_500  # adjtimex(2)
    assert timing.proved_hold_ns * million >= timing.window_ns * fastest


def test_a_hold_of_another_max_concurrency_opens_by_its_outcome():
    desk = Desk(1)
    desk.ask(0)
    desk.answer("g1")
    desk.tell(model.LimitsFetched(Limits(4, 1000, 999)))
    desk.answer("g1", Outcome.READY, after_ms=30)
    assert [opens_in_ms(desk, bucket) for bucket in range(4)] == [PROVED_MS] * 4


# --- successors


def test_a_successor_keeps_the_hold_that_the_ledger_shows():
    desk = Desk(1)
    state = desk.schedule.state
    record = HoldRecord(Grant("g9", "r9", 9, 0, 1, 1, 5 * SECOND), 3 * SECOND, Outcome.READY)
    state.restore_holds([record], desk.now_ns)
    assert opens_in_ms(desk) == 3_000
    desk.answer("g9", Outcome.READY, after_ms=10)  # the confirm itself comes later: it is no news
    assert opens_in_ms(desk) == 2_990


def test_a_successor_that_received_the_outcome_itself_takes_the_earlier_of_two_proofs():
    cluster = Cluster("a", "b")
    cluster.pass_ms(6_000)
    (leader,) = cluster.roles(Role.LEADER)
    other = "b" if leader == "a" else "a"
    cluster.ask(0)
    cluster.pass_ms(20)
    grant = cluster.grant_log[-1][1].grant_id
    cluster.answer(grant)
    cluster.pass_ms(50)
    cluster.hold_writes = True  # the leader dies between READY and the commit
    cluster.answer(grant, Outcome.READY)
    ready_ns = cluster.now_ns
    cluster.kill(leader)
    cluster.hold_writes = False
    assert cluster.view(other).opens_at_ns[0] == ready_ns + Timing().proved_hold_ns
    cluster.pass_ms(4_500)
    assert cluster.roles(Role.LEADER) == [other]
    cluster.ask(1)
    cluster.pass_ms(400)
    assert len(cluster.grant_log) == 1
    cluster.pass_ms(200)
    assert [body.shard_id for _, body in cluster.grant_log] == [0, 1]


def test_a_successor_that_did_not_receive_the_outcome_holds_longer():
    cluster = Cluster("a", "b")
    cluster.pass_ms(6_000)
    (leader,) = cluster.roles(Role.LEADER)
    other = "b" if leader == "a" else "a"
    cluster.ask(0)
    cluster.pass_ms(20)
    grant = cluster.grant_log[-1][1].grant_id
    cluster.answer(grant)
    identified_ns = cluster.now_ns
    cluster.pass_ms(50)
    cluster.tell(leader, model.Confirmation(grant, Outcome.READY))
    cluster.kill(leader)
    assert cluster.view(other).opens_at_ns[0] == identified_ns + CONFIRMED_MS * MS


def test_an_outcome_received_before_its_grant_counts_from_its_receipt():
    desk = Desk(1)
    state = desk.schedule.state
    desk.answer("g9", Outcome.READY)
    desk.now_ns += 300 * MS
    record = HoldRecord(Grant("g9", "r9", 9, 0, 1, 1, 5 * SECOND), 10 * SECOND)
    early = state.restore_holds([record], desk.now_ns)
    assert [(confirm.grant_id, confirm.outcome) for confirm in early] == [("g9", Outcome.READY)]
    desk.answer("g9", Outcome.READY)
    assert opens_in_ms(desk) == PROVED_MS


# --- the margin


def ready_after(desk, grant_number, ready_ms):
    desk.answer(f"g{grant_number}")
    desk.answer(f"g{grant_number}", Outcome.READY, after_ms=ready_ms)
    desk.ask(grant_number)
    for renewal in range(1, 5):
        desk.ask(grant_number, renewal=renewal, after_ms=1_300)


@pytest.mark.parametrize(("ready_ms", "narrows"), [(50, False), (1_000, True)])
def test_the_margin_learns_from_those_alone_who_waited_for_it(ready_ms, narrows):
    desk = Desk(1)
    desk.ask(0)
    for number in range(1, 4):
        ready_after(desk, number, ready_ms)
    assert (desk.view.margin_ns < 200 * MS) is narrows


def test_every_rejection_widens_the_margin():
    desk = desk_with_grant()
    desk.answer("g1")
    desk.answer("g1", Outcome.REJECTED, after_ms=50)
    assert desk.view.margin_ns == 400 * MS


# --- the client


class Recording(LocalQueue):
    """Keeps the answers that it sends."""

    def __init__(self) -> None:
        super().__init__(1, window_s=0.2, margin_s=0.05)
        self.answers: list[SendAnswer] = []

    def _send(self, pending: PendingAcquire, message: Message) -> None:
        if isinstance(message, SendAnswer):
            self.answers.append(message)
        super()._send(pending, message)


async def test_the_outcome_of_a_grant_that_was_given_back_is_not_sent_for_the_next():
    queue = Recording()
    first = await queue.acquire(0)
    async with asyncio.timeout(30):
        second = await queue.acquire(0, replaces=first)
    queue.answers.clear()
    queue.ready(first)
    assert queue.answers == []
    queue.identified(second)
    queue.ready(second)
    assert [answer.outcome for answer in queue.answers] == [Outcome.IDENTIFIED, Outcome.READY]
    assert {answer.to for answer in queue.answers} == {second.grant_id}
    await queue.close()
