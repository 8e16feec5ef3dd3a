"""A ledger that may be an older copy, or that is gone: every bucket is held for as long as a grant can matter."""

from dataclasses import replace

import pytest

from coordinator.core.replica import Role
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Limits, Timing
from tests.unit.cluster import Cluster, shards

FULL_MS = 10_200  # use_within + window + margin


def test_without_fresh_start_everything_is_held_for_the_full_time():
    cluster = Cluster("a", fresh=False)
    cluster.ask(0, managed=False)
    cluster.pass_ms(FULL_MS - 10)
    assert shards(cluster) == []
    cluster.pass_ms(20)
    assert shards(cluster) == [0]


def test_a_leader_that_slept_past_its_lease_grants_nothing():
    cluster = Cluster("a", "b")
    cluster.ask(0)
    cluster.pass_ms(2_000)
    cluster.frozen.add("a")
    cluster.pass_ms(4_000)
    assert cluster.replicas["b"].role is Role.LEADER
    cluster.frozen.clear()
    cluster.tell("a", model.RequestReceived("late", 7, 0, "inbox.late", managed=False))
    cluster.pass_ms(100)
    assert cluster.roles(Role.LEADER) == ["b"]
    assert [name for name, body in cluster.grant_log if body.request_id == "late"] == []


def test_a_turn_that_was_used_and_never_seen_is_spent_when_its_ledger_is_lost():
    cluster = Cluster("a", "b", static=Limits(1, 1_000, 1_000))
    cluster.pass_ms(2_000)
    assert cluster.roles(Role.LEADER) == ["a"]
    cluster.frozen.add("b")  # the commit with the grant never comes to it
    cluster.ask(0)
    cluster.frozen.clear()
    cluster.now_ns += MS
    cluster.answer(cluster.grant_log[0][1].grant_id)
    assert cluster.ledger.remaining == 999
    cluster.kill("a")
    cluster.restore(None)
    cluster.pass_ms(10_000)
    assert cluster.roles(Role.LEADER) == ["b"]
    assert cluster.ledger.remaining == 999


def test_a_restarted_single_coordinator_holds_everything():
    cluster = Cluster("a")
    cluster.ask(0)
    cluster.kill("a")
    cluster.start("a2")
    started_ns = cluster.now_ns
    cluster.ask(1, managed=False)
    while 1 not in shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - started_ns >= 3 * SECOND + FULL_MS * MS
    assert cluster.ledger.remaining == 998


def test_the_hold_on_everything_survives_the_one_who_set_it():
    cluster = Cluster("a", fresh=False)
    taken_ns = cluster.now_ns
    cluster.start("b")
    cluster.pass_ms(2_000)
    cluster.ask(0, managed=False)
    cluster.kill("a")
    while not shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - taken_ns >= FULL_MS * MS


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_ledger_that_went_back_is_not_believed(is_gone):
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    old = cluster.ledger
    cluster.ask(0)
    cluster.pass_ms(500)
    cluster.kill("a")
    cluster.restore(None if is_gone else old)
    restored_ns = cluster.now_ns
    cluster.ask(1, managed=False)
    while 1 not in shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - restored_ns >= FULL_MS * MS
    assert cluster.replicas["b"].term > old.term


def test_two_older_copies_put_back_one_after_the_other_are_no_movement():
    cluster = Cluster("a")
    cluster.pass_ms(2_000)
    first = cluster.ledger
    cluster.pass_ms(2_000)
    second = cluster.ledger
    assert second.age > first.age
    cluster.ask(0)
    cluster.kill("a")
    cluster.restore(first)
    cluster.start("b")  # it has never seen anything newer
    cluster.pass_ms(1_500)
    cluster.restore(second)
    restored_ns = cluster.now_ns
    cluster.ask(1, managed=False)
    while 1 not in shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - restored_ns >= FULL_MS * MS


