"""One process of the demo's bot, made with a real library: its share of the shards, until SIGTERM; it judges nothing.

``python -m nats_identify.cli.demo.bots --library discord.py …``, else as `nats_identify.cli.demo.fleet`. Without the
common queue it is the library as it comes, which paces itself.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from nats_identify.cli.demo import fleet
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.testing.redirect import redirect

STOP_MAX_S: Final = 5.0
"""Time for a bot to close its connections, where it has no limit of its own."""


@asynccontextmanager
async def family(module: Any, classes: Any, token: str, **options: Any) -> AsyncIterator[Any]:  # noqa: ANN401  # a module
    """Yield what runs a bot of discord.py or its family, and close the bot at the end."""
    bot = classes.AutoShardedClient(intents=module.Intents.default(), **options)
    try:
        yield bot.start(token)
    finally:
        await bot.close()


@asynccontextmanager
async def hikari(module: Any, classes: Any, token: str, **options: Any) -> AsyncIterator[Any]:  # noqa: ANN401  # as above
    """As `family`, for hikari, which gets its shards when it starts."""
    del module
    shards = {name: options.pop(name) for name in ("shard_ids", "shard_count")}
    bot = classes.GatewayBot(token, banner=None, logs=None, suppress_optimization_warning=True, **options)

    async def run() -> None:
        await bot.start(check_for_updates=False, **shards)
        await bot.join()

    try:
        yield run()
    finally:
        if bot.is_alive:
            await bot.close()


@asynccontextmanager
async def interactions(
    module: Any,  # noqa: ANN401  # as above
    classes: Any,  # noqa: ANN401  # as above
    token: str,
    *,
    shard_count: int,
    **options: Any,  # noqa: ANN401  # as above
) -> AsyncIterator[Any]:
    """As `family`, for interactions.py."""
    del module
    bot = classes.AutoShardedClient(token=token, total_shards=shard_count, **options)
    try:
        yield bot.astart()
    finally:
        with suppress(TimeoutError):  # the library's own waits for ever for a shard that has not come up
            await asyncio.wait_for(bot.stop(), STOP_MAX_S)


@dataclass(frozen=True, slots=True)
class Library:
    """A library: how it is imported, its module in `nats_identify.integrations`, and how a bot of it is run."""

    package: str
    front: str
    running: Callable[..., AbstractAsyncContextManager[Any]] = family

    def check(self) -> Any:  # noqa: ANN401  # a module
        """Return the integration.

        Raises:
            ImportError: the library is not installed, or not in a version that was tried; the message says what to do.
        """
        return import_module(f"nats_identify.integrations.{self.front}")


LIBRARIES: Final = {
    "discord.py": Library("discord", "discord_py"),
    "disnake": Library("disnake", "disnake"),
    "nextcord": Library("nextcord", "nextcord"),
    "py-cord": Library("discord", "pycord"),
    "hikari": Library("hikari", "hikari", hikari),
    "interactions.py": Library("interactions", "interactions", interactions),
}
"""By the names that they are known by."""


def fleet_of(name: str) -> dict[str, Any]:
    """Return what to change in a `Plan`, so that its fleet is made of this library's bots.

    Raises:
        ValueError: there is no integration for such a library.
        ImportError: see `Library.check`.
    """
    if name not in LIBRARIES:
        message = f"{name} has no integration; there are those for {', '.join(LIBRARIES)}"
        raise ValueError(message)
    LIBRARIES[name].check()
    return {"fleet_module": "nats_identify.cli.demo.bots", "fleet_arguments": ("--library", name)}


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse ends the process, with a message, if it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m nats_identify.cli.demo.bots", add_help=False)
    parser.add_argument("--library", required=True, choices=LIBRARIES)
    ours, theirs = parser.parse_known_args(arguments)
    options = fleet.parse_arguments(theirs)
    options.library = LIBRARIES[ours.library]
    return options


async def be_a_bot(options: argparse.Namespace, token: str) -> None:
    """Run until cancelled, or until the bot is refused for good."""
    library: Library = options.library
    redirect(library.package, rest_url=options.api_url, gateway_url=options.gateway_url)
    module = import_module(library.package)
    shards: dict[str, Any] = {"shard_ids": options.shard_ids, "shard_count": options.shard_count}
    async with AsyncExitStack() as stack:
        classes = module
        if options.nats_url is not None:
            classes = library.check()
            common = NatsQueue.connect(options.nats_url, prefix=options.prefix, client=options.name)
            shards["queue"] = await stack.enter_async_context(common)
        await (await stack.enter_async_context(library.running(module, classes, token, **shards)))


async def run(options: argparse.Namespace, token: str) -> None:
    """Run until SIGTERM or SIGINT; then the bot closes its connections to Discord and to the queue."""
    running = asyncio.ensure_future(be_a_bot(options, token))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()  # raises what ended it


def main() -> int:
    """Return the exit status: 0 after a signal, 2 without a token."""
    options = parse_arguments(sys.argv[1:])
    token = os.environ.get("DISCORD_TOKEN")
    if not token:
        sys.stderr.write("DISCORD_TOKEN: is not set; put the bot's token into it\n")
        return 2
    asyncio.run(run(options, token))
    return 0


if __name__ == "__main__":
    sys.exit(main())
