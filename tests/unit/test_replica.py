"""Whole replicas, told by hand: leading, taking over, settling writes, trusting nothing that was not seen."""

from dataclasses import replace
from itertools import pairwise

import pytest

from coordinator.core import ledger as words
from coordinator.core.replica import REFUSED_MAX_NS, RETRY_NS, Role
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Limits, Outcome, Timing
from tests.unit.cluster import Cluster
from tests.unit.desk import granted

FULL_MS = 10_200  # use_within + window + margin


def shards(cluster):
    return [body.shard_id for _, body in cluster.grant_log]


def test_a_fresh_start_leads_and_grants_at_once():
    cluster = Cluster("a")
    cluster.ask(0)
    assert cluster.leader == "a"
    assert shards(cluster) == [0]
    assert cluster.ledger is not None
    assert cluster.ledger.leader == "a"
    assert [record.shard_id for record in cluster.ledger.grants] == [0]
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


def test_without_fresh_start_everything_is_held_for_the_full_time():
    cluster = Cluster("a", fresh=False)
    cluster.ask(0, managed=False)
    cluster.pass_ms(FULL_MS - 10)
    assert shards(cluster) == []
    cluster.pass_ms(20)
    assert shards(cluster) == [0]


def test_a_lost_acknowledgement_is_settled_by_reading():
    cluster = Cluster("a")
    cluster.lose_acks = True
    cluster.ask(0)
    cluster.lose_acks = False
    cluster.pass_ms(1_000)
    assert shards(cluster) == [0]
    assert cluster.ledger.remaining == 999


def test_a_write_that_was_refused_with_no_competitor_is_written_again():
    cluster = Cluster("a")
    cluster.hold_writes = True
    cluster.ask(0)
    name, write = cluster.held.pop()
    cluster.hold_writes = False
    cluster.tell(name, words.WriteUnsettled())
    assert cluster.ledger == write.ledger
    assert shards(cluster) == [0]


def test_away_ledger_grants_nothing_and_everything_afterwards():
    cluster = Cluster("a")
    cluster.is_away = True
    cluster.ask(0)
    cluster.pass_ms(1_500)
    assert shards(cluster) == []
    cluster.is_away = False
    cluster.ask(0, renewal=1)
    cluster.pass_ms(300)
    cluster.ask(0, renewal=2)
    assert set(shards(cluster)) == {0}
    assert cluster.ledger.remaining == 999


def test_sigterm_hands_over_at_once_and_nothing_is_asked_again():
    cluster = Cluster("a", "b")
    cluster.ask(0)
    cluster.answer(cluster.grant_log[0][1].grant_id)
    cluster.ask(1, managed=False)
    cluster.pass_ms(2_000)
    cluster.tell("a", words.Stop())
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
    book = cluster.replicas["b"].schedule.state
    record = book.holds.get(grant_id)
    assert record.state.outcome is outcome
    held_ns = Timing().confirmed_hold_ns if outcome is Outcome.IDENTIFIED else Timing().proved_hold_ns
    assert record.opens_at_ns == cluster.now_ns + held_ns
    assert not book.requests.by_id


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


def test_a_restarted_single_coordinator_holds_everything():
    cluster = Cluster("a")
    cluster.ask(0)
    cluster.kill("a")
    cluster.start("a2")
    started_ns = cluster.now_ns
    cluster.ask(1, managed=False)
    while 1 not in shards(cluster):
        cluster.pass_ms(10)
    assert FULL_MS * MS <= cluster.now_ns - started_ns < 3 * SECOND + FULL_MS * MS  # the lease runs meanwhile
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


def test_with_a_token_nothing_is_granted_before_a_figure():
    cluster = Cluster("a", static=None)
    assert any(isinstance(action, model.FetchLimits) for action in cluster.said["a"])
    cluster.ask(0, bucket=0)
    cluster.pass_ms(1_000)
    assert shards(cluster) == []
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(2, 1000, 700, SECOND)))
    assert shards(cluster) == [0]
    assert (cluster.ledger.max_concurrency, cluster.ledger.remaining) == (2, 699)


def test_a_figure_asked_for_by_another_term_is_not_believed():
    cluster = Cluster("a", "b", static=None)
    cluster.tell("b", model.LimitsFetchStarted())
    cluster.tell("b", model.LimitsFetched(Limits(2, 1000, 700)))
    assert cluster.replicas["b"].schedule.state.budget.remaining is None