def test_two_copies_put_back_by_compare_and_set_without_their_headers_are_no_movement():
    cluster = Cluster("a")
    cluster.pass_ms(2_000)
    first = replace(cluster.ledger, lineage="")
    cluster.pass_ms(2_000)
    second = replace(cluster.ledger, lineage="")
    cluster.ask(0)
    cluster.kill("a")
    cluster.restore(first)
    cluster.written_on = cluster.revision - 1
    cluster.start("b")
    cluster.pass_ms(1_500)
    cluster.restore(second)
    cluster.written_on = cluster.revision - 1
    restored_ns = cluster.now_ns
    cluster.ask(1, managed=False)
    while 1 not in shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - restored_ns >= FULL_MS * MS


def test_a_leader_whose_ledger_vanishes_holds_everything():
    cluster = Cluster("a")
    cluster.ask(0)
    cluster.pass_ms(500)
    cluster.restore(None)
    lost_ns = cluster.now_ns
    cluster.ask(1, managed=False)
    while 1 not in shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - lost_ns >= FULL_MS * MS
    assert cluster.ledger.remaining == 998


def test_a_leader_that_slept_past_its_lease_writes_nothing_over_another():
    cluster = Cluster("a")
    cluster.pass_ms(500)
    cluster.frozen.add("a")
    cluster.pass_ms(4_000)
    ours = cluster.ledger
    # The stream was made anew meanwhile, and its count has come to the very revision that the leader knows.
    cluster.restore(replace(ours, leader="z", instance="zi", term=2, sequence=3), revision=cluster.revision)
    cluster.frozen.clear()
    writes = len(cluster.writes)
    cluster.pass_ms(100)
    assert cluster.roles(Role.LEADER) == []
    assert len(cluster.writes) == writes


@pytest.mark.parametrize("is_same_revision", [True, False])
def test_a_leader_that_slept_holds_everything_even_where_the_ledger_is_its_own(is_same_revision):
    cluster = Cluster("a")
    cluster.pass_ms(500)
    ours, revision = cluster.ledger, cluster.revision
    cluster.frozen.add("a")
    cluster.pass_ms(60_000)  # others may have led, granted, and been undone by a restore
    cluster.restore(ours, revision=revision if is_same_revision else revision + 50)
    cluster.frozen.clear()
    woken_ns = cluster.now_ns
    cluster.ask(1, managed=False)
    while not shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - woken_ns >= FULL_MS * MS
    assert cluster.leader == "a"


def test_a_write_of_ours_that_was_put_back_is_not_trusted():
    """Another led meanwhile, granted and died: its grant is nowhere, and may be used."""
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    leader, other = cluster.leader, ({"a", "b"} - {cluster.leader}).pop()
    cluster.lose_acks = cluster.is_reading_away = True
    count = len(cluster.writes)
    while len(cluster.writes) == count:
        cluster.pass_ms(10)
    landed = cluster.ledger
    cluster.lose_acks = cluster.is_reading_away = False
    cluster.frozen.add(leader)
    cluster.pass_ms(3_500)
    cluster.ask(0)
    assert shards(cluster) == [0]
    granted_ns = cluster.now_ns
    cluster.kill(other)
    cluster.restore(landed)
    cluster.frozen.clear()
    renewal = 0
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(10)
        cluster.ask(1, renewal=renewal)
        renewal += 1
    assert cluster.now_ns - granted_ns >= Timing().managed_hold_ns


def test_the_answer_to_a_read_that_a_later_entry_overtook_is_not_a_loss():
    cluster = Cluster("a")
    cluster.hold_reads = True
    cluster.start("b")
    cluster.pass_ms(100)
    cluster.hold_reads = False
    ((name, first),) = [held for held in cluster.held_reads if held[0] == "b"]
    assert first.revision == 1
    cluster.pass_ms(2_000)
    cluster.watch()
    newest = cluster.ledger
    cluster.tell(name, first)
    assert cluster.replicas["b"].view.ledger == newest
    cluster.kill("a")
    cluster.ask(0, managed=False)
    killed_ns = cluster.now_ns
    while 0 not in shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - killed_ns < FULL_MS * MS  # the ledger is still trusted
