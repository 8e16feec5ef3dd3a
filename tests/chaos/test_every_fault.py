"""Five hundred waiting shards through every fault: judged by the simulated Discord, the shards' answers, the ledger."""

from typing import Any

import pytest

from tests.chaos import faults
from tests.chaos.discord import running_discord
from tests.chaos.faults import Stage
from tests.chaos.figures import REPETITIONS
from tests.chaos.judge import (
    demand_exact_budget,
    demand_served_once_and_in_order,
    recording_pods,
    watched_ledger,
)
from tests.chaos.nats_cluster import running_cluster
from tests.chaos.ordeal import asking_fleet, go_through
from tests.chaos.replicas import WINDOW_S, running_replicas

pytestmark = pytest.mark.slow

SHARDS = 500
PODS = 8
MAX_CONCURRENCY = 16
TOTAL = 2_000
SETTINGS: dict[str, Any] = {
    "IDENTIFY_FRESH_START": "0",  # every bucket is held until all have asked
    # An unanswered grant outlives the lease, as with the product's defaults: a successor finds it, and gives it again.
    "IDENTIFY_USE_WITHIN": "5",
    "IDENTIFY_MARGIN": "0.2",  # the product's default: this one process is 500 shards
    "IDENTIFY_MAX_CONCURRENCY": str(MAX_CONCURRENCY),
    "IDENTIFY_SESSION_TOTAL": str(TOTAL),
}
PROCESSES_FAIL = (
    faults.sigterm_of_the_leader,
    faults.sigkill_of_the_leader,
    faults.sigstop_of_the_leader_past_its_lease,
    faults.rolling_restart,
)
EVERYTHING_FAILS = (
    faults.sigkill_of_all_coordinators,
    faults.sigkill_of_the_stream_leader,
    faults.nats_cut_off_and_healed,
    faults.deletion_of_the_ledger,
)


@pytest.mark.parametrize("_repetition", range(REPETITIONS))
@pytest.mark.parametrize("troubles", [PROCESSES_FAIL, EVERYTHING_FAILS], ids=["processes fail", "everything fails"])
async def test_every_shard_is_served_once_and_in_order(tmp_path, troubles, _repetition):
    async with (
        running_discord(max_concurrency=MAX_CONCURRENCY, total=TOTAL, shards=SHARDS, window_s=WINDOW_S) as gateway,
        running_cluster(tmp_path) as cluster,
        running_replicas(tmp_path, cluster.url, **SETTINGS) as replicas,
        watched_ledger(cluster.urls) as ledger,
        recording_pods(cluster.urls, PODS) as (queues, deeds),
        asking_fleet(queues, gateway, SHARDS),
    ):
        print(
            f"\n{SHARDS} shards in {PODS} pods, {MAX_CONCURRENCY} at a time, window {WINDOW_S:g} s,"
            " 3 nats-servers, 3 coordinators"
        )
        report = await go_through(Stage(replicas, cluster), gateway, SHARDS, troubles)
        smallest_s = min(report.smallest_gap_s.values())
        print(f"  {report.identifies} IDENTIFYs, {report.violations} violations, smallest gap {smallest_s:.3f} s")
        demand_served_once_and_in_order(gateway, SHARDS, MAX_CONCURRENCY, deeds, ledger)
        await ledger.until_settled()
        print(f"  {ledger.summary()}")
        ledger.demand_one_leader_in_each_term()
        demand_exact_budget(deeds, ledger, total=TOTAL, shards=SHARDS, unanswered_most=MAX_CONCURRENCY)
