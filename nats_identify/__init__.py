"""One IDENTIFY queue for all shards of a Discord bot. It never imports the coordinator that serves it."""

from nats_identify.large import LargeBotQueue
from nats_identify.local import LocalQueue
from nats_identify.queue import Grant, Progress, Queue, QueueClosedError, Turn
from nats_identify.remote import NatsQueue

__all__ = ["Grant", "LargeBotQueue", "LocalQueue", "NatsQueue", "Progress", "Queue", "QueueClosedError", "Turn"]
