"""The day: true ETAs when it does not suffice, the projection, and Discord's numbers changing while hundreds wait."""

from coordinator.core.limits_policy import FIGURE_EVERY_NS, SOON_NS, LimitsPolicy
from coordinator.edge import projection
from nats_identify.schedule import model
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import DAY, MS, SECOND, FetchLimits, Limits, Reason
from nats_identify.wire import Projection
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk, events, granted, replies

TURN_NS = 5_200 * MS
HOUR = 3_600 * SECOND


def figure(desk, *, total=15, remaining=15, reset_in_ns=HOUR, max_concurrency=1):
    return desk.tell(model.LimitsFetched(Limits(max_concurrency, total, remaining, reset_in_ns)))


def exhausted_desk(remaining=3, waiting=10, **options):
    """A budget that some of those who wait cannot have."""
    desk = Desk(total=None, static=False, **options)
    figure(desk, remaining=remaining)
    return desk, [replies(desk.ask(shard), model.Queued) for shard in range(waiting)]


def test_those_beyond_the_budget_are_told_so_at_once_and_when_their_turn_is():
    desk, told = exhausted_desk(remaining=3, waiting=20)
    bodies = [queued for (queued,) in told[1:]]  # the first was granted
    assert [body.reason for body in bodies[:2]] == [Reason.WINDOW, Reason.WINDOW]
    assert {body.reason for body in bodies[2:]} == {Reason.SESSION_LIMIT}
    hold_ns = desk.timing.managed_hold_ns  # nobody has answered yet
    assert [body.eta_ns for body in bodies[:2]] == [hold_ns, hold_ns + TURN_NS]
    assert [body.eta_ns for body in bodies[2:17]] == [HOUR + n * TURN_NS for n in range(15)]
    assert [body.eta_ns for body in bodies[17:]] == [HOUR + DAY + n * TURN_NS for n in range(2)]


def test_the_reserve_is_no_session_start_of_theirs_and_a_lost_session_has_it():
    desk, told = exhausted_desk(remaining=3, waiting=3, reserve=3)
    assert [body.reason for (body,) in told] == [Reason.SESSION_LIMIT] * 3
    assert granted(desk.ask(9, priority=1)) == [9]


def test_of_uneven_buckets_only_those_ahead_count():
    desk = Desk(4, total=None, static=False)
    figure(desk, total=1000, remaining=30, max_concurrency=4)
    for shard in range(0, 80, 4):
        said = desk.ask(shard)
    desk.ask(1)
    desk.ask(5)
    said = desk.ask(0, request_id="last")
    (body,) = replies(said, model.Queued)
    assert (body.position, body.reason) == (20, Reason.WINDOW)  # 19 ahead, and one in the other bucket


def test_fresh_limits_end_the_wait_at_once():
    desk, _ = exhausted_desk(remaining=0, waiting=5)
    assert granted(desk.said) == []
    desk.pass_ms(60_000)
    said = figure(desk, total=20, remaining=20)
    nudged = [body.request_id for body in replies(said, model.Queued) if body.renew_in_ns == 0]
    assert nudged == ["r0"]
    assert granted(desk.ask(0, renewal=1)) == [0]


