"""What the ledger says stays true, whoever leads and with whatever settings: short histories that once broke it."""

from dataclasses import replace

import pytest

from coordinator.core.ledger import Ledger, LedgerSeen, Stop
from coordinator.core.replica import Role
from coordinator.edge.ledger_json import BEGINNINGS_SPARE_MAX, LedgerWriter, decode
from nats_identify.schedule import model
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.grants import Grant, HoldRecord
from nats_identify.schedule.model import (
    DAY,
    MS,
    SECOND,
    Limits,
    LimitsFetched,
    LimitsFetchStarted,
    Outcome,
    Reason,
    Timing,
)
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk, replies

SHORT = Timing(use_within_ns=SECOND)
LONG = Timing(use_within_ns=10 * SECOND)


def hand_over(cluster, old, new, **settings):
    """A rolling update: the new one has seen the ledger move when the old one leaves."""
    cluster.start(new, **settings)
    cluster.pass_ms(3_000)
    cluster.tell(old, Stop())
    cluster.pass_ms(200)
    cluster.kill(old)


def spend(cluster, count, first=0):
    for shard_id in range(first, first + count):
        cluster.ask(shard_id, request_id=f"r{shard_id}")
        cluster.answer(cluster.grant_log[-1][1].grant_id)
        cluster.pass_ms(5_300)


def finals(cluster, request_id):
    """The final replies that a requester was sent, by whom."""
    return [
        (name, action.body)
        for name, said in cluster.said.items()
        for action in said
        if isinstance(action, model.Reply)
        and isinstance(action.body, model.Granted | model.Refused)
        and action.body.request_id == request_id
    ]


# --- the day


def test_what_was_spent_stays_spent_when_a_total_is_lowered_and_raised_again():
    cluster = Cluster("a", static=Limits(1, 10, 10))
    cluster.pass_ms(100)
    spend(cluster, 9)
    hand_over(cluster, "a", "b", static=Limits(1, 1, 1))
    assert cluster.ledger.remaining == -8
    hand_over(cluster, "b", "c", static=Limits(1, 10, 10))
    assert cluster.ledger.remaining == 1


def test_a_figure_smaller_than_what_is_in_the_air_leaves_a_deficit():
    desk = Desk(4, static=False)
    for shard_id in range(4):
        desk.ask(shard_id)
    desk.tell(LimitsFetchStarted())
    desk.tell(LimitsFetched(Limits(4, 1000, 2, 3600 * SECOND)))
    desk.answer("g1", Outcome.DECLINED)
    assert desk.view.remaining == -1  # three may be used, and two are left
    desk.answer("g2", Outcome.DECLINED)
    assert desk.view.remaining == 0


def test_a_deficit_is_nothing_that_people_or_requesters_see():
    desk = Desk(2, static=False)
    desk.ask(0)
    desk.tell(LimitsFetchStarted())
    said = desk.tell(LimitsFetched(Limits(2, 1000, 0, 3600 * SECOND)))
    assert {a.fields["remaining"] for a in said if isinstance(a, model.Event)} == {0}
    (copy,) = replies(desk.ask(0, renewal=1))
    assert copy.remaining == 0
    (refused,) = replies(desk.ask(1, managed=False), model.Refused)
    assert "-" not in refused.message.split(" of ")[0]


def test_the_ledger_keeps_a_deficit_as_json():
    ledger = Ledger("identify", "a", "a1", 1, 1, 3 * SECOND, 1, total=100, remaining=-800)
    assert decode(LedgerWriter().write(ledger)).remaining == -800


# --- settings and Discord's figures


def test_a_coordinator_with_a_token_does_not_spend_the_numbers_of_one_without():
    cluster = Cluster("a", static=Limits(1, 1000, 1000))
    cluster.pass_ms(100)
    hand_over(cluster, "a", "b", static=None)
    cluster.ask(0)
    cluster.pass_ms(60_000)
    assert cluster.grant_log == []
    cluster.tell("b", LimitsFetchStarted())
    cluster.pass_ms(100)
    cluster.tell("b", LimitsFetched(Limits(1, 1000, 500, 3600 * SECOND)))
    cluster.ask(0, renewal=1)
    assert [body.shard_id for _, body in cluster.grant_log] == [0]


def test_what_one_without_a_token_has_spent_outlives_one_with_a_token_that_learns_nothing():
    cluster = Cluster("a", static=Limits(1, 3, 3))
    cluster.pass_ms(100)
    spend(cluster, 2)
    hand_over(cluster, "a", "b", static=None)
    hand_over(cluster, "b", "c", static=Limits(1, 3, 3))
    assert cluster.ledger.remaining == 1


