"""disnake with a queue: its four bot classes, which wait for their turn to identify; all else is the library's.

Change one base class, or the class that you make::

    from nats_identify.integrations.disnake import AutoShardedBot

    bot = AutoShardedBot("!", intents=intents, queue="nats://127.0.0.1:4222")
"""

from typing import Any

from nats_identify.integrations._client import OneShard, QueuedClient, adapt
from nats_identify.integrations._versions import require

require("disnake", at_least=(2, 10), below=(2, 13), extra="disnake")

import disnake  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # an extra, checked first
from disnake.ext import commands  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above

__all__ = ["AutoShardedBot", "AutoShardedClient", "Bot", "Client", "Queued"]


class Queued(QueuedClient):
    """Mix it in before any other sharded class of disnake: ``class MyBot(Queued, TheirAutoShardedBot)``."""

    library = adapt(disnake, resume_address="resume_gateway")

    async def launch_shards(self, **options: Any) -> None:  # noqa: ANN401  # the library's own
        """Begin to launch all shards, whatever is left of the day: disnake would not start, the queue waits."""
        await super().launch_shards(**{**options, "ignore_session_start_limit": True})


class AutoShardedClient(Queued, disnake.AutoShardedClient):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """`disnake.AutoShardedClient` with a queue."""


class Client(OneShard, AutoShardedClient):
    """`disnake.Client` with a queue: one shard, ``shard_id`` of ``shard_count``."""


class AutoShardedBot(Queued, commands.AutoShardedBot):  # type: ignore[misc, unused-ignore]  # as above
    """`disnake.ext.commands.AutoShardedBot` with a queue."""


class Bot(OneShard, AutoShardedBot):
    """`disnake.ext.commands.Bot` with a queue: one shard, ``shard_id`` of ``shard_count``."""
