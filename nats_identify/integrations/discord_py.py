"""discord.py with a queue: its four bot classes, which wait for their turn to identify; all else is the library's.

Change one base class, or the class that you make::

    from nats_identify.integrations.discord_py import AutoShardedBot

    bot = AutoShardedBot("!", intents=intents, queue="nats://127.0.0.1:4222")
"""

from nats_identify.integrations._client import OneShard, QueuedClient, adapt
from nats_identify.integrations._versions import require

require("discord.py", at_least=(2, 4), below=(2, 8), extra="discord", rivals=("py-cord",))

import discord  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # an extra, checked first
from discord.ext import commands  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above

__all__ = ["AutoShardedBot", "AutoShardedClient", "Bot", "Client", "Queued"]


class Queued(QueuedClient):
    """Mix it in before any other sharded class of discord.py: ``class MyBot(Queued, TheirAutoShardedBot)``."""

    library = adapt(discord, resume_address="gateway")


class AutoShardedClient(Queued, discord.AutoShardedClient):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """`discord.AutoShardedClient` with a queue."""


class Client(OneShard, AutoShardedClient):
    """`discord.Client` with a queue: one shard, ``shard_id`` of ``shard_count``."""


class AutoShardedBot(Queued, commands.AutoShardedBot):  # type: ignore[misc, unused-ignore]  # as above
    """`discord.ext.commands.AutoShardedBot` with a queue."""


class Bot(OneShard, AutoShardedBot):
    """`discord.ext.commands.Bot` with a queue: one shard, ``shard_id`` of ``shard_count``."""
