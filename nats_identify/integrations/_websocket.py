"""A library's websocket that sends IDENTIFY in its turn only; it never connects and never decides what follows.

The gate is the send itself, not the library's ``before_identify_hook``: it is the last thing before the frame
leaves and the first to know that it has left, and a bot's own hook cannot take its place.
"""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nats_identify.clock import now_ns
from nats_identify.queue import Turn

if TYPE_CHECKING:
    from nats_identify.integrations._library import Library, LibraryWebSocket
else:
    LibraryWebSocket = object  # a front adds the library's own class


@dataclass(slots=True, eq=False)
class Attempt:
    """What one turn is used for; it outlives connections that are lost before they could use it.

    Attributes:
        patience: runs out if the present connection does not get as far as HELLO.
        websocket: the present connection; None until the library has made it.
        is_open: the present connection got as far as HELLO.
        is_sent: IDENTIFY is on its way: the turn is used, whatever happens next.
        is_welcome: READY came.
    """

    turn: Turn
    patience: asyncio.Timeout | None = None
    websocket: "QueuedWebSocket | None" = None
    is_open: bool = False
    is_sent: bool = False
    is_welcome: bool = False


ATTEMPT: Final[ContextVar[Attempt]] = ContextVar("ATTEMPT")
"""The attempt that this task is making. `from_client` takes no arguments of ours, and makes the websocket itself."""


class QueuedWebSocket(LibraryWebSocket):
    """Mixed in before a library's ``DiscordWebSocket``, for connections that are to send IDENTIFY.

    A connection that resumes is the library's own, and never comes here.
    """

    library: "Library"

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # the library's own
        super().__init__(*arguments, **options)
        self.attempt = ATTEMPT.get()
        self.attempt.websocket = self
        self._is_answered = False

    @property
    def is_welcome(self) -> bool:
        """Whether READY came."""
        return self.attempt.is_welcome

    async def send_as_json(self, data: Any) -> None:  # noqa: ANN401  # JSON
        """Send at once, but IDENTIFY when its turn has come."""
        if data["op"] != self.IDENTIFY:
            await super().send_as_json(data)
            return
        attempt = self.attempt
        attempt.is_open = True
        if attempt.patience is not None:
            attempt.patience.reschedule(None)  # the queue may take as long as it likes
        await self._granted()
        attempt.is_sent = True
        await super().send_as_json(data)
        attempt.turn.identified()

    async def poll_event(self) -> None:
        """Read one frame, as the library does, and tell the queue what became of the turn."""
        try:
            await super().poll_event()
        except self.library.reconnect_error as lost:
            if not lost.resume:
                self._answered(is_welcome=False)
            raise
        if self.session_id is not None:
            self._answered(is_welcome=True)

    def abandon(self) -> "asyncio.Task[None]":
        """End a connection that will not be used: no heartbeats from here on, and a goodbye that nobody waits for."""
        if self._keep_alive is not None:
            self._keep_alive.stop()  # a thread: it would go on until nobody has answered it for a minute
        return asyncio.ensure_future(self.close())

    async def _granted(self) -> None:
        """Wait for the grant, and read meanwhile.

        The libraries read nothing between HELLO and IDENTIFY. Unread, the acknowledgements of the heartbeats pile
        up until the library takes the connection for dead, and one that is dead is noticed too late, by the send.

        Raises:
            whatever ended the connection, as the library puts it.
        """
        turn = self.attempt.turn
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
            # This process was busy so long that the grant is too old by now: the turn asks again.

    async def _read(self) -> None:
        while True:
            await self.poll_event()

    def _answered(self, *, is_welcome: bool) -> None:
        attempt = self.attempt
        if self._is_answered or not attempt.is_sent:
            return
        self._is_answered, attempt.is_welcome = True, is_welcome
        if is_welcome:
            attempt.turn.ready()
        else:
            attempt.turn.rejected()