def test_after_a_blind_start_a_figure_counts_only_when_every_unknown_grant_is_settled():
    cluster = Cluster("a", static=None, fresh=False)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 1000, 700)))
    assert cluster.replicas["a"].schedule.state.budget.remaining is None
    cluster.pass_ms(FULL_MS + 10)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 1000, 700)))
    assert cluster.replicas["a"].schedule.state.budget.remaining == 700


def test_a_figure_counts_less_what_is_in_the_air():
    cluster = Cluster("a", static=None)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(3, 1000, 700, 3600 * SECOND)))
    cluster.ask(0)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.ask(1)
    cluster.tell("a", model.LimitsFetched(Limits(3, 1000, 600, 3600 * SECOND)))
    assert cluster.replicas["a"].schedule.state.budget.remaining == 598


def test_the_day_s_end_closes_the_budget_until_a_new_figure():
    cluster = Cluster("a", static=None)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 1000, 700, 2 * SECOND)))
    cluster.said["a"].clear()
    cluster.pass_ms(2_010)
    assert cluster.replicas["a"].schedule.state.budget.remaining is None
    assert any(isinstance(action, model.FetchLimits) for action in cluster.said["a"])


def test_holds_survive_a_change_of_max_concurrency():
    cluster = Cluster("a", static=None)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(4, 1000, 700, 3600 * SECOND)))
    cluster.ask(1)  # bucket 1 of 4
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(6, 1000, 700, 3600 * SECOND)))
    book = cluster.replicas["a"].schedule.state
    shut = [bucket for bucket in range(6) if book.holds.opens_at_ns(bucket) > cluster.now_ns]
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
    rooms = [cluster.replicas[name].schedule.state.requests for name in "ab"]
    assert [[asking.message.shard_id for asking in room.queues[0]] for room in rooms] == [[1, 2, 3, 4]] * 2
    assert [room.by_id["r0"].grant_id is not None for room in rooms] == [True, True]


def test_the_order_survives_two_takeovers():
    cluster = Cluster("a", "b", "c", timing=Timing(SECOND, 0, SECOND, SECOND // 2))
    cluster.pass_ms(2_000)
    for shard in range(12):
        cluster.ask(shard, managed=False)
        cluster.pass_ms(10)
    cluster.pass_ms(3_000)
    cluster.tell(cluster.leader, words.Stop())
    cluster.kill(next(iter(cluster.left)))
    cluster.pass_ms(3_000)
    cluster.kill(cluster.leader)
    cluster.pass_ms(30_000)
    assert shards(cluster) == list(range(12))


def test_a_stale_hint_is_ignored():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    old = replace(cluster.ledger, term=9, instance="ghost")
    cluster.tell("a", words.LedgerSeen(old, cluster.revision - 1))
    assert cluster.leader == "a"
    assert granted([]) == []


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


def test_a_day_that_ended_unseen_refills_a_static_budget():
    cluster = Cluster("a", static=Limits(1, 5, 5))
    ended = replace(cluster.ledger, remaining=0, reset_in_ns=0, sequence=99)
    cluster.kill("a")
    cluster.restore(ended)
    cluster.start("b")
    cluster.pass_ms(3_100)
    assert cluster.leader == "b"
    cluster.ask(0, managed=False)
    cluster.pass_ms(20_000)
    assert shards(cluster) == [0]


def test_a_plain_grant_that_is_committed_again_is_held_from_then_on_everywhere():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.hold_writes = True
    cluster.ask(0, managed=False)
    cluster.now_ns += 700 * MS  # longer than half the grace
    cluster.hold_writes = False
    cluster.release_held()
    assert shards(cluster) == [0]
    (record,) = cluster.replicas["b"].schedule.state.holds
    assert record.opens_at_ns == cluster.now_ns + 6 * SECOND


def test_what_waited_for_a_ledger_that_was_away_past_the_lease_is_granted_at_its_return():
    cluster = Cluster("a")
    cluster.pass_ms(500)
    cluster.is_away = True
    cluster.ask(0)
    for renewal in range(1, 4):
        cluster.pass_ms(2_000)
        cluster.ask(0, renewal=renewal)
    cluster.is_away = False
    cluster.pass_ms(300)  # the next read finds it, the write under way is settled; no renewal comes meanwhile
    assert shards(cluster) == [0]
    assert cluster.leader == "a"


def test_a_standby_that_cannot_read_does_not_ask_again_at_once():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.kill("a")
    cluster.frozen.add("b")
    cluster.pass_ms(3_100)
    standby = cluster.replicas["b"]
    assert words.Read() in standby.handle(words.TrafficHeard(), cluster.now_ns)
    assert words.Read() not in standby.handle(words.LedgerUnreadable(), cluster.now_ns)
    assert standby.next_deadline_ns() == cluster.now_ns + RETRY_NS
    assert words.Read() in standby.handle(words.TrafficHeard(), cluster.now_ns + RETRY_NS)


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
    cluster.tell("a", words.WriteUnsettled())
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
    cluster.tell("a", words.TrafficReturned())
    cluster.pass_ms(500)
    cluster.tell("a", words.TrafficReturned())
    cluster.ask(0, managed=False)
    cluster.pass_ms(1_010)
    assert shards(cluster) == [0]


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


def test_a_day_that_ends_in_an_outage_is_asked_about_right_after_it():
    cluster = Cluster("a", static=None)
    cluster.pass_ms(11_000)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 1000, 1000, 33 * SECOND)))
    cluster.pass_ms(28_000)
    cluster.is_reading_away = cluster.lose_acks = True
    cluster.pass_ms(7_000)
    before = len(cluster.said["a"])
    cluster.is_reading_away = cluster.lose_acks = False
    cluster.pass_ms(1_000)
    assert (cluster.leader, cluster.replicas["a"].term) == ("a", 1)
    assert any(isinstance(action, model.FetchLimits) for action in cluster.said["a"][before:])


