"""A hikari bot that waits for its turns, on one machine or in pods: the environment says which shards are its."""

import os

import hikari

from nats_identify import queue_from_environment, shard_options
from nats_identify.integrations.hikari import GatewayBot

bot = GatewayBot(
    os.environ["DISCORD_TOKEN"],
    queue=queue_from_environment,  # NATS_URL and what goes with it; the bot closes it
    close_code=4000,  # a pod that is replaced leaves its sessions resumable
)


@bot.listen()
async def on_started(_event: hikari.StartedEvent) -> None:
    """Say that all shards are up."""
    print(f"{bot.get_me()} is up with the shards {sorted(bot.shards)}")


bot.run(
    check_for_updates=False,  # it would ask PyPI at each start
    **shard_options(),  # SHARD_COUNT, by the pod's number; without it the library asks Discord
)
