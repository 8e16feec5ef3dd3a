"""One process of the demo's bot: its share of the shards, until SIGTERM; it shows nothing and judges nothing.

``python -m nats_identify.cli.demo.fleet``; any other module that takes the same arguments, and the bot's token in
the environment variable ``DISCORD_TOKEN``, can take its place.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

from nats_identify.client.local_queue import LocalQueue
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.queue import Queue
from nats_identify.testing.shard import BareShard


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse ends the process, with a message, if it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m nats_identify.cli.demo.fleet", description=__doc__)
    parser.add_argument("--name", required=True, help="of this process, for people")
    parser.add_argument("--shard-ids", required=True, type=_numbers, help="its own, as in 0,3,6")
    parser.add_argument("--shard-count", required=True, type=int, help="of the whole bot")
    parser.add_argument("--api-url", required=True, help="Discord's REST API")
    parser.add_argument("--gateway-url", required=True, help="Discord's gateway, for a fleet that does not use the API")
    parser.add_argument("--max-concurrency", required=True, type=int, help="for a fleet that does not use the API")
    parser.add_argument("--window-s", required=True, type=float, help="how far apart one bucket's must be")
    parser.add_argument("--nats-url", help="the common queue; without it this process paces itself")
    parser.add_argument("--prefix", default="identify", help="of the common queue's subjects")
    return parser.parse_args(arguments)


async def open_queue(options: argparse.Namespace, stack: AsyncExitStack) -> Queue:
    """Return the common queue, or one that knows this process alone, as bot libraries pace themselves."""
    if options.nats_url is not None:
        common = NatsQueue.connect(options.nats_url, prefix=options.prefix, client=options.name)
        return await stack.enter_async_context(common)
    alone = LocalQueue(options.max_concurrency, window_s=options.window_s)
    stack.push_async_callback(alone.close)
    return alone


async def be_a_fleet(options: argparse.Namespace, token: str) -> None:
    """Run the shards until cancelled, or until one of them is refused for good."""
    async with AsyncExitStack() as stack:
        queue = await open_queue(options, stack)
        async with asyncio.TaskGroup() as shards:
            for shard_id in options.shard_ids:
                shard = BareShard(queue, shard_id, options.shard_count, options.gateway_url, token)
                shards.create_task(shard.run(), name=f"shard {shard_id}")


async def run(options: argparse.Namespace, token: str) -> None:
    """Run until SIGTERM or SIGINT; then every shard closes its connections to Discord and to the queue."""
    fleet = asyncio.ensure_future(be_a_fleet(options, token))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, fleet.cancel)
    await asyncio.wait({fleet})
    if not fleet.cancelled():
        fleet.result()  # raises what ended it


def main() -> int:
    """Return the exit status: 0 after a signal, 2 without a token."""
    options = parse_arguments(sys.argv[1:])
    token = os.environ.get("DISCORD_TOKEN")
    if not token:
        sys.stderr.write("DISCORD_TOKEN: is not set; put the bot's token into it\n")
        return 2
    asyncio.run(run(options, token))
    return 0


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
