"""A process of bare shards behind a queue of this process alone: `LargeBotQueue`, or one of another language.

``python -m benchmarks.peers.one_process_fleet large …`` or ``… program <command> …``, then the arguments of
`nats_identify.cli.demo.fleet`. At SIGHUP another language's queue is given Discord's limits anew.
"""

import argparse
import asyncio
import os
import shlex
import signal
import sys
from contextlib import AsyncExitStack

import aiohttp

from benchmarks.peers.program_queue import program_queue
from nats_identify.cli.demo import fleet
from nats_identify.client.discord_local_queue import LargeBotQueue
from nats_identify.discord.session_limit import fetch_session_limit
from nats_identify.queue import Queue
from nats_identify.testing.codes import Op
from nats_identify.testing.shard import BareShard
from nats_identify.testing.shard_state import ShardState


async def open_queue(command: str | None, api_url: str, token: str, stack: AsyncExitStack) -> Queue:
    """Return the queue; ``command`` runs another language's, None is ours."""
    if command is None:
        queue = LargeBotQueue(token, api_url=api_url)
        stack.push_async_callback(queue.close)
        return queue
    http = await stack.enter_async_context(aiohttp.ClientSession())
    limit = await fetch_session_limit(http, token, api_url=api_url)
    theirs = await stack.enter_async_context(program_queue(shlex.split(command), limit))
    renewing: set[asyncio.Task[None]] = set()

    async def renew() -> None:
        theirs.set_limits(await fetch_session_limit(http, token, api_url=api_url))

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: renewing.add(asyncio.create_task(renew())))
    return theirs


class ShardAfterHello(BareShard):
    """A shard that asks for its turn when HELLO has come, as twilight's own does: nothing but the send is left then."""

    async def _log_in(self, http: aiohttp.ClientSession) -> bool:
        self._states.enter(ShardState.WAITING)
        link = await self._connect(http, self._gateway_url)
        async with self._queue.turn(self.shard_id):
            await link.send(Op.IDENTIFY, self._identify_data())
            self._states.enter(ShardState.IDENTIFIED)
        return await self._is_welcome(link)


async def be_a_fleet(command: str | None, options: argparse.Namespace, token: str) -> None:
    """Run the shards until cancelled."""
    async with AsyncExitStack() as stack:
        queue = await open_queue(command, options.api_url, token, stack)
        kind = BareShard if command is None else ShardAfterHello
        async with asyncio.TaskGroup() as shards:
            for shard_id in options.shard_ids:
                shard = kind(queue, shard_id, options.shard_count, options.gateway_url, token)
                shards.create_task(shard.run(), name=f"shard {shard_id}")


async def run(command: str | None, options: argparse.Namespace, token: str) -> None:
    """Run until SIGTERM or SIGINT."""
    running = asyncio.ensure_future(be_a_fleet(command, options, token))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()  # raises what ended it


if __name__ == "__main__":
    is_large = sys.argv[1] == "large"
    arguments = sys.argv[2:] if is_large else sys.argv[3:]
    asyncio.run(run(None if is_large else sys.argv[2], fleet.parse_arguments(arguments), os.environ["DISCORD_TOKEN"]))
