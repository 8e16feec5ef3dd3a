"""What can befall a running cluster, each fault with its healing. Nothing is judged here."""

import asyncio
import signal
from dataclasses import dataclass

from nats.js.errors import APIError

from tests.chaos.fleet import sleep_s
from tests.chaos.nats_cluster import NatsCluster
from tests.chaos.replicas import LEASE_S, Replicas
from tests.processes import until

FROZEN_S = LEASE_S + 1.5
CUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What faults happen to; the cluster where NATS itself is to fail."""

    replicas: Replicas
    cluster: NatsCluster | None = None


async def sigterm_of_the_leader(stage):
    leader = await stage.replicas.leader()
    assert await leader.end() == 0
    await leader.start_again()


async def sigkill_of_the_leader(stage):
    leader = await stage.replicas.leader()
    await leader.end(signal.SIGKILL)
    await leader.start_again()


async def sigstop_of_the_leader_past_its_lease(stage):
    leader = await stage.replicas.leader()
    leader.freeze()
    await sleep_s(FROZEN_S)
    leader.thaw()
    await leader.until_ready()


async def rolling_restart(stage):
    """As a cluster does it: the next one goes when the one before is ready again."""
    for replica in stage.replicas:
        assert await replica.end() == 0
        await replica.start_again()


async def sigkill_of_all_coordinators(stage):
    await asyncio.gather(*(replica.end(signal.SIGKILL) for replica in stage.replicas))
    await asyncio.gather(*(replica.start_again() for replica in stage.replicas))


async def sigkill_of_the_stream_leader(stage):
    name = await stage.cluster.until_whole()
    await stage.cluster.servers[name].kill()
    await until(stage.cluster.has_a_leader, "the stream has a leader again")
    await stage.cluster.servers[name].start()
    await stage.replicas.until_all_ready()


async def nats_cut_off_and_healed(stage):
    stage.cluster.freeze()
    await sleep_s(CUT_S)
    stage.cluster.thaw()
    await stage.cluster.until_whole()
    await stage.replicas.until_all_ready()


async def deletion_of_the_ledger(stage):
    async def is_deleted():
        try:
            keys = await stage.cluster.client.jetstream().key_value("identify")
            return await keys.delete("ledger")
        except (APIError, TimeoutError):  # the stream has just changed its leader
            return False

    await until(is_deleted, "the key is deleted")
    await stage.replicas.leader()
