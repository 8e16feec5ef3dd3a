"""A replica that leads, and the one that takes over from it: grants, holds and the queue go on."""

from dataclasses import replace

import pytest

from coordinator.core.ledger import (
    LedgerSeen,
    LedgerUnreadable,
    Read,
    Stop,
    TrafficReceived,
    TrafficReturned,
    WriteUnsettled,
)
from coordinator.core.read_state import RETRY_NS
from coordinator.core.replica import Role
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Limits, Outcome, Timing
from tests.unit.cluster import Cluster, shards
from tests.unit.desk import granted

FULL_MS = 10_200  # use_within + window + margin


def test_a_fresh_start_leads_and_grants_at_once():
    cluster = Cluster("a")
    cluster.ask(0)
    assert cluster.leader == "a"
    assert shards(cluster) == [0]
    assert cluster.ledger is not None
    assert cluster.ledger.leader == "a"
    assert [record.grant.shard_id for record in cluster.ledger.grants] == [0]
    assert cluster.ledger.remaining == 999


def test_a_grant_is_committed_before_its_reply():
    cluster = Cluster("a")
    cluster.hold_writes = True
    cluster.ask(0)
    assert shards(cluster) == []
    cluster.release_held()
    assert shards(cluster) == [0]


def test_a_grant_id_tells_nothing_of_the_next_one():
    """A requester that could compute another's grant id could confirm or decline that grant."""
    named = []
    for key in (b"one", b"another"):
        cluster = Cluster("a", static=Limits(8, 1000, 1000), grant_key=key)
        for shard in range(8):
            cluster.ask(shard)
        named.append([body.grant_id for _, body in cluster.grant_log])
    assert all(len(ids) == 8 for ids in named)
    assert not set(named[0]) & set(named[1])  # same instance, same numbers: only the key differs
    secrets = [grant_id.rpartition("-")[2] for grant_id in named[0]]
    assert len(set(secrets)) == 8
    assert all(len(secret) * 4 >= 64 for secret in secrets)  # hexadecimal digits, 4 bits each


def test_all_that_falls_due_during_a_write_goes_into_the_next():
    cluster = Cluster("a", static=Limits(8, 1000, 1000))
    cluster.hold_writes = True
    for shard in range(8):
        cluster.ask(shard)
    assert len(cluster.held) == 1
    before = len(cluster.writes)
    while cluster.held:
        cluster.release_held()
    assert len(cluster.writes) - before == 2
    assert sorted(shards(cluster)) == list(range(8))


def test_sigterm_hands_over_at_once_and_nothing_is_asked_again():
    cluster = Cluster("a", "b")
    cluster.ask(0)
    cluster.answer(cluster.grant_log[0][1].grant_id)
    cluster.ask(1, managed=False)
    cluster.pass_ms(2_000)
    cluster.tell("a", Stop())
    assert cluster.left == {"a"}
    assert cluster.leader == "b"
    cluster.kill("a")
    cluster.pass_ms(3_190)
    assert shards(cluster) == [0]
    cluster.pass_ms(20)
    assert shards(cluster) == [0, 1]


def test_a_killed_leader_is_replaced_after_a_lease():
    cluster = Cluster("a", "b", "c")
    cluster.ask(0)
    cluster.pass_ms(2_000)
    cluster.kill("a")
    cluster.pass_ms(2_000)
    assert cluster.roles(Role.LEADER) == []
    cluster.pass_ms(1_100)
    assert cluster.leader in {"b", "c"}
    assert cluster.replicas[cluster.leader].term == 2


def test_a_successor_repeats_an_unanswered_grant_and_holds_it():
    cluster = Cluster("a", "b")
    cluster.ask(0)
    cluster.pass_ms(2_000)  # b has seen the ledger move
    grant_id = cluster.grant_log[0][1].grant_id
    cluster.kill("a")
    cluster.pass_ms(3_100)
    cluster.ask(0, renewal=1)
    name, body = cluster.grant_log[-1]
    assert (name, body.grant_id, body.renewal) == ("b", grant_id, 0)
    assert cluster.ledger.remaining == 999


