"""One process of a bot, run in a library's own environment: it says what happens, line by line, and obeys.

``python bot.py '{"front": "disnake", "kind": "AutoShardedClient", …}'``; a line ``close`` on standard input closes it.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nats_identify import NatsQueue
from nats_identify.integrations import _identify, _resume, _shard, _websocket
from nats_identify.testing.redirect import redirect


def say(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Bot:
    """A bot of any library: what `run` and `obey` need of it."""

    start: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    is_closed: Callable[[], bool]


def prepare(order: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the bot's class and its options, with everything hurried that would take a test long."""
    if order["hide_zstd"]:
        for name in ("zstandard", "backports.zstd"):
            sys.modules[name] = None  # type: ignore[assignment]  # it cannot be imported then
    if order["hurried"]:
        _shard.INVALID_SESSION_DELAY_S = (0.0, 0.1)  # type: ignore[misc]  # a test has no 5 s to wait
        _resume.ANSWER_MAX_S, _websocket.READY_MAX_S = 2.0, 5.0  # type: ignore[misc]  # nor 10 s and 60 s
        _resume.HOST_MAX_S = 2.0  # type: ignore[misc]  # nor 5 s
        _resume.RETRIES_S = _identify.RETRIES_S = (0.0, 0.1, 0.2)  # type: ignore[misc]  # nor 1 s
        _identify.AWAY_FIRST_S = 0.2  # type: ignore[misc]  # nor 1 s, 2 s, …
    redirect(order["package"], rest_url=order["rest_url"], gateway_url=order["gateway_url"])
    kind = getattr(import_module(f"nats_identify.integrations.{order['front']}"), order["kind"])
    options = dict(order["options"])
    if order["queue_object"]:
        options["queue"] = NatsQueue.connect(options["queue"], client="a queue object")
    return kind, options


def say_queued(shard_id: int, progress: Any) -> None:
    say("queued", shard_id=shard_id, position=progress.position, reason=progress.reason)


def make_family(order: dict[str, Any], token: str) -> Bot:
    """One of discord.py and its family."""
    kind, options = prepare(order)
    library = import_module(order["package"])
    if order["kind"].endswith("Bot"):
        options["command_prefix"] = "!"
    options.setdefault("guild_ready_timeout", 0.2)  # how long `on_ready` waits for another guild; 2 s by default
    bot = kind(intents=library.Intents.default(), **options)

    async def on_ready() -> None:
        say("ready")

    async def on_shard_resumed(shard_id: int) -> None:
        say("resumed", shard_id=shard_id)

    async def on_shard_queued(shard_id: int, progress: Any) -> None:
        say_queued(shard_id, progress)

    decompression = getattr(library.utils, "_ActiveDecompressionContext", None)  # discord.py; the others have zlib only
    say("made", compress=getattr(decompression, "COMPRESSION_TYPE", "zlib-stream"))
    for handler in (on_ready, on_shard_resumed, on_shard_queued):
        setattr(bot, handler.__name__, handler)
    return Bot(lambda: bot.start(token), bot.close, bot.is_closed)


def make_hikari(order: dict[str, Any], token: str) -> Bot:
    """A bot of hikari; it is told its shards when it starts."""
    kind, options = prepare(order)
    hikari: Any = import_module("hikari")
    shards = {name: options.pop(name) for name in ("shard_ids", "shard_count") if name in options}
    bot = kind(token, banner=None, logs=None, **options)

    async def on_ready(_event: Any) -> None:
        say("ready")

    async def on_resumed(event: Any) -> None:
        say("resumed", shard_id=event.shard.id)

    async def on_queued(event: Any) -> None:
        say_queued(event.shard.id, event.progress)

    compression = import_module("hikari.impl.shard")._DEFAULT_COMPRESS_TYPE
    say("made", compress=f"{compression.value}".removeprefix("transport_").replace("_", "-"))
    bot.subscribe(hikari.StartedEvent, on_ready)
    bot.subscribe(hikari.ShardResumedEvent, on_resumed)
    bot.subscribe(import_module(kind.__module__).ShardQueuedEvent, on_queued)

    async def start() -> None:
        await bot.start(check_for_updates=False, **shards)
        if bot.is_alive:
            await bot.join()

    return Bot(start, bot.close, lambda: not bot.is_alive)


def make_interactions(order: dict[str, Any], token: str) -> Bot:
    """A bot of interactions.py."""
    kind, options = prepare(order)
    front: Any = import_module(f"nats_identify.integrations.{order['front']}")
    library: Any = import_module("interactions")
    bot = kind(token=token, sync_interactions=False, **options)
    bot.guild_event_timeout = 0.2  # how long `Ready` waits for another guild; 3 s by default

    async def on_ready(_event: Any) -> None:
        say("ready")

    async def on_queued(event: Any) -> None:
        say_queued(event.shard_id, event.progress)

    def came_alive(connection: Any) -> None:
        noted(connection)
        if connection._is_resuming:  # the library's `Resume` does not say which shard
            say("resumed", shard_id=connection.shard_id)

    noted, front.Connection.came_alive = front.Connection.came_alive, came_alive
    bot.add_listener(library.Listener.create("ready")(on_ready))
    bot.add_listener(library.Listener.create("shard_queued")(on_queued))
    is_stopped = False

    async def stop() -> None:
        nonlocal is_stopped
        is_stopped = True
        await bot.stop()

    say("made", compress="zlib-stream")
    return Bot(bot.astart, stop, lambda: is_stopped)


MAKERS = {"hikari": make_hikari, "interactions": make_interactions}


async def obey(bot: Bot) -> None:
    """Do what standard input says."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().strip():
        if line == "close":
            begun_s = loop.time()
            await bot.close()
            say("closed", within_s=loop.time() - begun_s)


async def run(order: dict[str, Any]) -> None:
    bot = MAKERS.get(order["front"], make_family)(order, os.environ["DISCORD_TOKEN"])
    obeying = asyncio.ensure_future(obey(bot))
    try:
        await bot.start()
        say("ended")
    except Exception as error:
        say("failed", error=type(error).__name__, code=getattr(error, "code", None))
        raise
    finally:
        await asyncio.wait({obeying}, timeout=0)
        if not bot.is_closed():
            await bot.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(run(json.loads(sys.argv[1])))