def test_the_day_s_end_asks_discord_and_nobody_goes_on_a_guess():
    desk, _ = exhausted_desk(remaining=0, waiting=2)
    desk.ask(0, renewal=1, after_ms=HOUR // MS - 1_000)
    said = desk.pass_ms(2_000)
    assert [action for action in said if isinstance(action, FetchLimits)]
    assert granted(desk.said) == []
    assert granted(figure(desk, total=15, remaining=15)) == [0]


def test_rejected_counts_as_spent():
    desk = Desk()
    (body,) = replies(desk.ask(0))
    desk.answer(body.grant_id)
    said = desk.answer(body.grant_id, model.Outcome.REJECTED)
    assert events(said) == ["rejected"]
    assert desk.view.remaining == 999


# --- figures, and when they are asked for


def deadlines(watch, until_ns, *, is_little):
    """When it asks, if every answer takes a second and is believed."""
    asked, now_ns = [], 0
    while now_ns <= until_ns:
        if watch.is_due(now_ns, is_low=is_little):
            asked.append(now_ns)
            watch.fetch_started(1, now_ns)
            watch.believes(1, now_ns + SECOND)
        now_ns += SECOND
    return asked


def test_discord_is_asked_soon_when_little_is_left():
    for is_little, every_ns in ((False, FIGURE_EVERY_NS), (True, SOON_NS)):
        watch = LimitsPolicy()
        watch.become_leader(0, 0)
        assert deadlines(watch, 900 * SECOND, is_little=is_little)[1] == every_ns + SECOND


def test_a_question_without_an_answer_is_not_repeated_by_the_core():
    watch = LimitsPolicy()
    watch.become_leader(0, 0)
    assert watch.is_due(0, is_low=True)
    assert not watch.is_due(SOON_NS - 1, is_low=True)
    assert watch.is_due(SOON_NS, is_low=True)


def test_nothing_is_fetched_where_the_limits_are_settings():
    """A standby's request to fetch is dropped, and was due when it came to lead, and every 300 s from then on."""
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.ask(0, max_concurrency=7)  # other than the settings: the schedule of each replica wants new limits
    cluster.kill("a")
    cluster.pass_ms(20_000)
    assert cluster.leader == "b"
    assert not any(isinstance(action, FetchLimits) for action in cluster.said["b"])


def test_a_replica_wants_figures_soon_once_the_budget_runs_low():
    cluster = Cluster("a", static=None)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 40, 4, HOUR)))

    def wishes():
        return sum(isinstance(action, FetchLimits) for action in cluster.said["a"])

    before = wishes()
    cluster.pass_ms(29_000)
    assert wishes() == before
    cluster.ask(0, managed=False)  # 3 left of 40
    cluster.ask(1, managed=False)
    cluster.pass_ms(7_000)  # 2 left: a twentieth
    assert wishes() == before + 1


# --- the projection


def of_waiting(desk):
    return projection.of_waiting(desk.schedule.state, desk.now_ns)


def of_restart(desk, shards):
    return projection.of_restart(desk.schedule.state, shards, desk.now_ns)


def test_the_projection_of_those_that_wait():
    desk = Desk(2)
    for shard in range(11):
        desk.ask(shard)
    seen = of_waiting(desk)
    # two are granted: five wait in bucket 0, the first until nobody can use the turn any more
    assert (seen.shards, seen.budget_suffices, seen.session_starts_short) == (9, True, 0)
    assert seen.all_up_in_ms == 10_200 + 4 * 5_200


def test_the_projection_of_a_restart_before_it_starts():
    desk = Desk(total=None, static=False, reserve=10)
    figure(desk, total=1000, remaining=100, reset_in_ns=HOUR, max_concurrency=4)
    seen = of_restart(desk, 64)
    assert (seen.all_up_in_ms, seen.session_starts_short) == (15 * 5_200, 0)
    seen = of_restart(desk, 100)
    assert (seen.budget_suffices, seen.session_starts_short) == (False, 10)
    assert seen.all_up_in_ms == 3_600_000 + 2 * 5_200  # ten more, four at a time, when the day begins anew
    assert desk.view.remaining == 100


def test_those_that_wait_are_among_those_that_restart():
    desk = Desk(4)
    for shard in range(24):
        desk.ask(shard)
    seen = of_restart(desk, 64)
    assert (seen.shards, seen.all_up_in_ms) == (64, 10_200 + 15 * 5_200)
    assert of_restart(desk, 8).shards == 20  # more than Discord recommends


def test_a_projection_beyond_what_a_day_gives():
    desk = Desk(total=None, static=False, reserve=10)
    figure(desk, total=20, remaining=10, reset_in_ns=HOUR)
    seen = of_restart(desk, 25)
    assert seen.all_up_in_ms == (HOUR + 2 * DAY) // MS + 4 * 5_200
    figure(desk, total=10, remaining=10, reset_in_ns=HOUR)
    assert of_restart(desk, 25).all_up_in_ms is None


def test_nobody_projects_what_is_unknown():
    desk = Desk(total=None, static=False)
    desk.ask(0)
    assert of_waiting(desk) == Projection(shards=1)


def test_who_is_held_back_is_up_last():
    desk = Desk(guard=CrashLoopGuard(1))
    (body,) = replies(desk.ask(0))
    desk.answer(body.grant_id)
    desk.ask(0, request_id="again")
    desk.ask(1)
    assert of_waiting(desk).all_up_in_ms == 300_000
