"""Brings a shard to the moment when its IDENTIFY has left, however often it must connect; it reads no events.

The connection is opened while the turn is near. One that is lost before it was used costs neither the place in the
queue nor a grant: the next one takes them over. Only a shard that cannot connect at all leaves the queue for a while.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from typing import Final

from nats_identify.integrations._library import Library
from nats_identify.integrations._websocket import ATTEMPT, Attempt, QueuedWebSocket
from nats_identify.queue import OnProgress, Queue, QueueClosedError

CONNECT_MOST_S: Final = 10.0
"""A connection that has not got as far as HELLO by then is given up."""

RETRIES_S: Final = (0.0, 0.25, 1.0)
"""A place in the queue is kept for so many connections in a row that fail, each after such a pause.

One that was open and was lost while it waited counts as the first of a row.
"""

AWAY_FIRST_S: Final = 1.0
AWAY_MOST_S: Final = 60.0
"""A shard that cannot connect leaves the queue for 1 s, doubled each time up to this, less up to half at random."""

GOODBYES_MOST_S: Final = 0.5
"""Unused connections get so long to be closed properly when the bot closes."""

logger = logging.getLogger("nats_identify")


class Identifier:
    """What one client's shards get their new sessions from.

    Args:
        library: how to connect.
        client: the library's, which connects.
        queue: where to ask.
    """

    def __init__(self, library: Library, client: object, queue: Queue) -> None:
        self._library = library
        self._client = client
        self._queue = queue
        self._goodbyes: set[asyncio.Task[None]] = set()

    async def identify(
        self, shard_id: int, gateway: object, *, priority: int, on_progress: OnProgress
    ) -> QueuedWebSocket:
        """Connect a shard and send its IDENTIFY in its turn, however long that takes; return the connection.

        Args:
            shard_id: the shard.
            gateway: where to, as the library puts it; None for where it goes by itself.
            priority: as in `Queue.acquire`.
            on_progress: as in `Queue.acquire`.

        Raises:
            ConnectionClosed: the library's, for a close code that no retry can mend.
            QueueClosedError: the queue was closed by its owner.
        """
        for away_s in _absences_s():
            async with self._queue.turn(shard_id, near=True, priority=priority, on_progress=on_progress) as turn:
                attempt = Attempt(turn)
                try:
                    websocket = await self._use(attempt, shard_id, gateway)
                finally:
                    if not attempt.is_sent:
                        turn.decline()
            if websocket is not None:
                return websocket
            await asyncio.sleep(away_s)
        raise AssertionError("absences have no end")

    async def close(self) -> None:
        """Let the goodbyes end that are under way."""
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=GOODBYES_MOST_S)

    async def _use(self, attempt: Attempt, shard_id: int, gateway: object) -> QueuedWebSocket | None:
        """Return a connection that has sent IDENTIFY, or None if there is none and the turn should end."""
        failures = 0
        while failures < len(RETRIES_S) and not attempt.is_sent:
            await asyncio.sleep(RETRIES_S[failures])
            try:
                return await self._connect(attempt, shard_id, gateway)
            except (self._library.closed_error, QueueClosedError):
                raise
            except Exception as lost:  # whatever it was: who cannot connect must try again, as the libraries do
                logger.warning("shard %d lost its connection before it was up: %r", shard_id, lost)
            failures = 1 if attempt.is_open else failures + 1
        return None

    async def _connect(self, attempt: Attempt, shard_id: int, gateway: object) -> QueuedWebSocket:
        ATTEMPT.set(attempt)
        attempt.websocket, attempt.is_open = None, False
        try:
            async with asyncio.timeout(CONNECT_MOST_S) as attempt.patience:
                connecting = self._library.websocket.from_client(self._client, gateway=gateway, shard_id=shard_id)
                websocket: QueuedWebSocket = await connecting
        except BaseException:
            if attempt.websocket is not None:
                goodbye = attempt.websocket.abandon()
                self._goodbyes.add(goodbye)
                goodbye.add_done_callback(self._said)
            raise
        return websocket

    def _said(self, goodbye: asyncio.Task[None]) -> None:
        self._goodbyes.discard(goodbye)
        if not goodbye.cancelled() and (error := goodbye.exception()) is not None:
            logger.debug("a connection that was not used could not be closed: %r", error)


def _absences_s() -> Iterator[float]:
    """How long to stay away from the queue, each time without success."""
    most_s = AWAY_FIRST_S
    while True:
        yield most_s * random.uniform(0.5, 1)  # noqa: S311  # jitter
        most_s = min(2 * most_s, AWAY_MOST_S)
