"""One process of a bot, run in a library's own environment: it says what happens, line by line, and obeys.

``python bot.py '{"front": "disnake", "kind": "AutoShardedClient", …}'``; a line ``close`` on standard input closes it.
"""

import asyncio
import json
import logging
import os
import sys
from importlib import import_module
from typing import Any

from nats_identify import NatsQueue
from nats_identify.integrations import _identify, _resume, _shard, _websocket
from nats_identify.integrations._client import QueuedClient
from nats_identify.testing.redirect import redirect


def say(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def make_bot(order: dict[str, Any]) -> QueuedClient:
    """Return the bot that the order describes."""
    if order["hide_zstd"]:
        sys.modules["zstandard"] = None  # type: ignore[assignment]  # it cannot be imported then
    if order["hurried"]:
        _shard.INVALID_SESSION_DELAY_S = (0.0, 0.1)  # type: ignore[misc]  # a test has no 5 s to wait
        _resume.ANSWER_MAX_S, _websocket.READY_MAX_S = 2.0, 5.0  # type: ignore[misc]  # nor 10 s and 60 s
        _resume.HOST_MAX_S = 2.0  # type: ignore[misc]  # nor 5 s
        _resume.RETRIES_S = _identify.RETRIES_S = (0.0, 0.1, 0.2)  # type: ignore[misc]  # nor 1 s
        _identify.AWAY_FIRST_S = 0.2  # type: ignore[misc]  # nor 1 s, 2 s, …
    redirect(order["package"], rest_url=order["rest_url"], gateway_url=order["gateway_url"])
    library = import_module(order["package"])
    kind: type[QueuedClient] = getattr(import_module(f"nats_identify.integrations.{order['front']}"), order["kind"])
    options = dict(order["options"])
    if order["kind"].endswith("Bot"):
        options["command_prefix"] = "!"
    if order["queue_object"]:
        options["queue"] = NatsQueue.connect(options["queue"], client="a queue object")
    options.setdefault("guild_ready_timeout", 0.2)  # how long `on_ready` waits for another guild; 2 s by default
    bot = kind(intents=library.Intents.default(), **options)

    async def on_ready() -> None:
        say("ready")

    async def on_shard_resumed(shard_id: int) -> None:
        say("resumed", shard_id=shard_id)

    async def on_shard_queued(shard_id: int, progress: Any) -> None:
        say("queued", shard_id=shard_id, position=progress.position, reason=progress.reason)

    decompression = getattr(library.utils, "_ActiveDecompressionContext", None)  # discord.py; the others have zlib only
    say("made", compress=getattr(decompression, "COMPRESSION_TYPE", "zlib-stream"))
    for handler in (on_ready, on_shard_resumed, on_shard_queued):
        setattr(bot, handler.__name__, handler)
    return bot


async def obey(bot: Any) -> None:
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
    bot: Any = make_bot(order)
    obeying = asyncio.ensure_future(obey(bot))
    try:
        await bot.start(os.environ["DISCORD_TOKEN"])
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
