"""What the shards of one bot share, for libraries that are not of discord.py's family; it runs no shard.

`QueuedClient` holds the same things for the family, whose client is the bot itself.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from nats_identify.integrations._identify import Identifier
from nats_identify.integrations._library import Library, LibraryWebSocket
from nats_identify.integrations._outage import Outage
from nats_identify.integrations._queue import ChosenQueue, ranges
from nats_identify.integrations._websocket import IdentifyAttempt, QueuedWebSocket
from nats_identify.queue import Progress, Queue

logger = logging.getLogger("nats_identify")


class Fleet:
    """The shards of one bot that run in this process, and the queue that they ask.

    Args:
        library: how to connect.
        bot: the library's.
        queue: as in `QueuedClient`.
        close_code: as in `QueuedClient`.
        on_progress: called with a shard's id whenever its place in the queue changes.

    Attributes:
        bot: as above.
        members: the library's shards, by their ids; a front puts them here.
        main_gateway: where the gateway was found.
        is_leaving: the bot closes: no shard may begin to wait any more.

    Raises:
        TypeError: ``queue`` is no queue.
        ValueError: ``queue`` is no address.
    """

    def __init__(
        self,
        library: Library,
        bot: Any,  # noqa: ANN401  # a library's
        *,
        queue: Queue | str | Callable[[], Queue | str] | None,
        close_code: int,
        on_progress: Callable[[int, Progress], None],
    ) -> None:
        self._chosen_queue = ChosenQueue(queue)
        self._on_progress = on_progress
        self._outages: dict[int, Outage] = {}
        self._identifier = Identifier(library, self, self._chosen_queue.queue, self.outage_of)
        self.library = library
        self.bot = bot
        self.close_code = close_code
        self.members: dict[int, Any] = {}
        self.main_gateway: str | None = None
        self.is_leaving = False
        self._leaving: asyncio.Task[None] | None = None

    @property
    def identify_queue(self) -> Queue:
        """What the shards ask."""
        return self._chosen_queue.queue

    def check(self, shard_ids: Collection[int] | None, shard_count: int | None) -> None:
        """Return if these shards may ask this queue.

        Raises:
            ValueError: as `ChosenQueue.check`.
            RuntimeError: the bot was closed before.
        """
        if self.is_leaving:
            raise RuntimeError("this bot was closed, and its queue with it: make another one to start again")
        self._chosen_queue.check(shard_ids, shard_count)

    def announce(self, shard_ids: Collection[int], shard_count: int) -> None:
        """Log which shards ask what."""
        logger.info("shards %s of %d ask %s", ranges(shard_ids), shard_count, self._chosen_queue.describe())

    async def identify_shard(self, shard_id: int, *, priority: int = 0) -> QueuedWebSocket:
        """Connect a shard and send its IDENTIFY in its turn; return the connection.

        Raises:
            CancelledError: the bot closes.
            others: as `Identifier.identify`.
        """
        if self.is_leaving:
            raise asyncio.CancelledError
        on_progress = partial(self._on_progress, shard_id)
        return await self._identifier.identify(shard_id, self.main_gateway, priority=priority, on_progress=on_progress)

    async def leave(self, running: Collection["asyncio.Task[None]"]) -> None:
        """Give every place and turn back, and close the queue if it was made for the bot.

        Args:
            running: the tasks of the shards that are to end now.
        """
        if self._leaving is None:
            self.is_leaving = True
            self._leaving = asyncio.ensure_future(self._leave(running))
        await asyncio.shield(self._leaving)  # a bot may be closed twice: the second waits for the first

    def outage_of(self, shard_id: int) -> Outage:
        """Return the log of this shard's connection."""
        return self._outages.setdefault(shard_id, Outage(shard_id))

    def abandon(self, attempt: IdentifyAttempt) -> None:
        """End a connection that is not used, or not any more."""
        self._identifier.abandon(attempt)

    def say_final(self, shard_id: int, closed: Exception, websocket: LibraryWebSocket | None) -> None:
        """Log that Discord wants no more of this shard, and what a person must change."""
        self._identifier.say_final(shard_id, closed, websocket)

    async def _leave(self, running: Collection["asyncio.Task[None]"]) -> None:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        await self._identifier.close()
        await self._chosen_queue.close()


def refuse_unqueued(derived: type, *, queued: type, library_class: type) -> None:
    """Return if bots of a class ask the queue.

    Raises:
        TypeError: the library's own class comes first, and would identify without asking.
    """
    bases = derived.__mro__
    if library_class in bases and bases.index(library_class) < bases.index(queued):
        message = f"{derived.__name__} would identify without asking the queue: put the queued class first"
        raise TypeError(message)
