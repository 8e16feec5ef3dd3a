"""A library's websocket that sends IDENTIFY in its turn only, and one that knows when its session goes on.

Neither connects, and neither decides what follows. The gate of IDENTIFY is the send itself, not the library's
``before_identify_hook``: it is the last thing before the frame leaves and the first to know that it has left, and a
bot's own hook cannot take its place.
"""

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nats_identify.clock import now_ns
from nats_identify.integrations._close_codes import cure, named
from nats_identify.printable import printable
from nats_identify.queue import Turn

if TYPE_CHECKING:
    from nats_identify.integrations._library import Library, LibraryWebSocket
else:
    LibraryWebSocket = object  # a front adds the library's own class


@dataclass(slots=True, eq=False)
class IdentifyAttempt:
    """What is tried; a turn outlives connections that are lost before they could use it.

    Attributes:
        turn: what IDENTIFY needs; None for RESUME, which needs none.
        timeout: runs out if the present connection does not get as far as HELLO.
        websocket: the present connection; None until the library has made it.
        is_open: the present connection got as far as HELLO; ``opened_at_s``: when, on the event loop's clock.
        is_sent: IDENTIFY is on its way: the turn is used, whatever happens next.
        is_welcome: READY came.
        on_welcome: called when it comes.
    """

    turn: Turn | None = None
    timeout: asyncio.Timeout | None = None
    websocket: "OwnWebSocket | None" = None
    is_open: bool = False
    opened_at_s: float = 0.0
    is_sent: bool = False
    is_welcome: bool = False
    on_welcome: Callable[[], None] | None = None


logger = logging.getLogger("nats_identify")

REASON_MAX: Final = 123
"""Bytes of reason that a close frame has room for. Source: RFC 6455, 5.5."""

READY_MAX_S: Final = 60.0
"""An IDENTIFY that Discord has not answered by then is given up; READY of a large bot takes seconds."""

ATTEMPT: Final[ContextVar[IdentifyAttempt]] = ContextVar("ATTEMPT")
"""The attempt that this task is making. `from_client` takes no arguments of ours, and makes the websocket itself."""


