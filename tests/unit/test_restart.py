"""A coordinator that trusts nothing holds every bucket from when it first read the ledger as it has taken it over."""

import pytest

from nats_identify.schedule.model import MS, SECOND, Limits, Timing
from tests.unit.cluster import Cluster

FULL_NS = Timing().full_hold_ns
LEASE_NS = 3 * SECOND


def restarted(**options):
    """A lone coordinator that was killed with a grant out, and the next one, which has just started."""
    cluster = Cluster("a", **options)
    cluster.ask(0)
    cluster.pass_ms(1_000)
    cluster.kill("a")
    cluster.pass_ms(1_000)
    cluster.start("b")
    return cluster, cluster.now_ns


def pass_until_granted(cluster, count):
    while len(cluster.grant_log) < count:
        cluster.pass_ms(10)
        cluster.ask(1, renewal=cluster.now_ns // SECOND)
    return cluster.now_ns


def test_the_full_time_counts_from_the_takeover():
    cluster, started_ns = restarted()
    granted_ns = pass_until_granted(cluster, 2)
    assert granted_ns - started_ns >= LEASE_NS + FULL_NS


@pytest.mark.parametrize("how", ["moved", "away"])
def test_it_counts_anew_from_a_change_and_after_an_outage(how):
    cluster, started_ns = restarted()
    cluster.pass_ms(2_000)
    if how == "moved":  # an older copy: no progress
        cluster.ledger, cluster.revision = cluster.writes[0], cluster.revision + 5
    else:
        cluster.is_away = cluster.is_reading_away = True
        cluster.pass_ms(LEASE_NS / MS + 500)
        cluster.is_away = cluster.is_reading_away = False
    again_ns = cluster.now_ns
    granted_ns = pass_until_granted(cluster, 2)
    assert granted_ns - again_ns >= FULL_NS
    assert again_ns - started_ns >= 2 * SECOND


def test_a_takeover_that_was_written_late_counts_from_then():
    cluster, _ = restarted()
    cluster.pass_ms(2_900)
    cluster.hold_writes = True
    cluster.pass_ms(8_000)
    cluster.hold_writes = False
    released_ns = cluster.now_ns
    cluster.release_held()
    granted_ns = pass_until_granted(cluster, 2)
    assert granted_ns - released_ns >= FULL_NS


def test_a_figure_is_fetched_when_the_unknown_grants_are_over():
    cluster = Cluster("a", static=None, fresh=False)
    started_ns = cluster.now_ns
    cluster.pass_ms(FULL_NS / MS - 10)
    state = cluster.replicas["a"].schedule.state
    policy = cluster.replicas["a"]._limits_policy
    assert state.budget.known is None
    assert policy._believed_from_ns == started_ns + FULL_NS


def test_the_first_of_all_waits_for_nothing():
    cluster = Cluster("a", static=Limits(1, 1000, 1000))
    cluster.ask(0)
    assert [body.shard_id for _, body in cluster.grant_log] == [0]
