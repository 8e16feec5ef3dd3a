"""Waiting shards, and one fault after the other while they wait. It prints what each cost, and judges nothing."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import pairwise

from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.testing import BareShard, ShardState
from nats_identify.testing.events import Identified
from tests.chaos.fleet import TOKEN

SPACING_S = 0.008
SERVED_WITHIN_S = 90  # longer than the slowest renewal


@asynccontextmanager
async def asking_fleet(queues, gateway, count):
    """All shards, asking one after the other, in one pod and the next. Where it goes wrong, they say where they are.

    Each asks when the request of the one before has arrived: so the order in which they ask is the order of service.
    """
    shards = []
    async with AsyncExitStack() as stack:
        for number in range(count):
            arrived = asyncio.Event()
            shard = BareShard(
                *(queues[number % len(queues)], number, count, gateway.ws_url, TOKEN),
                on_state=partial(_granted, arrived),
                on_progress=partial(_queued, arrived),
            )
            shards.append(await stack.enter_async_context(shard))
            await asyncio.wait_for(arrived.wait(), SERVED_WITHIN_S)
            await asyncio.sleep(SPACING_S)  # once all coordinators are gone, places are as exact as messages are quick
        try:
            yield
        except (TimeoutError, AssertionError):
            down = {shard.shard_id: str(shard.state) for shard in shards if shard.state is not ShardState.UP}
            print("  not up:", down)
            raise


def _granted(arrived, _shard_id, state):
    if state is ShardState.GRANTED:
        arrived.set()


def _queued(arrived, progress):
    if progress.position is not None:
        arrived.set()


async def go_through(stage, gateway, count, troubles):
    """Let the faults happen, spread over the whole time in which shards wait, until all are served."""
    told = []
    for number, fault in enumerate(troubles):
        due = count * (number + 1) // (len(troubles) + 1)
        await gateway.until(lambda report, due=due: report.identifies >= due, within_s=SERVED_WITHIN_S)
        began_ns = now_ns()
        await fault(stage)
        told.append((fault.__name__.replace("_", " "), began_ns, now_ns()))
    report = await gateway.until(lambda report: report.ready >= count, within_s=SERVED_WITHIN_S)
    instants = [event.at_ns for event in gateway.record.of(Identified)]
    ends_ns = [began_ns for _, began_ns, _ in told[1:]] + [now_ns()]
    for (what, began_ns, healed_ns), end_ns in zip(told, ends_ns, strict=True):
        seen = [began_ns, *(at_ns for at_ns in instants if began_ns < at_ns < end_ns)]
        silence_s = max((after - before for before, after in pairwise(seen)), default=0) / NS_PER_S
        meanwhile = sum(at_ns < healed_ns for at_ns in seen) - 1
        healed_s = (healed_ns - began_ns) / NS_PER_S
        print(
            f"  {what}: longest silence {silence_s:.2f} s; healed after {healed_s:.1f} s, {meanwhile} served meanwhile"
        )
    return report
