"""Gives the connections and shards of other libraries the shape of discord.py's; it knows none of them.

In that shape they are run by what discord.py's family is run by: `Identifier`, `Resumer`, `QueuedShard` and the
websockets of `_websocket`. A front says how its library connects, sends, and ends a connection.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from nats_identify.integrations._close_codes import cure
from nats_identify.integrations._library import ReconnectError
from nats_identify.integrations._shard import QueuedShard
from nats_identify.integrations._websocket import IdentifyAttempt, what_ended
from nats_identify.printable import printable

if TYPE_CHECKING:
    from nats_identify.integrations._fleet import Fleet
    from nats_identify.integrations._library import Library

logger = logging.getLogger("nats_identify")

DISPATCH: Final = 0
INVALID_SESSION: Final = 9
"""Source: https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway-gateway-opcodes"""


STEPS_TO_READ: Final = 8
"""After this many steps of the event loop the reader of each library has read a frame that has arrived, and has ended
if that frame ends the connection."""


class ConnectionOverError(ReconnectError):
    """A connection is over; ``resume``: whether its session may go on."""

    def __init__(self, shard_id: int, *, resume: bool = True) -> None:
        Exception.__init__(self, f"shard {shard_id} lost its connection")
        self.resume = resume


class LiveConnection:
    """One connection, which the library reads in a task of its own.

    Args:
        shard_id: the shard.
        session_id, sequence: the session to resume; None for a new one.
        resume_at: the host that this connection goes to, if it is to resume.

    Attributes:
        session_id, sequence: the session, as far as it has come.
        resume_at: where it is to be resumed.
        lost_errors: what the library raises when a connection is lost; a front fills it in.
        attempt: see `OwnWebSocket`; so is ``closed_with``.
    """

    IDENTIFY: Final = 2
    RESUME: Final = 6
    lost_errors: tuple[type[Exception], ...] = (OSError, TimeoutError)
    library: "Library"
    attempt: IdentifyAttempt
    closed_with: tuple[int, str] | None

    def __init__(self, shard_id: int, session_id: str | None, sequence: int | None, resume_at: str | None) -> None:
        self.shard_id = shard_id
        self.session_id = session_id
        self.sequence = sequence
        self.resume_at = resume_at
        self._dispatch: Callable[..., None] = _ignore
        self._changed = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._first_over: asyncio.Task[Any] | None = None
        self._is_live = self._is_live_seen = False
        self._is_invalid = False

    def received(self, payload: Mapping[str, Any]) -> None:
        """Note what a frame says of the session. A front calls this with each one, before the library acts on it."""
        operation = payload.get("op")
        if operation == INVALID_SESSION:
            self._is_invalid = payload.get("d") is not True
        elif operation == DISPATCH:
            self.sequence = payload["s"]
            if payload["t"] == "READY":
                self.session_id = payload["d"]["session_id"]
                self.resume_at = payload["d"].get("resume_gateway_url")
            if not self._is_live:
                self._is_live = True
                self._dispatch("socket_event_type", payload["t"])  # what discord.py calls the first of any event
                self.came_alive()
                self._changed.set()

    def came_alive(self) -> None:
        """Do what the library needs when the first event of the session has come."""

    async def poll_event(self) -> None:
        """Wait for the first event of the session; from then on for the end of the connection.

        Raises:
            ConnectionOverError: it is over, and Discord or the library has said so.
            Exception: what else ended it, one of ``lost_errors`` where the network did; the library's error for a
                close code after which a retry cannot succeed.
        """
        await self._changed.wait()
        is_first_event, self._is_live_seen = self._is_live and not self._is_live_seen, self._is_live
        if self._first_over is None:
            self._changed.clear()
        elif not is_first_event:  # one that came is not lost with the connection
            raise self.why_over(self._first_over)

    def translated(self, error: Exception) -> Exception:
        """Return an error of the library as the family puts it: a close code is final, or the session may go on."""
        if not isinstance(error, self.library.closed_error):
            return error
        code = int(getattr(error, "code", 0))
        self.closed_with = self.closed_with or (code, f"{getattr(error, 'reason', '')}")
        return error if cure(code) else ConnectionOverError(self.shard_id)

    def live(self, life: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Read in a task of its own, to the end of the connection."""
        self._life = asyncio.ensure_future(life)
        self.ends_with(self._life)
        return self._life

    async def read_what_is_there(self) -> None:
        """Let the reader, which has just begun, take what came with HELLO: a connection closed then costs no turn."""
        for _ in range(STEPS_TO_READ):
            await asyncio.sleep(0)

    def ends_with(self, task: "asyncio.Task[Any]") -> None:
        """Let the connection be over when this task is."""
        task.add_done_callback(self._is_over)

    def why_over(self, task: "asyncio.Task[Any]") -> Exception:
        """Return what to raise when a connection is over.

        Args:
            task: one that has ended; what ended first counts, or with a close code, if that was another.
        """
        task = self._first_over or task
        error = None if task.cancelled() else task.exception()
        if self._is_invalid:
            return ConnectionOverError(self.shard_id, resume=False)
        if error is None or isinstance(error, ConnectionOverError):
            return ConnectionOverError(self.shard_id)
        return self.translated(error) if isinstance(error, Exception) else ConnectionOverError(self.shard_id)

    def _is_over(self, task: "asyncio.Task[Any]") -> None:
        error = None if task.cancelled() else task.exception()  # retrieved, also where the connection is not used
        if self._first_over is None or isinstance(error, self.library.closed_error):
            self._first_over = task  # a close code says more than a heartbeat that could not be sent on its account
        self._changed.set()


