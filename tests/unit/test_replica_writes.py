"""A write whose outcome is unknown, or that the server refuses: settled by reading, repeated after a pause."""

from itertools import pairwise

import pytest

from coordinator.core.ledger import WriteUnsettled
from coordinator.core.read_state import RETRY_NS
from coordinator.core.replica import Role
from coordinator.core.write_state import REFUSED_MAX_NS
from nats_identify.schedule.model import MS
from tests.unit.cluster import Cluster, shards

FULL_MS = 10_200  # use_within + window + margin


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
    cluster.tell(name, WriteUnsettled())
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
    cluster.tell(name, WriteUnsettled())
    assert (shards(cluster), cluster.now_ns) == ([0], before_ns)


def test_a_refused_write_that_was_done_after_all_is_found_by_reading():
    cluster = Cluster("a")
    cluster.hold_writes = True
    cluster.ask(0)
    ((name, write),) = cluster.held
    cluster.hold_writes = False
    cluster.ledger, cluster.revision, cluster.written_on = write.ledger, write.revision + 1, write.revision
    cluster.tell(name, WriteUnsettled(is_refused=True))
    assert shards(cluster) == []
    cluster.pass_ms(RETRY_NS / MS)
    assert shards(cluster) == [0]
    assert len(cluster.view("a").holds) == 1


def test_what_was_refused_is_given_back_when_another_leads():
    cluster = Cluster("a", "b")
    cluster.pass_ms(3_000)  # each has seen the ledger move
    cluster.refuse_writes = True
    cluster.ask(0)
    led, other = cluster.leader, {"a": "b", "b": "a"}[cluster.leader]
    assert cluster.view(led).remaining == 999
    cluster.refused_names = {led}  # as where the two are subject to different limits
    cluster.pass_ms(8_000)
    assert cluster.leader == other
    assert cluster.replicas[led].role is Role.STANDBY
    assert [name for name, _ in cluster.grant_log] == [other]
    assert cluster.ledger.remaining == 999  # one turn, charged once
    cluster.watch()
    assert cluster.view(led).remaining == 999


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


def test_a_plain_request_whose_hold_ends_while_a_write_is_under_way_is_known_to_the_successor():
    """Its hold leaves the ledger with the next entry, so its reply must be named there."""
    cluster = Cluster("a")
    cluster.pass_ms(1_000)
    cluster.ask(0, managed=False)
    granted_ns = cluster.now_ns
    cluster.pass_ms(2_500)
    cluster.pass_ms(1_500, deaf=("a",))
    cluster.hold_writes = True
    cluster.pass_ms(1_200, deaf=("a",))  # longer than the time between two heartbeats
    ((_, under_way),) = cluster.held
    assert len(under_way.ledger.grants) == 1
    cluster.hold_writes = False
    cluster.now_ns = granted_ns + 6_600 * MS  # the hold of 6 s is over, and the traffic was lost for a lease
    cluster.release_held()
    last = cluster.writes[-1]
    assert (last.leader, last.grants) == (None, ())
    assert [request_id for request_id, _ in last.replied or ()] == ["r0"]