def test_a_leader_that_does_not_know_what_is_left_asks_again_within_half_a_minute():
    """Discord failed while the lease had just run out: nobody else asks for the one who leads on."""
    cluster = Cluster("a", static=None)
    cluster.pass_ms(11_000)
    before = len(cluster.said["a"])
    cluster.tell("a", model.LimitsFetchStarted())  # and no figure comes of it
    cluster.pass_ms(31_000)
    assert any(isinstance(action, model.FetchLimits) for action in cluster.said["a"][before:])


def test_when_the_traffic_is_back_nobody_is_granted_before_the_others_can_be_back_too():
    cluster = Cluster("a")
    cluster.pass_ms(1_000)
    cluster.tell("a", words.TrafficReturned())
    cluster.ask(0)
    cluster.pass_ms(990)
    assert shards(cluster) == []
    cluster.pass_ms(20)
    assert shards(cluster) == [0]


@pytest.mark.parametrize("deaf", [(), ("a",)], ids=["hearing", "deaf"])
@pytest.mark.parametrize("is_put_back", [False, True], ids=["untouched", "put back"])
def test_a_write_that_landed_in_an_outage_longer_than_the_lease_is_led_on_from(is_put_back, deaf):
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.lose_acks = True
    cluster.is_reading_away = True
    cluster.ask(0)
    cluster.pass_ms(4_000, deaf=deaf)
    if is_put_back:
        cluster.restore(cluster.ledger)
    cluster.lose_acks = cluster.is_reading_away = False
    cluster.pass_ms(1_000, deaf=deaf)
    assert deaf == () or shards(cluster) == []
    cluster.pass_ms(300)
    assert shards(cluster) == ([] if is_put_back else [0])
    if not is_put_back:
        assert (cluster.leader, cluster.ledger.term) == ("a", 1)
        assert cluster.ledger.grants[0].hold_ns >= (FULL_MS - 1_310) * MS  # from the write that proved the lead


def test_a_write_that_landed_is_not_led_on_from_where_another_has_written_since():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.lose_acks = True
    cluster.is_reading_away = True
    cluster.ask(0)
    cluster.frozen.add("a")
    cluster.lose_acks = cluster.is_reading_away = False
    cluster.pass_ms(4_000)
    cluster.frozen.clear()
    cluster.pass_ms(1_000)
    assert cluster.leader == "b"
    assert [name for name, _ in cluster.grant_log] == []  # the record of a holds the bucket


