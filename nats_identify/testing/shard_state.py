"""Where a bare shard can be on its way, and how it can fail for good; it never moves a shard."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from enum import StrEnum


class ShardState(StrEnum):
    """Where a shard is on its way."""

    NEW = "new"  # not started
    WAITING = "waiting"  # asked the queue
    NEAR = "near"  # the turn is near: connecting, or connected
    GRANTED = "granted"  # about to send IDENTIFY
    IDENTIFIED = "identified"  # sent
    REJECTED = "rejected"  # Invalid Session was the answer
    UP = "up"  # READY or RESUMED
    RESUMING = "resuming"  # lost the connection, not the session
    REFUSED = "refused"  # a close code after which a retry cannot succeed
    CLOSED = "closed"  # by its owner


OnState = Callable[[int, ShardState], None]
"""Called with the shard id and the state it has just entered."""


class ShardRefusedError(Exception):
    """Discord closed a shard with a code after which a retry cannot succeed: the bot's owner must change something."""

    def __init__(self, shard_id: int, code: int) -> None:
        super().__init__(
            f"shard {shard_id} was refused with close code {code}; it does not ask again: check the token, "
            "the shard count and the intents (https://discord.com/developers/docs/topics/opcodes-and-status-codes)"
        )
        self.shard_id = shard_id
        self.code = code


class States:
    """The state of one shard, and the waits for a state."""

    def __init__(self, shard_id: int, on_state: OnState | None) -> None:
        self.present = ShardState.NEW
        self._shard_id = shard_id
        self._on_state = on_state
        self._entered: defaultdict[ShardState, asyncio.Event] = defaultdict(asyncio.Event)

    def enter(self, state: ShardState) -> None:
        """Enter a state: notify the callback and every wait for it."""
        self.present = state
        self._entered.pop(state, asyncio.Event()).set()
        if self._on_state is not None:
            self._on_state(self._shard_id, state)

    async def until(self, state: ShardState, running: asyncio.Task[None]) -> None:
        """Wait until this state is entered; not at all if it is the present one.

        Raises:
            RuntimeError: ``running``, which enters the states, was cancelled; else what it raised.
        """
        if self.present is state:
            return
        entered = asyncio.ensure_future(self._entered[state].wait())
        try:
            await asyncio.wait({entered, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            entered.cancel()  # does nothing to one that is done
        if self.present is state or entered.done():
            return
        if not running.cancelled():
            running.result()  # raises what ended it
        message = f"shard {self._shard_id} was closed before it was {state}"
        raise RuntimeError(message)