@pytest.mark.parametrize("outcome", [Outcome.IDENTIFIED, Outcome.READY, Outcome.REJECTED])
def test_an_answer_that_overtakes_the_watch_counts_when_the_grant_is_seen(outcome):
    """READY alone does, too: "identified" may have been lost."""
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.frozen.add("b")
    cluster.ask(0)
    cluster.frozen.clear()
    grant_id = cluster.grant_log[0][1].grant_id
    cluster.answer(grant_id, outcome)
    cluster.watch()
    view = cluster.view("b")
    assert view.holds[grant_id].outcome is outcome
    held_ns = Timing().confirmed_hold_ns if outcome is Outcome.IDENTIFIED else Timing().proved_hold_ns
    assert view.holds[grant_id].opens_at_ns == cluster.now_ns + held_ns
    assert not view.requests


def test_two_replicas_of_one_name_never_both_lead():
    cluster = Cluster("a")
    cluster.start("b", called="a")
    cluster.pass_ms(10_000)
    assert cluster.roles(Role.LEADER) == ["a"]
    cluster.frozen.add("a")
    cluster.pass_ms(4_000)
    cluster.frozen.clear()
    cluster.pass_ms(1_100)
    assert cluster.roles(Role.LEADER) == ["b"]


def test_a_successor_with_a_shorter_use_within_keeps_its_predecessors_promise():
    cluster = Cluster("a")
    cluster.start("b", timing=Timing(use_within_ns=SECOND))
    cluster.ask(0)
    asked_ns = cluster.now_ns
    cluster.pass_ms(1_500)
    cluster.kill("a")
    cluster.ask(1, managed=False)
    while 1 not in shards(cluster):
        cluster.pass_ms(10)
    assert cluster.now_ns - asked_ns >= FULL_MS * MS


def test_a_deaf_leader_resigns_and_does_not_contest():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.pass_ms(3_100, deaf=("a",))
    assert cluster.leader == "b"
    cluster.kill("b")
    cluster.pass_ms(5_000, deaf=("a",))
    assert cluster.roles(Role.LEADER) == []
    cluster.pass_ms(100)
    assert cluster.leader == "a"


def test_holds_survive_a_change_of_max_concurrency():
    cluster = Cluster("a", static=None)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(4, 1000, 700, 3600 * SECOND)))
    cluster.ask(1)  # bucket 1 of 4
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(6, 1000, 700, 3600 * SECOND)))
    shut = [bucket for bucket, opens_at_ns in cluster.view("a").opens_at_ns.items() if opens_at_ns > cluster.now_ns]
    assert shut == [1, 3, 5]  # congruent to 1 modulo gcd(4, 6)


def test_standbys_say_nothing():
    cluster = Cluster("a", "b", "c")
    cluster.pass_ms(2_000)
    for name in ("b", "c"):
        cluster.said[name].clear()
    for shard in range(5):
        cluster.ask(shard)
    cluster.pass_ms(30_000)
    assert cluster.said["b"] == cluster.said["c"] == []


def test_standbys_know_who_waits_and_who_was_granted():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    for shard in range(5):
        cluster.ask(shard)
        cluster.pass_ms(10)
    views = [cluster.view(name) for name in "ab"]
    assert [view.queues[0] for view in views] == [("r1", "r2", "r3", "r4")] * 2
    assert [view.requests["r0"].grant_id is not None for view in views] == [True, True]


