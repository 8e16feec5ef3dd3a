"""Opens each contestant's queue on its own, without a bot, behind one interface; it measures nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.contestants import OURS, OURS_ALONE, Contestant
from benchmarks.peers.program_queue import program_queue
from benchmarks.stage import Cluster, run_cluster, static_limits
from nats_identify import LocalQueue, NatsQueue, Queue
from nats_identify.discord.session_limit import SessionLimit

TOTAL: Final = 1_000_000
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class OpenQueue:
    """A queue, and its nats-server and coordinator if it has them."""

    queue: Queue
    cluster: Cluster | None = None


OpenWith = Callable[[int], AbstractAsyncContextManager[OpenQueue]]
"""Takes max_concurrency."""


def opener_of(contestant: Contestant) -> OpenWith | None:
    """Return what opens this contestant's queue; None where it has none that can be used without a bot."""
    if contestant.name == OURS:
        return _ours
    if contestant.name == OURS_ALONE:
        return _ours_alone
    command = contestant.queue
    return None if command is None else lambda max_concurrency: _program(command, max_concurrency)


@asynccontextmanager
async def _ours(max_concurrency: int) -> AsyncIterator[OpenQueue]:
    async with run_cluster(static_limits(max_concurrency, TOTAL)) as cluster, NatsQueue.connect(cluster.url) as queue:
        yield OpenQueue(queue, cluster)


@asynccontextmanager
async def _ours_alone(max_concurrency: int) -> AsyncIterator[OpenQueue]:
    async with LocalQueue(max_concurrency, session_total=TOTAL) as queue:
        yield OpenQueue(queue)


@asynccontextmanager
async def _program(command: tuple[str, ...], max_concurrency: int) -> AsyncIterator[OpenQueue]:
    async with program_queue(command, SessionLimit(1, max_concurrency, TOTAL, TOTAL, DAY_MS)) as queue:
        yield OpenQueue(queue)
