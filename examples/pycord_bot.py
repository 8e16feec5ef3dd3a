"""A py-cord bot that waits for its turns: its class comes from another module, and that is all."""

import os

import discord

from nats_identify.integrations.pycord import AutoShardedClient

bot = AutoShardedClient(intents=discord.Intents.default(), queue=os.environ.get("NATS_URL"))


@bot.event
async def on_ready() -> None:
    """Say that all shards are up."""
    print(f"{bot.user} is up with the shards {sorted(bot.shards)}")


bot.run(os.environ["DISCORD_TOKEN"])
