"""What a program does that the kit for clients judges (docs/protocol.md), here with the queue of the library."""

import asyncio
import os
import signal

from nats_identify import NatsQueue


async def bring_up(queue: NatsQueue, shard_id: int) -> None:
    """Take one turn; where a bot sends IDENTIFY to Discord, this prints that it does."""
    async with queue.turn(shard_id):
        print(f"identify {shard_id}", flush=True)


async def main() -> None:
    """Bring up every shard of the environment, and stay until SIGTERM: copies of a grant may still come."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with NatsQueue.connect(os.environ["NATS_URL"], prefix=os.environ["IDENTIFY_PREFIX"]) as queue:
        shards = [asyncio.create_task(bring_up(queue, int(one))) for one in os.environ["SHARD_IDS"].split(",")]
        await ended.wait()
    for shard in shards:
        shard.cancel()


asyncio.run(main())
