"""Where a bare shard can be on its way, and how it can fail for good; it never moves a shard."""

from collections.abc import Callable
from enum import StrEnum


class ShardState(StrEnum):
    """Where a shard is on its way."""

    WAITING = "waiting"  # asked the queue
    NEAR = "near"  # the turn is near: connecting, or connected
    GRANTED = "granted"  # about to send IDENTIFY
    IDENTIFIED = "identified"  # sent
    REJECTED = "rejected"  # Invalid Session was the answer
    UP = "up"  # READY or RESUMED
    RESUMING = "resuming"  # lost the connection, not the session
    REFUSED = "refused"  # a close code that no retry can mend
    CLOSED = "closed"  # by its owner


OnState = Callable[[int, ShardState], None]
"""Called with the shard id and the state it has just entered."""


class ShardRefusedError(Exception):
    """Discord closed a shard with a code that no retry can mend: the bot's owner must change something."""

    def __init__(self, shard_id: int, code: int) -> None:
        super().__init__(
            f"shard {shard_id} was refused with close code {code}; it does not ask again: check the token, "
            "the shard count and the intents (https://discord.com/developers/docs/topics/opcodes-and-status-codes)"
        )
        self.shard_id = shard_id
        self.code = code
