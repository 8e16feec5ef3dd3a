"""Planted faults that need a history of their own, told by hand: with nothing planted each of these passes."""

import pytest

from nats_identify import wire
from nats_identify.client.requester import Begin, Identified, Received, Requester, SendAnswer
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Limits, Outcome, Timing
from tests.simulation import test_found
from tests.simulation.planted.hunt import CATALOGUE
from tests.simulation.planted.patching import planted
from tests.unit.cluster import Cluster

BY_NAME = {fault.name: fault for fault in CATALOGUE}


def a_503_of_another_leaders_grant_frees_nothing():
    """A message with it may still be on its way: A published it once, and died; B published it once, to nobody."""
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.hold_writes = True
    cluster.ask(0)
    cluster.ask(1)
    cluster.hold_writes = False
    cluster.release_held()
    grant_id = cluster.grant_log[0][1].grant_id
    cluster.kill("a")
    cluster.pass_ms(3_500)
    cluster.ask(0, renewal=1)
    cluster.ask(1, renewal=1)
    assert [(name, body.grant_id) for name, body in cluster.grant_log] == [("a", grant_id), ("b", grant_id)]
    cluster.tell("b", model.Undeliverable(grant_id))
    cluster.pass_ms(1_000)
    assert [body.shard_id for _, body in cluster.grant_log] == [0, 0]


def what_nobody_knows_is_held_as_long_as_any_promise_that_was_seen():
    """A's promises are for 5 s, and B has seen one; it misses the next, the ledger is deleted, and B promises 1 s."""
    cluster = Cluster("a")
    cluster.start("b", timing=Timing(use_within_ns=SECOND))
    cluster.pass_ms(2_000)
    cluster.ask(0)
    cluster.answer(cluster.grant_log[0][1].grant_id)
    cluster.pass_ms(6_000)
    cluster.frozen.add("b")
    cluster.ask(1)
    granted_ns = cluster.now_ns
    assert [body.shard_id for _, body in cluster.grant_log] == [0, 1]
    cluster.kill("a")
    cluster.ledger, cluster.revision = None, cluster.revision + 1
    cluster.frozen.clear()
    while len(cluster.grant_log) < 3:
        cluster.pass_ms(100)
        cluster.ask(2, renewal=cluster.now_ns // (100 * MS))
    assert cluster.now_ns - granted_ns >= Timing().managed_hold_ns


def an_answer_before_its_grant_is_kept():
    """B hears of the use before it sees the grant, and then leads: the bucket opens a window after the use."""
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.frozen.add("b")
    cluster.ask(0)
    cluster.frozen.clear()
    cluster.frozen.add("a")  # it dies before it hears the answer
    cluster.answer(cluster.grant_log[0][1].grant_id)
    used_ns = cluster.now_ns
    cluster.kill("a")
    cluster.watch()
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(100)
        cluster.ask(1, renewal=cluster.now_ns // (100 * MS))
    assert cluster.now_ns - used_ns < Timing().managed_hold_ns - SECOND


def a_figure_that_may_miss_an_unknown_grant_is_not_believed():
    """A replica that has just started leads from a ledger that it does not trust; Discord answers at once."""
    cluster = Cluster("a", static=None, fresh=False)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 1000, 700)))
    assert cluster.view("a").remaining is None


def a_figure_asked_for_as_a_standby_is_not_believed():
    """B asked, and came to lead: the turn that A granted in between is in no figure, and B counts its own alone."""
    cluster = Cluster("a", "b", static=None)
    cluster.pass_ms(2_000)
    for event in (model.LimitsFetchStarted(), model.LimitsFetched(Limits(1, 1000, 700))):
        cluster.tell("a", event)
    cluster.pass_ms(10)
    cluster.tell("b", model.LimitsFetchStarted())
    cluster.ask(0)
    assert cluster.ledger.remaining == 699
    cluster.kill("a")
    cluster.pass_ms(3_500)
    assert cluster.leader == "b"
    cluster.tell("b", model.LimitsFetched(Limits(1, 1000, 700)))
    assert cluster.view("b").remaining == 699


def a_plain_grant_is_not_sent_late():
    """Its requester counts from receipt, a successor from the commit: what leaves late may be used too late."""
    cluster = Cluster("a")
    cluster.pass_ms(100)
    cluster.hold_writes = True
    cluster.ask(0, managed=False)
    cluster.pass_ms(600)
    cluster.hold_writes = False
    begun = len(cluster.writes)
    cluster.release_held()
    assert len(cluster.writes) == begun + 2  # it was committed again
    assert len(cluster.grant_log) == 1


def a_shard_that_has_identified_repeats_that_it_has():
    """Its first answer was lost; a copy of the grant comes. Were it declined, the next one would be too early."""
    shard = Requester(0, "r0", jitter=lambda: 0.5)
    shard.handle(Begin(), 0)
    shard.handle(Received(_grant("g1"), "g1"), SECOND)
    shard.handle(Identified(), 2 * SECOND)
    assert shard.handle(Received(_grant("g1"), "g1"), 3 * SECOND) == [SendAnswer("g1", Outcome.IDENTIFIED)]


def a_second_grant_of_a_request_is_declined():
    """A renewal that came late was taken for news when the hold of the first grant was over."""
    shard = Requester(0, "r0", jitter=lambda: 0.5)
    shard.handle(Begin(), 0)
    shard.handle(Received(_grant("g1"), "g1"), SECOND)
    shard.handle(Identified(), 2 * SECOND)
    assert shard.handle(Received(_grant("g2"), "g2"), 3 * SECOND) == [SendAnswer("g2", Outcome.DECLINED)]