def test_the_order_survives_two_takeovers():
    cluster = Cluster("a", "b", "c", timing=Timing(SECOND, 0, SECOND, SECOND // 2))
    cluster.pass_ms(2_000)
    for shard in range(12):
        cluster.ask(shard, managed=False)
        cluster.pass_ms(10)
    cluster.pass_ms(3_000)
    cluster.tell(cluster.leader, Stop())
    cluster.kill(next(iter(cluster.left)))
    cluster.pass_ms(3_000)
    cluster.kill(cluster.leader)
    cluster.pass_ms(30_000)
    assert shards(cluster) == list(range(12))


def test_a_stale_hint_is_ignored():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    old = replace(cluster.ledger, term=9, instance="ghost")
    cluster.tell("a", LedgerSeen(old, cluster.revision - 1))
    assert cluster.leader == "a"
    assert granted([]) == []


def test_a_plain_grant_that_is_committed_again_is_held_from_then_on_everywhere():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.hold_writes = True
    cluster.ask(0, managed=False)
    cluster.now_ns += 700 * MS  # longer than half the grace
    cluster.hold_writes = False
    cluster.release_held()
    assert shards(cluster) == [0]
    (record,) = cluster.view("b").holds.values()
    assert record.opens_at_ns == cluster.now_ns + 6 * SECOND


def test_a_standby_that_cannot_read_does_not_ask_again_at_once():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.kill("a")
    cluster.frozen.add("b")
    cluster.pass_ms(3_100)
    standby = cluster.replicas["b"]
    assert Read() in standby.handle(TrafficReceived(), cluster.now_ns)
    assert Read() not in standby.handle(LedgerUnreadable(), cluster.now_ns)
    assert standby.next_deadline_ns() == cluster.now_ns + RETRY_NS
    assert Read() in standby.handle(TrafficReceived(), cluster.now_ns + RETRY_NS)


def test_after_an_outage_the_first_to_be_heard_is_not_the_first_in_line():
    cluster = Cluster("a")
    cluster.ask(0)
    cluster.answer(cluster.grant_log[0][1].grant_id)
    for shard in (1, 2):
        cluster.ask(shard)
    cluster.pass_ms(3_000)
    cluster.ask(1, renewal=1)  # its last word before the outage is stale when the bucket opens
    cluster.pass_ms(500)
    cluster.hold_writes = True
    cluster.pass_ms(2_900)
    cluster.hold_writes = False
    cluster.tell("a", WriteUnsettled())
    cluster.ask(2, renewal=1)
    cluster.pass_ms(100)
    assert shards(cluster) == [0]
    cluster.ask(1, renewal=2)
    cluster.pass_ms(10)
    assert shards(cluster) == [0, 1]


@pytest.mark.parametrize("commit_ms", [190, 210])
def test_commits_slower_than_a_step_back_to_back_keep_nobody_waiting_behind_the_dead(commit_ms):
    cluster = Cluster("a", static=Limits(64, 100_000, 100_000))
    cluster.pass_ms(100)
    cluster.ask(0, request_id="dead")
    cluster.pass_ms(11_000)
    for shard, name in ((64, "first"), (128, "dead too"), (192, "live")):
        cluster.ask(shard, request_id=name)
    cluster.answer(cluster.grant_log[-1][1].grant_id)
    began_ns, cluster.hold_writes = cluster.now_ns, True
    for number in range(40):
        cluster.ask(192, request_id="live", renewal=number // 4)
        cluster.ask(1 + number % 60, request_id=f"other{number}")  # so that a write is always under way
        cluster.pass_ms(commit_ms)
        cluster.release_held()
        for _, body in cluster.grant_log[-30:]:
            if body.request_id.startswith("other"):
                cluster.answer(body.grant_id)
        if any(body.request_id == "live" for _, body in cluster.grant_log):
            break
    assert any(body.request_id == "live" for _, body in cluster.grant_log)
    assert cluster.now_ns - began_ns < 8 * SECOND


def test_traffic_that_was_lost_twice_ends_in_a_look():
    cluster = Cluster("a")
    cluster.pass_ms(100)
    cluster.tell("a", TrafficReturned())
    cluster.pass_ms(500)
    cluster.tell("a", TrafficReturned())
    cluster.ask(0, managed=False)
    cluster.pass_ms(1_010)
    assert shards(cluster) == [0]


def test_when_the_traffic_is_back_nobody_is_granted_before_the_others_can_be_back_too():
    cluster = Cluster("a")
    cluster.pass_ms(1_000)
    cluster.tell("a", TrafficReturned())
    cluster.ask(0)
    cluster.pass_ms(990)
    assert shards(cluster) == []
    cluster.pass_ms(20)
    assert shards(cluster) == [0]


@pytest.mark.parametrize("successors", [Limits(1, 1, 1), Limits(2, 5, 5)], ids=["the day is spent", "another bucket"])
def test_a_plain_request_that_comes_after_its_grant_gets_no_second_reply(successors):
    """Its grant is in the ledger, its message was slow: it is refused neither for the day nor for its bucket."""
    cluster = Cluster("a", static=Limits(1, 1, 1))
    cluster.start("b", static=successors)
    cluster.pass_ms(100)
    message = model.RequestReceived("slow", 1, 0, "inbox.slow", managed=False)
    cluster.tell("a", message)
    assert [name for name, _ in cluster.grant_log] == ["a"]
    cluster.watch()
    cluster.kill("a")
    cluster.pass_ms(3_500)
    assert cluster.leader == "b"
    cluster.tell("b", message)
    cluster.pass_ms(1_000)
    replies = [action for action in cluster.said["b"] if isinstance(action, model.Reply) and action.to == "inbox.slow"]
    assert replies == []