def test_one_without_a_token_that_has_just_started_keeps_what_discord_said_was_spent():
    cluster = Cluster("a", static=None)
    cluster.pass_ms(100)
    cluster.tell("a", LimitsFetchStarted())
    cluster.tell("a", LimitsFetched(Limits(1, 1000, 7, 3600 * SECOND)))
    cluster.kill("a")
    cluster.start("b", static=Limits(1, 1000, 1000))
    cluster.pass_ms(8_000)
    assert cluster.leader == "b"
    assert cluster.ledger.remaining == 7


def test_one_without_a_token_ends_the_day_later_than_discord_said():
    cluster = Cluster("a", static=None)
    cluster.pass_ms(100)
    cluster.tell("a", LimitsFetchStarted())
    cluster.tell("a", LimitsFetched(Limits(1, 1000, 7, 3600 * SECOND)))
    resets_at_ns = cluster.now_ns + 3600 * SECOND
    hand_over(cluster, "a", "b", static=Limits(1, 1000, 1000))
    assert cluster.ledger.remaining == 7
    assert cluster.now_ns + cluster.ledger.reset_in_ns >= resets_at_ns + model.DAY // 1000 - 10 * MS


# --- charges


def slow_commits(cluster, duration_ms):
    """Let every commit take so long from now on, for one plain request that is refused after four."""
    for _ in range(4):
        cluster.pass_ms(duration_ms)
        cluster.release_held()
    cluster.hold_writes = False
    cluster.release_held()


def test_a_plain_grant_that_was_never_sent_costs_nothing():
    cluster = Cluster("a")
    cluster.pass_ms(2_000)
    cluster.hold_writes = True
    cluster.ask(0, managed=False)
    slow_commits(cluster, 600)
    cluster.pass_ms(2_000)
    assert cluster.grant_log == []
    assert [body.code for _, body in finals(cluster, "r0")] == [model.Code.OVERLOADED]
    assert (cluster.ledger.remaining, cluster.ledger.grants) == (1000, ())


# --- what was seen


def lost_and_begun_anew(*, dies_seen):
    """a knows a later term; the ledger is deleted; b, just started, leads with a longer use_within."""
    cluster = Cluster("a", timing=SHORT)
    for _ in range(4):
        cluster.tell("a", Stop())
        cluster.pass_ms(50)
        cluster.kill("a")
        cluster.start("a")
        cluster.pass_ms(3_500)
    cluster.frozen.add("a")
    cluster.ledger, cluster.revision, cluster.written_on = None, 0, None
    cluster.start("b", timing=LONG)
    cluster.pass_ms(4_000)
    assert cluster.ledger.term == 1
    if dies_seen:
        cluster.ask(0)
        granted_ns = cluster.now_ns
        assert [name for name, _ in cluster.grant_log] == ["b"]
    cluster.frozen.clear()
    cluster.watch()
    seen_ns = cluster.now_ns
    cluster.pass_ms(500)
    cluster.kill("b")
    return cluster, granted_ns if dies_seen else seen_ns


