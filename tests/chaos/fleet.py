"""A fleet of bare shards over one queue, in the order in which they asked. It judges nothing; the gateway does."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from nats_identify import NatsQueue, Progress, Reason
from nats_identify.testing import BareShard, ShardState, SimulatedGateway
from nats_identify.testing.events import Identified
from tests.processes import until

TOKEN = "chaos-token"  # noqa: S105  # of a simulated bot


class Fleet:
    """Shards that ask one after the other, so that their order is known."""

    def __init__(self, queue: NatsQueue, gateway: SimulatedGateway, count: int):
        self.queue = queue
        self.gateway = gateway
        self.count = count
        self.positions: dict[int, int | None] = {}
        self.reasons: dict[int, Reason] = {}
        self.shards: list[BareShard] = []

    async def ask_in_order(self, stack: AsyncExitStack):
        """Start every shard when the one before stands in the queue, or is through."""
        for shard_id in range(self.count):
            shard = BareShard(
                self.queue,
                shard_id,
                self.count,
                self.gateway.ws_url,
                TOKEN,
                on_progress=partial(self._note, shard_id),
            )
            self.shards.append(await stack.enter_async_context(shard))
            await until(partial(self._is_known, shard_id), f"shard {shard_id} stands in the queue")

    def _note(self, shard_id: int, progress: Progress) -> None:
        self.positions[shard_id] = progress.position
        self.reasons[shard_id] = progress.reason

    async def _is_known(self, shard_id):
        is_through = self.shards[shard_id].state in {ShardState.IDENTIFIED, ShardState.UP}
        return is_through or self.positions.get(shard_id) is not None

    def up(self):
        return sum(shard.state is ShardState.UP for shard in self.shards)

    def identified(self):
        return [event.shard_id for event in self.gateway.record.of(Identified)]


@asynccontextmanager
async def fleet_of(count, url, gateway, **options):
    """A fleet that has asked, in order."""
    async with NatsQueue.connect(url, **options) as queue, AsyncExitStack() as stack:
        fleet = Fleet(queue, gateway, count)
        await fleet.ask_in_order(stack)
        yield fleet


async def sleep_s(duration_s):
    """Let a fault last; a chaos test is allowed to say how long."""
    await asyncio.sleep(duration_s)  # the length of a fault, not a wait for something
