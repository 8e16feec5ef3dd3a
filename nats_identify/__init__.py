"""One IDENTIFY queue for all shards of a Discord bot. It never imports the coordinator that serves it."""

from importlib.metadata import PackageNotFoundError, version

from nats_identify.client.discord_local_queue import LargeBotQueue
from nats_identify.client.environment import WrongEnvironmentError, queue_from_environment
from nats_identify.client.local_queue import LocalQueue
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.client.shards import Shards, shard_options, shards_of_pod
from nats_identify.queue import Grant, OnProgress, Progress, Queue, QueueClosedError, Turn
from nats_identify.reason import Reason

try:
    __version__: str = version("nats-identify")  # pyproject.toml is the one place that says it
except PackageNotFoundError:  # a copy of the source that is not installed
    __version__ = "0+unknown"

__all__ = [
    "Grant",
    "LargeBotQueue",
    "LocalQueue",
    "NatsQueue",
    "OnProgress",
    "Progress",
    "Queue",
    "QueueClosedError",
    "Reason",
    "Shards",
    "Turn",
    "WrongEnvironmentError",
    "__version__",
    "queue_from_environment",
    "shard_options",
    "shards_of_pod",
]