def test_a_refused_write_is_repeated_ever_more_slowly_and_granted_soon_after_the_cure():
    cluster = Cluster("a")
    cluster.refuse_writes = True
    cluster.ask(0)
    cluster.pass_ms(10_000)
    tried_ns = [at_ns for at_ns, _ in cluster.refused]
    pauses_ms = [(later - earlier) // MS for earlier, later in pairwise(tried_ns)]
    assert pauses_ms[:2] == [250, 500]
    assert set(pauses_ms[2:]) == {REFUSED_MAX_NS // MS}  # a third of the lease of 3 s
    assert len({id(write.ledger) for _, write in cluster.refused}) == 1  # the same bytes each time
    assert shards(cluster) == []
    cluster.refuse_writes = False
    cluster.pass_ms(1_010)
    assert shards(cluster) == [0]
    assert cluster.ledger.remaining == 999
    assert cluster.ledger.term == 1


@pytest.mark.parametrize(("lease_ms", "max_ms"), [(600, 200), (3_000, 1_000), (300_000, 1_000)])
def test_a_refused_write_is_repeated_no_faster_than_a_lease_needs(lease_ms, max_ms):
    cluster = Cluster("a", lease_ns=lease_ms * MS)
    cluster.refuse_writes = True
    cluster.ask(0)
    cluster.pass_ms(6_000)
    (second_last_ns, _), (last_ns, _) = cluster.refused[-2:]
    assert last_ns - second_last_ns == max_ms * MS


def test_the_pause_begins_anew_once_a_write_was_accepted():
    cluster = Cluster("a")
    cluster.refuse_writes = True
    cluster.ask(0)
    cluster.pass_ms(5_000)
    cluster.refuse_writes = False
    cluster.pass_ms(2_000)
    cluster.refused.clear()
    cluster.refuse_writes = True
    cluster.pass_ms(3_000)
    (first_ns, _), (second_ns, _), *_ = cluster.refused
    assert second_ns - first_ns == RETRY_NS


def test_an_unknown_outcome_is_still_settled_at_once():
    cluster = Cluster("a")
    cluster.hold_writes = True
    cluster.ask(0)
    name, _ = cluster.held.pop()
    cluster.hold_writes = False
    before_ns = cluster.now_ns
    cluster.tell(name, words.WriteUnsettled())
    assert (shards(cluster), cluster.now_ns) == ([0], before_ns)


def test_a_refused_write_that_was_done_after_all_is_found_by_reading():
    cluster = Cluster("a")
    cluster.hold_writes = True
    cluster.ask(0)
    ((name, write),) = cluster.held
    cluster.hold_writes = False
    cluster.ledger, cluster.revision, cluster.written_on = write.ledger, write.revision + 1, write.revision
    cluster.tell(name, words.WriteUnsettled(is_refused=True))
    assert shards(cluster) == []
    cluster.pass_ms(RETRY_NS / MS)
    assert shards(cluster) == [0]
    assert len(cluster.replicas["a"].schedule.state.holds) == 1


def test_what_was_refused_is_given_back_when_another_leads():
    cluster = Cluster("a", "b")
    cluster.pass_ms(3_000)  # each has seen the ledger move
    cluster.refuse_writes = True
    cluster.ask(0)
    led, other = cluster.leader, {"a": "b", "b": "a"}[cluster.leader]
    book = cluster.replicas[led].schedule.state
    assert book.budget.remaining == 999
    cluster.refused_names = {led}  # as where the two are subject to different limits
    cluster.pass_ms(8_000)
    assert cluster.leader == other
    assert cluster.replicas[led].role is Role.STANDBY
    assert [name for name, _ in cluster.grant_log] == [other]
    assert cluster.ledger.remaining == 999  # one turn, charged once
    cluster.watch()
    assert book.budget.remaining == 999


def test_three_replicas_that_are_all_refused_do_not_raise_the_term():
    cluster = Cluster("a", "b", "c")
    cluster.refuse_writes = True
    cluster.ask(0)
    cluster.pass_ms(20_000)
    assert {write.ledger.term for _, write in cluster.refused} == {1, 2}
    assert len(cluster.refused) <= 3 * (20 + 3)
    cluster.refuse_writes = False
    cluster.pass_ms(2_000)
    assert len(shards(cluster)) == 1
    assert cluster.ledger.term <= 2