class LoneShard:
    """As much of discord.py's ``Shard`` as `QueuedShard` needs.

    Args:
        fleet: the bot's.
        shard_id: the shard.
        on_lost: called when a connection that was up is over.
    """

    def __init__(self, fleet: "Fleet", shard_id: int, on_lost: Callable[[], None]) -> None:
        self._shard_id = shard_id
        self.ws: Any = None
        self._client = fleet
        self._on_lost = on_lost

    @property
    def id(self) -> int:
        """The shard's id."""
        return self._shard_id

    def launch(self) -> None:
        """Do nothing: `ShardLoop.run` reads the new connection."""

    def _cancel_task(self) -> None: ...

    def _dispatch(self, event: str, *_: object) -> None:
        if event == "disconnect":
            self._on_lost()

    async def _handle_disconnect(self, e: Exception) -> None:
        raise e


class ShardLoop(QueuedShard, LoneShard):
    """One shard: its connections, one after the other."""

    def __init__(self, fleet: "Fleet", shard_id: int, on_lost: Callable[[], None]) -> None:
        self.library = fleet.library
        super().__init__(fleet, shard_id, on_lost)

    async def run(self) -> None:
        """Keep the shard up until this is cancelled; then close its connection.

        Raises:
            Exception: the library's, for a close code after which a retry cannot succeed, or an error of its own.
            QueueClosedError: the queue was closed by its owner.
        """
        try:
            self.ws = await self._client.identify_shard(self.id)
            while True:
                await self.reidentify(await self._lost())
        finally:
            if self._settled is not None:
                self._settled.cancel()
            if self.ws is not None:
                await self._close_fully()

    async def _close_fully(self) -> None:
        """Close the connection, which takes some seconds at most, however often this is cancelled meanwhile."""
        closing = asyncio.ensure_future(self.close())
        while not closing.done():
            with suppress(asyncio.CancelledError):  # a bot that is cancelled cancels its shards, and so does its end
                await asyncio.wait({closing})
        if not closing.cancelled() and (error := closing.exception()) is not None:
            logger.debug("shard %d could not close its connection: %s", self.id, printable(repr(error)))

    async def _lost(self) -> ConnectionOverError:
        """Wait until the connection is over; return what that asks for."""
        websocket: Any = self.ws
        try:
            while True:
                await websocket.poll_event()
        except ConnectionOverError as lost:
            ended: Exception = lost
        except websocket.lost_errors as error:
            ended = error
        except self.library.closed_error as closed:
            self._client.say_final(self.id, closed, websocket)
            raise
        logger.info("shard %d lost its connection: %s", self.id, what_ended(self.library, ended, websocket))
        self._client.abandon(websocket.attempt)
        return ended if isinstance(ended, ConnectionOverError) else ConnectionOverError(self.id)


def _ignore(*_: object) -> None: ...
