"""nextcord with a queue: its four bot classes, which wait for their turn to identify; all else is the library's.

Change one base class, or the class that you make::

    from nats_identify.integrations.nextcord import AutoShardedBot

    bot = AutoShardedBot("!", intents=intents, queue="nats://127.0.0.1:4222")
"""

from nats_identify.integrations._client import OneShard, QueuedClient, adapt
from nats_identify.integrations._versions import require

require("nextcord", at_least=(2, 6), below=(2, 7), extra="nextcord")

import nextcord  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # an extra, checked first
from nextcord.ext import commands  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above

__all__ = ["AutoShardedBot", "AutoShardedClient", "Bot", "Client", "Queued"]


class Queued(QueuedClient):
    """Mix it in before any other sharded class of nextcord: ``class MyBot(Queued, TheirAutoShardedBot)``."""

    library = adapt(nextcord)


class AutoShardedClient(Queued, nextcord.AutoShardedClient):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """`nextcord.AutoShardedClient` with a queue."""


class Client(OneShard, AutoShardedClient):
    """`nextcord.Client` with a queue: one shard, ``shard_id`` of ``shard_count``."""


class AutoShardedBot(Queued, commands.AutoShardedBot):  # type: ignore[misc, unused-ignore]  # as above
    """`nextcord.ext.commands.AutoShardedBot` with a queue."""


class Bot(OneShard, AutoShardedBot):
    """`nextcord.ext.commands.Bot` with a queue: one shard, ``shard_id`` of ``shard_count``."""
