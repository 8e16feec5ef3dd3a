"""A fleet whose shards never ask the queue: it takes the demo's arguments, and identifies at once."""

import asyncio
import os
import sys

from nats_identify.cli.demo.fleet import parse_arguments
from nats_identify.testing import BareShard


async def main() -> None:
    options = parse_arguments(sys.argv[1:])
    token = os.environ["DISCORD_TOKEN"]
    async with asyncio.TaskGroup() as shards:
        for shard_id in options.shard_ids:
            shard = BareShard(
                *(None, shard_id, options.shard_count, options.gateway_url, token),
                invalid_session_delay_s=(0.2, 1),
            )
            shards.create_task(shard.run())


if __name__ == "__main__":
    asyncio.run(main())
