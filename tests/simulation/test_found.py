"""What the simulation found in the product, each history by hand: told in a few lines, it stays found."""

from coordinator.core import ledger as words
from nats_identify.schedule.model import SECOND, Timing
from tests.unit.cluster import Cluster


def test_a_plain_grant_that_is_committed_again_holds_its_bucket_from_the_second_commit():
    """A successor kept the stamp of the first commit, and opened the bucket a second early."""
    timing = Timing(grace_ns=SECOND)
    cluster = Cluster("a", "b", timing=timing)
    cluster.pass_ms(2_000)
    cluster.hold_writes = True
    cluster.ask(0, managed=False)
    cluster.hold_writes = False
    cluster.frozen.add("a")
    cluster.release_held()  # the write is done, and b sees it; a hears nothing for most of a second
    cluster.frozen.clear()
    cluster.pass_ms(900)
    cluster.tell("a", words.WriteUnsettled())
    assert [body.shard_id for _, body in cluster.grant_log] == [0]  # after a second commit
    granted_ns = cluster.now_ns
    cluster.kill("a")
    cluster.ask(1, managed=False)
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(10)
    assert cluster.now_ns - granted_ns >= timing.plain_hold_ns
