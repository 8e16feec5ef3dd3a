"""Brings a shard to the moment when its IDENTIFY has left, however often it must connect; it reads no events.

The connection is opened while the turn is near. One that is lost before it was used costs neither the place in the
queue nor a grant: the next one takes them over. Only a shard that cannot connect at all leaves the queue for a while.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from typing import Final

from nats_identify.integrations._close_codes import NORMAL
from nats_identify.integrations._library import Library, LibraryWebSocket
from nats_identify.integrations._outage import Outage
from nats_identify.integrations._websocket import ATTEMPT, IdentifyAttempt, QueuedWebSocket, close_code, what_ended
from nats_identify.printable import printable
from nats_identify.queue import OnProgress, Queue, QueueClosedError

CONNECT_MAX_S: Final = 10.0
"""A connection that has not got as far as HELLO by then is given up."""

RETRIES_S: Final = (0.0, 0.25, 1.0)
"""Pauses before each connection: the place in the queue is kept until as many in a row have failed.

One that was open for a while and was lost while it waited counts as the first of a row.
"""

AWAY_FIRST_S: Final = 1.0
AWAY_MAX_S: Final = 15.0
"""A shard that cannot connect leaves the queue for 1 s, doubled each time up to this, less up to half at random."""

KEPT_OPEN_S: Final = 1.0
"""A connection that is lost sooner after HELLO has failed like one that never opened: each try pauses longer."""

GOODBYES_MAX_S: Final = 0.5
"""Time for unused connections to close properly when the bot closes."""

logger = logging.getLogger("nats_identify")


class Identifier:
    """Gets new sessions for the shards of one client.

    Args:
        library: how to connect.
        client: the library's, which connects.
        queue: where to ask.
        outage_of: logs the outages of a shard.
    """

    def __init__(self, library: Library, client: object, queue: Queue, outage_of: Callable[[int], Outage]) -> None:
        self._library = library
        self._outage_of = outage_of
        self._client = client
        self._queue = queue
        self._goodbyes: set[asyncio.Task[None]] = set()

    async def identify(
        self, shard_id: int, gateway: object, *, priority: int, on_progress: OnProgress
    ) -> QueuedWebSocket:
        """Connect a shard and send its IDENTIFY in its turn, however long that takes; return the connection.

        Args:
            shard_id: the shard.
            gateway: where to, as the library puts it; None for where it goes by itself. The last try of a row looks
                it up anew, in case that it has moved.
            priority: as in `Queue.acquire`.
            on_progress: as in `Queue.acquire`.

        Raises:
            ConnectionClosed: the library's, for a close code after which a retry cannot succeed.
            QueueClosedError: the queue was closed by its owner.
        """
        outage = self._outage_of(shard_id)
        for away_s in _absences_s():
            async with self._queue.turn(shard_id, near=True, priority=priority, on_progress=on_progress) as turn:
                attempt = IdentifyAttempt(turn, on_welcome=outage.over)
                try:
                    websocket = await self._use(attempt, shard_id, gateway)
                finally:
                    if not attempt.is_sent:
                        turn.decline()
            if websocket is not None:
                return websocket
            if not attempt.is_sent:
                outage.note("away", f"cannot connect: it leaves the queue, for {AWAY_MAX_S:.0f} s at most each time")
            await asyncio.sleep(away_s)
        raise AssertionError("absences have no end")

    async def close(self) -> None:
        """Let the goodbyes end that are under way."""
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=GOODBYES_MAX_S)

    def abandon(self, attempt: IdentifyAttempt) -> None:
        """End the connection of this attempt, which will not be used."""
        if attempt.websocket is not None:
            goodbye = attempt.websocket.abandon()
            self._goodbyes.add(goodbye)
            goodbye.add_done_callback(self._said)

    def say_final(self, shard_id: int, closed: Exception, websocket: LibraryWebSocket | None) -> None:
        """Log that Discord wants no more of this shard, and what a person must change."""
        logger.error("shard %d ends the bot: %s", shard_id, what_ended(self._library, closed, websocket))

    async def _use(self, attempt: IdentifyAttempt, shard_id: int, gateway: object) -> QueuedWebSocket | None:
        """Return a connection that has sent IDENTIFY, or None if there is none and the turn should end."""
        failures = 0
        while failures < len(RETRIES_S) and not attempt.is_sent:
            await asyncio.sleep(RETRIES_S[failures])
            is_last = failures == len(RETRIES_S) - 1
            try:
                return await self._connect(attempt, shard_id, None if is_last else gateway)
            except QueueClosedError:
                raise
            except Exception as lost:  # any error: a shard that cannot connect must try again, as the libraries do
                if self._is_final(lost):
                    self.say_final(shard_id, lost, attempt.websocket)
                    raise
                self._lost(attempt, shard_id, lost)
            failures = 1 if _was_kept_open(attempt) else failures + 1
        return None

    def _is_final(self, lost: Exception) -> bool:
        return isinstance(lost, self._library.closed_error) and getattr(lost, "code", None) != NORMAL

    def _lost(self, attempt: IdentifyAttempt, shard_id: int, lost: Exception) -> None:
        kind = f"before up {close_code(self._library, lost, attempt.websocket) or type(lost).__name__}"
        why = what_ended(self._library, lost, attempt.websocket)
        self._outage_of(shard_id).note(kind, f"lost its connection before it was up: {why}; it tries again")

    async def _connect(self, attempt: IdentifyAttempt, shard_id: int, gateway: object) -> QueuedWebSocket:
        ATTEMPT.set(attempt)
        attempt.websocket, attempt.is_open = None, False
        try:
            async with asyncio.timeout(CONNECT_MAX_S) as attempt.timeout:
                connecting = self._library.websocket.from_client(self._client, gateway=gateway, shard_id=shard_id)
                websocket: QueuedWebSocket = await connecting
        except BaseException:
            self.abandon(attempt)
            raise
        return websocket

    def _said(self, goodbye: asyncio.Task[None]) -> None:
        self._goodbyes.discard(goodbye)
        if not goodbye.cancelled() and (error := goodbye.exception()) is not None:
            logger.debug("a connection that was not used could not be closed: %s", printable(repr(error)))


def _was_kept_open(attempt: IdentifyAttempt) -> bool:
    return attempt.is_open and asyncio.get_running_loop().time() - attempt.opened_at_s >= KEPT_OPEN_S


def _absences_s() -> Iterator[float]:
    """How long to stay away from the queue, each time without success."""
    max_s = AWAY_FIRST_S
    while True:
        yield max_s * random.uniform(0.5, 1)  # noqa: S311  # jitter
        max_s = min(2 * max_s, AWAY_MAX_S)
