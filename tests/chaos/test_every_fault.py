"""Five hundred waiting shards through every fault: judged by the simulated Discord, the shards' answers, the ledger."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import pytest

from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.testing import BareShard, ShardState, SimulatedGateway
from nats_identify.testing.events import Identified
from tests.chaos import faults
from tests.chaos.faults import Stage
from tests.chaos.fleet import TOKEN
from tests.chaos.judge import (
    RecordingQueue,
    demand_exact_budget,
    demand_served_once_and_in_order,
    watched_ledger,
)
from tests.chaos.nats_cluster import running_cluster
from tests.chaos.replicas import WINDOW_S, running_replicas
from tests.processes import until

pytestmark = pytest.mark.slow

SHARDS = 500
MAX_CONCURRENCY = 16
TOTAL = 2_000
SPACING_S = 0.003
SERVED_WITHIN_S = 90  # longer than the slowest renewal
SETTINGS = {
    "IDENTIFY_MARGIN": "0.2",  # the product's default: this one process is 500 shards and Discord at once
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


@asynccontextmanager
async def asking_fleet(queue, gateway):
    """All shards, asking one after the other; where it goes wrong, those that are not up say where they stand."""
    shards = [BareShard(queue, shard_id, SHARDS, gateway.ws_url, TOKEN) for shard_id in range(SHARDS)]
    async with AsyncExitStack() as stack:
        for shard in shards:
            await stack.enter_async_context(shard)
            await asyncio.sleep(SPACING_S)  # the order in which they ask is the order in which they are served
        try:
            yield
        except (TimeoutError, AssertionError):
            print(
                "  not up:", {shard.shard_id: str(shard.state) for shard in shards if shard.state is not ShardState.UP}
            )
            raise


async def go_through(stage, gateway, troubles):
    """One fault after the other, spread over the whole time in which shards wait; print what each cost."""

    def identified():
        return [event.at_ns for event in gateway.record.of(Identified)]

    for number, fault in enumerate(troubles):
        served = SHARDS * (number + 1) // (len(troubles) + 1)

        await gateway.until(lambda report, served=served: report.identifies >= served, within_s=SERVED_WITHIN_S)
        began_ns = now_ns()
        await fault(stage)
        healed_s = (now_ns() - began_ns) / NS_PER_S
        seen, most = len(later(identified(), began_ns)), min(len(identified()), SHARDS - 1)
        await gateway.until(lambda report, most=most: report.identifies > most, within_s=SERVED_WITHIN_S)
        silence_ns = max(after - before for before, after in pairwise([began_ns, *later(identified(), began_ns)]))
        what = fault.__name__.replace("_", " ")
        print(f"  {what}: longest silence {silence_ns / NS_PER_S:.2f} s; healed after {healed_s:.1f} s, {seen} served")


def later(instants, since_ns):
    return [at_ns for at_ns in instants if at_ns > since_ns]


@pytest.mark.parametrize(
    ("troubles", "unanswered_most"),
    [(PROCESSES_FAIL, 0), (EVERYTHING_FAILS, MAX_CONCURRENCY)],
    ids=["processes fail", "everything fails"],
)
async def test_every_shard_is_served_once_and_in_order(tmp_path, troubles, unanswered_most):
    async with (
        SimulatedGateway(MAX_CONCURRENCY, TOTAL, window_s=WINDOW_S, shards=SHARDS) as gateway,
        running_cluster(tmp_path) as cluster,
        running_replicas(tmp_path, cluster.url, **SETTINGS) as replicas,
        watched_ledger(cluster.urls) as ledger,
        RecordingQueue.connect(cluster.urls) as queue,
        asking_fleet(queue, gateway),
    ):
        print(f"\n{SHARDS} shards, {MAX_CONCURRENCY} at a time, window {WINDOW_S:g} s, 3 nats-servers, 3 coordinators")
        await go_through(Stage(cluster, replicas), gateway, troubles)
        report = await gateway.until(lambda report: report.ready >= SHARDS, within_s=SERVED_WITHIN_S)
        smallest_s = min(report.smallest_gap_s.values())
        print(f"  {report.identifies} IDENTIFYs, {report.violations} violations, smallest gap {smallest_s:.3f} s")
        demand_served_once_and_in_order(gateway, SHARDS, MAX_CONCURRENCY)
        await until(lambda: is_settled(ledger), "the last commit is seen")
        print(f"  {ledger.summary()}")
        ledger.demand_one_leader_in_each_term()
        demand_exact_budget(queue, ledger, total=TOTAL, shards=SHARDS, unanswered_most=unanswered_most)


async def is_settled(ledger):
    """No grant is live any more: what was to be given back has been."""
    return not ledger.live
