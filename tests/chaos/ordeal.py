"""Waiting shards, and one fault after the other while they wait. It prints what each cost, and judges nothing."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.testing import BareShard, ShardState
from nats_identify.testing.events import Identified
from tests.chaos.fleet import TOKEN

SPACING_S = 0.003
SERVED_WITHIN_S = 90  # longer than the slowest renewal


@asynccontextmanager
async def asking_fleet(queue, gateway, count):
    """All shards, asking one after the other; where it goes wrong, those that are not up say where they stand."""
    shards = [BareShard(queue, shard_id, count, gateway.ws_url, TOKEN) for shard_id in range(count)]
    async with AsyncExitStack() as stack:
        for shard in shards:
            await stack.enter_async_context(shard)
            await asyncio.sleep(SPACING_S)  # the order in which they ask is the order in which they are served
        try:
            yield
        except (TimeoutError, AssertionError):
            down = {shard.shard_id: str(shard.state) for shard in shards if shard.state is not ShardState.UP}
            print("  not up:", down)
            raise


async def go_through(stage, gateway, count, troubles):
    """Let the faults happen, spread over the whole time in which shards wait, until all are served."""

    def identified_since(instant_ns):
        return [event.at_ns for event in gateway.record.of(Identified) if event.at_ns > instant_ns]

    for number, fault in enumerate(troubles):
        due = count * (number + 1) // (len(troubles) + 1)
        await gateway.until(lambda report, due=due: report.identifies >= due, within_s=SERVED_WITHIN_S)
        began_ns = now_ns()
        await fault(stage)
        healed_s = (now_ns() - began_ns) / NS_PER_S
        meanwhile, most = len(identified_since(began_ns)), min(len(identified_since(0)), count - 1)
        await gateway.until(lambda report, most=most: report.identifies > most, within_s=SERVED_WITHIN_S)
        instants = [began_ns, *identified_since(began_ns)]
        silence_s = max((after - before for before, after in pairwise(instants)), default=0) / NS_PER_S
        what = fault.__name__.replace("_", " ")
        print(
            f"  {what}: longest silence {silence_s:.2f} s; healed after {healed_s:.1f} s, {meanwhile} served meanwhile"
        )
    return await gateway.until(lambda report: report.ready >= count, within_s=SERVED_WITHIN_S)