class OwnWebSocket(LibraryWebSocket):
    """Mixed in before a library's ``DiscordWebSocket``, for the connections that we make ourselves."""

    library: "Library"
    is_resumed = False

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # the library's own
        super().__init__(*arguments, **options)
        self.attempt = ATTEMPT.get()
        self.attempt.websocket = self
        self.closed_with: tuple[int, str] | None = None
        self._note_close()

    @property
    def is_welcome(self) -> bool:
        """Whether READY came, in this session."""
        return self.attempt.is_welcome

    def abandon(self) -> "asyncio.Task[None]":
        """End a connection that will not be used: no heartbeats from here on, and a close in the background."""
        stop = getattr(self._keep_alive, "stop", None)  # of discord.py and its family
        if stop is not None:
            stop()  # a thread: it would go on until a minute without an acknowledgement
        return asyncio.ensure_future(self.close())

    def _note_close(self) -> None:
        """Keep Discord's close code and reason until the shard is up: the libraries may lose both when they close."""
        socket = getattr(self, "socket", None)
        if socket is None:
            return
        receive = socket.receive

        async def noting(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # aiohttp's own
            message = await receive(*arguments, **options)
            if message.type.name == "CLOSE" and isinstance(message.data, int):
                self.closed_with = message.data, f"{message.extra or ''}"[:REASON_MAX]
            return message

        socket.receive = noting

    def _is_up(self) -> None:
        vars(getattr(self, "socket", self)).pop("receive", None)


class ResumingWebSocket(OwnWebSocket):
    """A connection that sends RESUME, and knows when Discord has taken it."""

    is_welcome = True

    async def send_as_json(self, data: Any) -> None:  # noqa: ANN401  # JSON
        """Send at once; from RESUME on, look for the first event of the session."""
        if data["op"] == self.RESUME:
            self.attempt.is_open = True
            self._passes_on = self._dispatch
            self._dispatch = self._noticed
        await super().send_as_json(data)

    def _noticed(self, event: str, /, *arguments: object) -> None:
        """Pass an event on; the libraries dispatch this one first for each event of a session, RESUMED too."""
        if event == "socket_event_type":
            self.is_resumed = True
            self._is_up()
            self._dispatch = self._passes_on
        self._passes_on(event, *arguments)


class QueuedWebSocket(OwnWebSocket):
    """A connection that sends IDENTIFY, when its turn has come."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # the library's own
        super().__init__(*arguments, **options)
        self._is_answered = False
        self._unanswered: asyncio.TimerHandle | None = None

    async def send_as_json(self, data: Any) -> None:  # noqa: ANN401  # JSON
        """Send at once, but IDENTIFY when its turn has come."""
        if data["op"] != self.IDENTIFY:
            await super().send_as_json(data)
            return
        attempt = self.attempt
        attempt.is_open, attempt.opened_at_s = True, asyncio.get_running_loop().time()
        if attempt.timeout is not None:
            attempt.timeout.reschedule(None)  # the queue may take as long as it likes
        await self._granted()
        attempt.is_sent = True
        await super().send_as_json(data)
        self._turn.identified()
        self._unanswered = asyncio.get_running_loop().call_later(READY_MAX_S, self._give_up)

    async def poll_event(self) -> None:
        """Read one frame, as the library does, and report the outcome of the turn to the queue."""
        try:
            await super().poll_event()
        except BaseException as ended:  # the connection is over: READY comes on it no more
            if self._unanswered is not None:
                self._unanswered.cancel()
            if isinstance(ended, self.library.reconnect_error) and not ended.resume:
                self._answered(is_welcome=False)
            raise
        if self.session_id is not None:
            self._answered(is_welcome=True)

    async def _granted(self) -> None:
        """Wait for the grant, and read meanwhile.

        The libraries read nothing between HELLO and IDENTIFY. Unread, the acknowledgements of the heartbeats pile
        up until the library takes the connection for dead, and one that is dead is noticed too late, by the send.

        Raises:
            whatever ended the connection, as the library puts it.
        """
        turn = self._turn
        while True:
            granted = asyncio.ensure_future(turn.granted())
            reading = asyncio.ensure_future(self._read())
            try:
                await asyncio.wait({granted, reading}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                granted.cancel()  # does nothing to one that is done
                reading.cancel()
                await asyncio.wait({granted, reading})
            if not reading.cancelled():
                reading.result()  # raises: it never ends otherwise
            if now_ns() <= granted.result().use_by_ns:
                return
            # The grant is too old, since this process was busy: the turn requests another.

    async def _read(self) -> None:
        while True:
            await self.poll_event()

    def _give_up(self) -> None:
        """End a connection whose IDENTIFY Discord has left unanswered; its reader sees it closed."""
        logger.warning("shard %d got no answer to IDENTIFY within %.0f s", self._turn.shard_id, READY_MAX_S)
        self.abandon().add_done_callback(asyncio.Task.exception)  # retrieved: it is gone either way

    def _answered(self, *, is_welcome: bool) -> None:
        attempt = self.attempt
        if self._is_answered or not attempt.is_sent:
            return
        self._is_answered, attempt.is_welcome = True, is_welcome
        if self._unanswered is not None:
            self._unanswered.cancel()
        if is_welcome:
            self._is_up()
            self._turn.ready()
            if attempt.on_welcome is not None:
                attempt.on_welcome()
        else:
            self._turn.rejected()

    @property
    def _turn(self) -> Turn:
        turn = self.attempt.turn
        assert turn is not None, "IDENTIFY is sent with a turn only"  # noqa: S101  # fails closed
        return turn


def what_ended(library: "Library", error: Exception | None, websocket: LibraryWebSocket | None) -> str:
    """Return in words what ended a connection: Discord's close code with its meaning and its cure, or the error.

    Args:
        library: whose.
        error: what it raised; None where that is not known any more.
        websocket: the connection, if there was one.
    """
    code = close_code(library, error, websocket)
    if code is not None:
        _, reason = getattr(websocket, "closed_with", None) or (code, "")
        said = f", saying {printable(reason)!r}" if reason else ""
        return f"Discord closed it with {named(code)}{said}" + (f": {cure(code)}" if cure(code) else "")
    if error is None or isinstance(error, library.reconnect_error):
        return "Discord asked for another connection, or sent nothing for too long"
    return printable(repr(error))


def close_code(library: "Library", error: Exception | None, websocket: LibraryWebSocket | None) -> int | None:
    """Return the code that Discord closed a connection with; None where something else ended it. As `what_ended`."""
    noted: tuple[int, str] | None = getattr(websocket, "closed_with", None)
    if noted is not None:
        return noted[0]
    if isinstance(error, library.closed_error):
        code = getattr(error, "code", None)
    elif getattr(websocket, "_close_code", None) is not None:
        return None  # we closed it
    else:
        code = getattr(getattr(websocket, "socket", None), "close_code", None)
    return code if isinstance(code, int) else None