def test_a_longer_hold_of_a_ledger_that_is_not_adopted_is_remembered():
    cluster, granted_ns = lost_and_begun_anew(dies_seen=True)
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(100)
        cluster.ask(1, renewal=cluster.now_ns // SECOND)
    assert cluster.now_ns - granted_ns >= LONG.full_hold_ns


def test_a_ledger_without_grants_tells_how_long_one_of_its_leader_may_matter():
    cluster, seen_ns = lost_and_begun_anew(dies_seen=False)
    assert cluster.ledger.grants == ()
    while not cluster.grant_log:
        cluster.pass_ms(100)
        cluster.ask(1, renewal=cluster.now_ns // SECOND)
    assert cluster.now_ns - seen_ns >= LONG.full_hold_ns


def test_a_figure_after_a_loss_is_awaited_as_long_as_any_ledger_seen_may_matter():
    cluster = Cluster(static=None, timing=SHORT, fresh=False)
    cluster.is_away = True
    cluster.start("a")
    old = Ledger("identify", "z", "z1", 0, 1, SECOND, 1, 1000, 900, full_hold_ns=LONG.full_hold_ns)
    cluster.tell("a", LedgerSeen(old, 1))
    cluster.is_away = False
    while not cluster.roles(Role.LEADER):
        cluster.pass_ms(10)
    cluster.pass_ms(15_000)
    cluster.tell("a", LimitsFetchStarted())
    cluster.tell("a", LimitsFetched(Limits(1, 1000, 500, 3600 * SECOND)))
    assert cluster.view("a").remaining is None
    cluster.pass_ms(1_000)
    cluster.tell("a", LimitsFetchStarted())
    cluster.tell("a", LimitsFetched(Limits(1, 1000, 500, 3600 * SECOND)))
    assert cluster.view("a").remaining == 500


def test_the_ledger_keeps_as_json_how_long_a_grant_may_matter():
    ledger = Ledger("identify", "a", "a1", 1, 1, 3 * SECOND, full_hold_ns=15_200 * MS)
    assert decode(LedgerWriter().write(ledger)).full_hold_ns == 15_200 * MS
    assert decode(LedgerWriter().write(Ledger("identify", "a", "a1", 1, 1, 3 * SECOND))).full_hold_ns is None


def test_the_json_of_a_grant_is_the_same_whatever_was_written_before_and_ended_grants_take_no_room():
    def ledger_of(numbers):
        grants = [Grant(f"g{n}", f"r{n}", n, n, 4096, n % 3, 5 * SECOND) for n in numbers]
        return Ledger("identify", "a", "a1", 1, 1, 3 * SECOND, grants=tuple([HoldRecord(one, MS) for one in grants]))

    writer = LedgerWriter()
    for first in range(0, 10 * BEGINNINGS_SPARE_MAX, 300):
        ledger = ledger_of(range(first, first + 400))
        assert writer.write(ledger) == LedgerWriter().write(ledger)
        assert len(writer._beginnings) <= 2 * 400 + BEGINNINGS_SPARE_MAX


# --- declines


def test_a_decline_that_the_successor_received_outlives_the_next_entry_of_a_deaf_leader():
    cluster = Cluster("a", "b")
    cluster.pass_ms(100)
    cluster.ask(0)
    (_, granted), *_ = cluster.grant_log
    cluster.tell("b", model.Confirmation(granted.grant_id, Outcome.DECLINED))
    cluster.pass_ms(2_500, deaf={"a"})  # it beats, and brings the grant back each time
    assert [record.outcome for record in cluster.ledger.grants] == [None]
    cluster.pass_ms(1_500, deaf={"a"})
    assert cluster.leader == "b"
    assert (cluster.ledger.remaining, cluster.ledger.grants) == (1000, ())
    cluster.ask(1)
    assert [(name, body.shard_id) for name, body in cluster.grant_log] == [("a", 0), ("b", 1)]


def test_a_decline_outlives_an_entry_that_is_read_after_the_hold_is_over():
    cluster = Cluster("a", "b", timing=SHORT)
    cluster.pass_ms(100)
    cluster.ask(0)
    (_, granted), *_ = cluster.grant_log
    cluster.tell("b", model.Confirmation(granted.grant_id, Outcome.DECLINED))
    newest, revision = cluster.ledger, cluster.revision
    cluster.kill("a")
    cluster.is_reading_away = True
    cluster.pass_ms(SHORT.full_hold_ns // MS + 100)
    newer = replace(newest, sequence=newest.sequence + 1)
    cluster.tell("b", LedgerSeen(newer, revision + 1))
    assert len(cluster.view("b").holds) == 0


def test_a_decline_of_a_grant_whose_commit_is_not_settled_is_kept():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.lose_acks, cluster.is_reading_away = True, True
    cluster.ask(0)
    (record,) = cluster.ledger.grants
    cluster.lose_acks, cluster.is_reading_away = False, False
    cluster.frozen.add("a")
    cluster.pass_ms(4_000)
    cluster.ask(0, renewal=1)
    assert [name for name, _ in cluster.grant_log] == ["b"]
    cluster.frozen.clear()
    cluster.tell("a", model.Confirmation(record.grant.grant_id, Outcome.DECLINED))
    cluster.kill("b")
    cluster.pass_ms(4_500)
    assert cluster.leader == "a"
    assert (cluster.ledger.remaining, [r for r in cluster.ledger.grants if r.grant.request_id]) == (1000, [])


# --- one final reply


@pytest.mark.parametrize("why", ["session_limit", "timeout", "overloaded"])
def test_a_plain_requester_gets_one_final_reply_through_a_change_of_leader(why):
    cluster = Cluster("a", static=Limits(1, 1, 1) if why == "session_limit" else Limits(1, 1000, 1000))
    cluster.start("b", static=Limits(1, 1000, 1000))  # with fresh budget
    cluster.pass_ms(2_000)
    ask = model.RequestReceived("r2", 2, 0, "inbox.r2", timeout_ns=SECOND if why == "timeout" else None)
    if why == "overloaded":
        cluster.hold_writes = True
        cluster.tell("a", ask)
        slow_commits(cluster, 600)
    else:
        cluster.ask(0)
        cluster.tell("a", ask)
    cluster.pass_ms(1_500)
    assert [(name, body.code) for name, body in finals(cluster, "r2")] == [("a", why)]
    cluster.kill("a")
    cluster.pass_ms(5_000)
    assert cluster.leader == "b"
    cluster.tell("b", ask)  # late on its way
    cluster.pass_ms(20_000)
    assert [name for name, _ in finals(cluster, "r2")] == ["a"]


def test_a_plain_request_that_was_granted_is_granted_no_more_where_it_arrives_late():
    cluster = Cluster("a", "b")
    cluster.pass_ms(100)
    ask = model.RequestReceived("r0", 0, 0, "inbox.r0")
    cluster.tell("a", ask)
    cluster.pass_ms(8_000)
    assert cluster.ledger.grants == ()
    cluster.tell("b", ask)
    cluster.kill("a")
    cluster.pass_ms(10_000)
    assert cluster.leader == "b"
    assert [name for name, _ in finals(cluster, "r0")] == ["a"]


def test_a_plain_request_that_the_old_leader_has_not_answered_is_answered_by_the_new_one():
    cluster = Cluster("a", "b", static=Limits(1, 1, 1))
    cluster.pass_ms(100)
    cluster.ask(0, managed=False)
    cluster.frozen.add("a")  # it never hears of the next one
    cluster.ask(1, managed=False)
    cluster.kill("a")
    cluster.frozen.clear()
    cluster.pass_ms(6_000)
    assert [(name, body.code) for name, body in finals(cluster, "r1")] == [("b", model.Code.SESSION_LIMIT)]


def test_a_refusal_of_a_plain_request_is_in_the_ledger_before_it_is_sent():
    cluster = Cluster("a", static=Limits(1, 1, 1))
    cluster.pass_ms(100)
    cluster.ask(0)
    cluster.hold_writes = True
    cluster.ask(1, managed=False)
    assert finals(cluster, "r1") == []
    cluster.release_held()
    assert [body.code for _, body in finals(cluster, "r1")] == [model.Code.SESSION_LIMIT]


def test_a_message_that_comes_twice_has_one_final_reply():
    desk = Desk(total=1)
    desk.ask(0)
    first, again = desk.ask(1, managed=False), desk.ask(1, managed=False)
    assert (len(replies(first, model.Refused)), replies(again, model.Refused)) == (1, [])


def test_what_was_charged_in_doubt_of_the_day_is_carried_into_the_next_day_once():
    budget, now_ns = SessionBudget(), 5 * model.DAY
    budget.set(Limits(1, 10, 10), unconfirmed_count=0, now_ns=now_ns)
    budget.mark_unknown(now_ns)  # a replica that has just started: Discord's day may end at any time
    for _ in range(4):
        budget.charge(now_ns)
    left = []
    for _ in range(3):
        now_ns = budget.resets_at_ns or now_ns + model.DAY
        budget.end_day(now_ns, unconfirmed_count=0)
        left.append(budget.remaining)
    assert left == [6, 10, 10]


@pytest.mark.parametrize("reserve", [0, 2])
@pytest.mark.parametrize("remaining", [None, -1, 0, 1, 2, 3])
def test_a_day_is_open_where_it_is_closed_for_no_priority(reserve, remaining):
    for from_settings in (True, False):
        budget = SessionBudget(reserve=reserve, static=False)
        budget.set(Limits(1, 6, remaining), unconfirmed_count=0, now_ns=0, from_settings=from_settings)
        assert budget.is_open == all(budget.closed_for(priority) is None for priority in (-10, 0, 1, 10))


@pytest.mark.parametrize("total", [5, 12, 20])
def test_a_day_that_waits_for_a_figure_counts_as_spent_by_the_larger_total(total):
    """Discord's total was 12; settings of 5 take over, and then others."""
    budget = SessionBudget()
    budget.set(Limits(1, 12, None), unconfirmed_count=0, now_ns=0, from_settings=False)
    budget.set_static(Limits(1, 5, 5), unconfirmed_count=0, now_ns=SECOND)
    budget.set_static(Limits(1, total, total), unconfirmed_count=0, now_ns=2 * SECOND)
    assert budget.remaining == total - 12


def test_settings_do_not_open_what_waits_for_a_figure():
    """One that could ask Discord had doubts; one that cannot takes over: the day may be spent."""
    budget = SessionBudget()
    budget.set(Limits(1, 6, None), unconfirmed_count=0, now_ns=0, from_settings=False)
    budget.set_static(Limits(1, 6, 6), unconfirmed_count=0, now_ns=SECOND)
    assert budget.closed_for(1) is Reason.SESSION_LIMIT
    assert budget.resets_at_ns is not None
    assert budget.resets_at_ns >= SECOND + DAY
    assert budget.end_day(budget.resets_at_ns, unconfirmed_count=0)
    assert budget.closed_for(0) is None