def _grant(grant_id):
    return wire.Granted(
        shard_id=0,
        bucket=0,
        request_id="r0",
        grant_id=grant_id,
        renewal=0,
        use_within_ms=5_000,
        waited_ms=0,
        remaining=9,
        max_concurrency=1,
        term=1,
    )


def a_restore_to_the_same_revision_behind_our_back_is_not_trusted():
    """B reads nothing for longer than a lease, and finds the revision that it knows; meanwhile A granted, and died."""
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    before, revision, written_on = cluster.ledger, cluster.revision, cluster.written_on
    cluster.frozen.add("b")
    cluster.pass_ms(500)
    cluster.ask(0)
    granted_ns = cluster.now_ns
    cluster.kill("a")
    cluster.pass_ms(3_500)
    cluster.ledger, cluster.revision, cluster.written_on = before, revision, written_on  # the snapshot of a stream
    cluster.frozen.clear()
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(100)
        cluster.ask(1, renewal=cluster.now_ns // (100 * MS))
    assert cluster.now_ns - granted_ns >= Timing().managed_hold_ns


def who_has_just_started_does_not_believe_what_it_meets():
    """All are killed right after a grant, the stream's snapshot from before it is put back, and one starts."""
    cluster = Cluster("a")
    cluster.pass_ms(2_000)
    before, revision, written_on = cluster.ledger, cluster.revision, cluster.written_on
    cluster.ask(0)
    granted_ns = cluster.now_ns
    cluster.kill("a")
    cluster.ledger, cluster.revision, cluster.written_on = before, revision, written_on
    cluster.start("b")
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(100)
        cluster.ask(1, renewal=cluster.now_ns // (100 * MS))
    assert cluster.now_ns - granted_ns >= Timing().managed_hold_ns


def a_snapshot_from_before_a_loss_is_not_trusted():
    """Terms began anew after a loss; then the stream's own snapshot from before it comes back, of a higher term."""
    cluster = Cluster("a")
    for other in "bc":
        cluster.start(other)
        cluster.pass_ms(100)
        cluster.kill("a" if other == "b" else "b")
        cluster.pass_ms(4_000)
    before, revision, written_on = cluster.ledger, cluster.revision, cluster.written_on
    cluster.kill("c")
    cluster.ledger, cluster.revision = None, cluster.revision + 1
    cluster.start("d")
    cluster.pass_ms(15_000)
    cluster.start("e")
    cluster.ask(0)
    cluster.pass_ms(10)
    granted_ns = cluster.now_ns
    assert [body.shard_id for _, body in cluster.grant_log] == [0]
    assert cluster.ledger.term < before.term
    cluster.kill("d")
    assert written_on is not None
    counted = cluster.revision + 1 - revision  # the stream before the loss had counted further than the one after it
    cluster.ledger, cluster.revision, cluster.written_on = before, revision + counted, written_on + counted
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(10)
        cluster.ask(1, renewal=cluster.now_ns // (100 * MS))
    assert cluster.now_ns - granted_ns >= Timing().managed_hold_ns


def an_outcome_that_is_known_is_not_taken_back():
    """A requester that breaks the contract says that it did not use what it has used."""
    cluster = Cluster("a")
    cluster.pass_ms(100)
    cluster.ask(0)
    cluster.ask(1)
    used_ns, grant_id = cluster.now_ns, cluster.grant_log[0][1].grant_id
    cluster.answer(grant_id)
    cluster.answer(grant_id, Outcome.DECLINED)
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(100)
        cluster.ask(1, renewal=cluster.now_ns // (100 * MS))
    assert cluster.now_ns - used_ns >= Timing().confirmed_hold_ns


HISTORIES = {
    "a 503 counts for a leader that did not commit the grant": a_503_of_another_leaders_grant_frees_nothing,
    "unknown grants are held by the replica's own settings alone": (
        what_nobody_knows_is_held_as_long_as_any_promise_that_was_seen
    ),
    "answers whose grant has not been seen are thrown away": an_answer_before_its_grant_is_kept,
    "after a blind takeover a figure counts at once": a_figure_that_may_miss_an_unknown_grant_is_not_believed,
    "a figure asked for in another term is believed": a_figure_asked_for_as_a_standby_is_not_believed,
    "a plain grant is sent however late its commit was": a_plain_grant_is_not_sent_late,
    "a shard that has identified forgets its grant": a_shard_that_has_identified_repeats_that_it_has,
    "a second grant is used after the first": a_second_grant_of_a_request_is_declined,
    "a lost contact with the ledger is not noticed": a_restore_to_the_same_revision_behind_our_back_is_not_trusted,
    "a replica that has just started believes the ledger that it meets": (
        who_has_just_started_does_not_believe_what_it_meets
    ),
    "a decline of a used turn frees it": an_outcome_that_is_known_is_not_taken_back,
    "a copied request that is fresh is not looked at": test_found.test_a_fresh_copied_request_is_granted_at_once,
    "the last turn of a day that is given back is offered to its own bucket alone": (
        test_found.test_the_last_turn_of_a_day_that_is_given_back_is_granted_in_any_bucket
    ),
    "a ledger of another lineage is believed once it is newer": a_snapshot_from_before_a_loss_is_not_trusted,
}
"""Of the table in docs/simulation.md, those that no history of chance has found, each with one that does."""


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_by_hand_fails_with_its_fault_planted_and_passes_without(name):
    HISTORIES[name]()
    with planted(*BY_NAME[name].edits), pytest.raises(AssertionError):
        HISTORIES[name]()
