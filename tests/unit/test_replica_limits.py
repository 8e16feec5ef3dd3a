"""Discord's figures and the day's end at a replica: which figure counts, and when the next is fetched."""

from dataclasses import replace

from coordinator.core.limits_policy import LimitsPolicy
from nats_identify.schedule import model
from nats_identify.schedule.model import SECOND, Limits
from tests.unit.cluster import Cluster, shards

FULL_MS = 10_200  # use_within + window + margin


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
    assert cluster.view("b").remaining is None


def test_after_a_blind_start_a_figure_counts_only_when_every_unknown_grant_is_settled():
    cluster = Cluster("a", static=None, fresh=False)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 1000, 700)))
    assert cluster.view("a").remaining is None
    cluster.pass_ms(FULL_MS + 10)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 1000, 700)))
    assert cluster.view("a").remaining == 700


def test_a_later_lead_of_a_known_ledger_waits_for_the_unknown_grants_of_an_earlier_one():
    policy = LimitsPolicy()
    policy.take_over(knows_limits=False)
    policy.become_leader(0, 10 * SECOND)
    policy.take_over(knows_limits=True)  # another lost the ledger, and waited for less
    policy.become_leader(7 * SECOND, 10 * SECOND)
    policy.fetch_started(3, 7 * SECOND)
    assert not policy.believes(3, 8 * SECOND)
    assert policy.due_at_ns == 10 * SECOND
    policy.fetch_started(3, 10 * SECOND)
    assert policy.believes(3, 11 * SECOND)


def test_a_figure_counts_less_what_is_in_the_air():
    cluster = Cluster("a", static=None)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(3, 1000, 700, 3600 * SECOND)))
    cluster.ask(0)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.ask(1)
    cluster.tell("a", model.LimitsFetched(Limits(3, 1000, 600, 3600 * SECOND)))
    assert cluster.view("a").remaining == 598


def test_the_day_s_end_closes_the_budget_until_a_new_figure():
    cluster = Cluster("a", static=None)
    cluster.tell("a", model.LimitsFetchStarted())
    cluster.tell("a", model.LimitsFetched(Limits(1, 1000, 700, 2 * SECOND)))
    cluster.said["a"].clear()
    cluster.pass_ms(2_010)
    assert cluster.view("a").remaining is None
    assert any(isinstance(action, model.FetchLimits) for action in cluster.said["a"])


def test_what_is_due_when_a_fetch_starts_is_said():
    cluster = Cluster("a", static=Limits(1, 1000, 1000))
    cluster.ask(0)
    cluster.ask(1, timeout_ns=SECOND)
    cluster.said["a"].clear()
    cluster.now_ns += 2 * SECOND
    cluster.tell("a", model.LimitsFetchStarted())
    refusals = [said.body for said in cluster.said["a"] if isinstance(said, model.Reply)]
    assert [refusal.code for refusal in refusals if isinstance(refusal, model.Refused)] == [model.Code.TIMEOUT]


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
    """The fetch failed right after the lease had run out: the leader that leads on fetches again by itself."""
    cluster = Cluster("a", static=None)
    cluster.pass_ms(11_000)
    before = len(cluster.said["a"])
    cluster.tell("a", model.LimitsFetchStarted())  # and no figure comes of it
    cluster.pass_ms(31_000)
    assert any(isinstance(action, model.FetchLimits) for action in cluster.said["a"][before:])
