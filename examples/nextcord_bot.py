"""A nextcord bot that waits for its turns, on one machine or in pods: the environment says which shards are its."""

import os

import nextcord

from nats_identify import queue_from_environment, shard_options
from nats_identify.integrations.nextcord import AutoShardedClient

bot = AutoShardedClient(
    intents=nextcord.Intents.default(),
    queue=queue_from_environment,  # NATS_URL and what goes with it; the bot closes it
    close_code=4000,  # a pod that is replaced leaves its sessions resumable
    **shard_options(),  # SHARD_COUNT, by the pod's number; without it the library asks Discord
)


@bot.event
async def on_ready() -> None:
    """Say that all shards are up."""
    print(f"{bot.user} is up with the shards {sorted(bot.shards)}")


bot.run(os.environ["DISCORD_TOKEN"])
