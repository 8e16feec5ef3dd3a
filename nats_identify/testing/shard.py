"""A bare shard: the least client that uses a queue properly; it handles no event and knows no library.

It is what an integration should do, in one file: connect while the turn is near, look at the clock right before
IDENTIFY, say what became of the turn, RESUME without the queue, and never identify without a grant.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

import aiohttp

from nats_identify.queue import OnProgress, Queue, Turn
from nats_identify.testing.codes import FATAL, NEEDS_IDENTIFY, CloseCode, Op
from nats_identify.testing.instant import InstantQueue
from nats_identify.testing.link import Frame, Link, LinkLostError
from nats_identify.testing.weather import Range

LOST_PRIORITY: Final = 1
"""What a shard asks with whose session was live and was lost; by convention, see `Queue.acquire`."""

INVALID_SESSION_DELAY_S: Final[Range] = (1.0, 5.0)
"""Discord asks for a random wait after Invalid Session.

Source: https://discord.com/developers/docs/events/gateway#resuming
"""

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
"""A connection that fails is tried again at once, then after 0.1 s, doubled each time up to this."""


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


@dataclass(frozen=True, slots=True)
class _Session:
    session_id: str
    resume_url: str


class BareShard:
    """One shard of a bot::

        async with BareShard(queue, 0, 1, gateway.ws_url, token) as shard:
            await shard.until(ShardState.UP)

    Args:
        queue: where it asks; None identifies at once, which is what a control run is for.
        shard_id: the shard, 0 or more.
        shard_count: of the bot.
        gateway_url: where to connect, e.g. ``ws://127.0.0.1:40001``.
        token: the bot's; it is sent to the gateway and shown nowhere.
        priority: of the first asking.
        intents: as in IDENTIFY.
        invalid_session_delay_s: (lowest, highest) wait after Invalid Session, before asking again.
        on_state: called at each state.
        on_progress: called while it waits in the queue.
    """

    def __init__(
        self,
        queue: Queue | None,
        shard_id: int,
        shard_count: int,
        gateway_url: str,
        token: str,
        *,
        priority: int = 0,
        intents: int = 0,
        invalid_session_delay_s: Range = INVALID_SESSION_DELAY_S,
        on_state: OnState | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.shard_id = shard_id
        self.state = ShardState.WAITING
        self._queue = InstantQueue() if queue is None else queue
        self._shard_count = shard_count
        self._gateway_url = gateway_url
        self._token = token
        self._priority = priority
        self._intents = intents
        self._invalid_session_delay_s = invalid_session_delay_s
        self._on_state = on_state
        self._on_progress = on_progress
        self._session: _Session | None = None
        self._sequence: int | None = None
        self._link: Link | None = None
        self._failures = 0
        self._goodbye: int = CloseCode.NORMAL
        self._running: asyncio.Task[None] | None = None
        self._awaited: defaultdict[ShardState, list[asyncio.Future[None]]] = defaultdict(list)

    async def __aenter__(self) -> Self:
        self._running = asyncio.ensure_future(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
