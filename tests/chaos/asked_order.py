"""Turns of one process, and the order in which they were asked and granted. It judges nothing itself."""

import asyncio
import signal
from itertools import pairwise

from nats_identify import NatsQueue
from tests.chaos.replicas import running_replicas

SETTINGS = {
    "IDENTIFY_WINDOW": "0.5",  # time for renewals, each of which tells anew how long its request has waited
    "IDENTIFY_MARGIN": "0.02",
    "IDENTIFY_LEASE": "0.5",
    "IDENTIFY_MAX_CONCURRENCY": "10",
    "IDENTIFY_USE_WITHIN": "5",  # nobody is passed over because this machine is busy
}
BUCKETS = 10
USE_WITHIN_S = 2
"""After a restart of all coordinators every bucket is shut for so long, and a window: it is waited for often."""


class Fleet:
    """Shards of one queue, asked for in order, each identifying as soon as it is granted."""

    def __init__(self, queue: NatsQueue, shards: range):
        self.granted: list[int] = []
        self._queue = queue
        self._shards = shards

    def ask(self) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._turn(shard_id)) for shard_id in self._shards]

    async def _turn(self, shard_id: int) -> None:
        async with self._queue.turn(shard_id):
            self.granted.append(shard_id)


def swaps(order: list[int]) -> int:
    """How many neighbours stand the wrong way round."""
    return sum(1 for first, second in pairwise(order) if first > second)


async def swaps_of_fresh_queues(url: str, *, runs: int, turns: int) -> list[int]:
    """Ask for some turns at once on a fresh queue, again and again; return the swaps of each run.

    So many runs as there are buckets go on at the same time, each in a bucket of its own.
    """

    async def run(bucket: int) -> int:
        async with NatsQueue.connect(url) as queue:
            fleet = Fleet(queue, range(bucket, BUCKETS * turns, BUCKETS))
            await asyncio.gather(*fleet.ask())
            assert len(fleet.granted) == turns
            return swaps(fleet.granted)

    found: list[int] = []
    while len(found) < runs:
        found += await asyncio.gather(*(run(bucket) for bucket in range(min(BUCKETS, runs - len(found)))))
    return found


async def swaps_over_restarts(folder, url: str, *, restarts: int, shards: int, until_served) -> int:
    """Kill and start both coordinators again and again while shards of one process wait; return the swaps."""
    short = {"IDENTIFY_WINDOW": "0.1", "IDENTIFY_USE_WITHIN": str(USE_WITHIN_S), "IDENTIFY_MAX_CONCURRENCY": "1"}
    settings = {**SETTINGS, **short}
    async with running_replicas(folder, url, count=2, **settings) as replicas, NatsQueue.connect(url) as queue:
        fleet = Fleet(queue, range(shards))
        waiting = fleet.ask()
        for restart in range(restarts):
            wanted = (restart + 1) * shards // (restarts + 2)

            async def is_served(wanted=wanted):
                return len(fleet.granted) >= wanted

            await until_served(is_served, f"{wanted} are served before restart {restart + 1}")
            assert len(fleet.granted) < shards
            for member in replicas:
                member.process.send_signal(signal.SIGKILL)
            for member in replicas:
                await member.ended()
                await member.start()
        await asyncio.gather(*waiting)
        assert sorted(fleet.granted) == list(range(shards))
        return swaps(fleet.granted)
