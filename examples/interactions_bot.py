"""An interactions.py bot that waits for its turns, on one machine or in pods: the environment says which shards."""

import os

import interactions

from nats_identify import queue_from_environment, shard_options
from nats_identify.integrations.interactions import AutoShardedClient

bot = AutoShardedClient(
    token=os.environ["DISCORD_TOKEN"],
    queue=queue_from_environment,  # NATS_URL and what goes with it; the bot closes it
    close_code=4000,  # a pod that is replaced leaves its sessions resumable
    **shard_options(),  # SHARD_COUNT, by the pod's number; without it the library asks Discord
)


@interactions.listen()
async def on_ready() -> None:
    """Say that all shards are up."""
    print(f"{bot.user.username} is up with the shards {sorted(shard.shard_id for shard in bot.shards)}")


bot.start()
