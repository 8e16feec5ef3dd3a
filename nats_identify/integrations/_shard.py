"""A library's shard whose new sessions wait for their turn; it never holds up another shard.

The client runs `reidentify` and `reconnect` in tasks of their own, so both may take as long as the queue does.
"""

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final

from nats_identify.integrations._close_codes import NORMAL
from nats_identify.integrations._resume import PAUSE_MAX_S, Resumer
from nats_identify.integrations._websocket import close_code, what_ended

if TYPE_CHECKING:
    from nats_identify.integrations._library import Library, LibraryShard, LibraryWebSocket, ReconnectError
else:
    LibraryShard = object  # a front adds the library's own class

LOST_PRIORITY: Final = 1
"""Priority of a shard whose live session was lost; by convention, see `Queue.acquire`."""

INVALID_SESSION_DELAY_S: Final = (1.0, 5.0)
"""Discord asks for a random wait after Invalid Session; the libraries' own comes from the hook that is not used here.

Source: https://discord.com/developers/docs/events/gateway#resuming
"""


SHORT_LIVED_S: Final = 1.0
SHORT_LIVED_MAX: Final = 3
"""After `SHORT_LIVED_MAX` connections in a row that ended within this of their RESUME, the next one waits."""

UNWELCOME_MAX_S: Final = 60.0
"""A shard whose IDENTIFY is answered by a closed connection waits 1 s before it asks again, doubled up to this."""

logger = logging.getLogger("nats_identify")


class QueuedShard(LibraryShard):
    """Mixed in before a library's ``Shard``."""

    library: "Library"

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # the library's own
        super().__init__(*arguments, **options)
        self._one_at_a_time = asyncio.Lock()
        self._priority = 0
        self._resumed_at_s = -SHORT_LIVED_S
        self._short_lived = 0
        self._unwelcome = 0
        self._outage = self._client.outage_of(self.id)
        self._settled: asyncio.TimerHandle | None = None
        self._resumer = Resumer(self.library, self._client, self.id, self._outage, self._client.abandon)

    async def reidentify(self, exc: "ReconnectError") -> None:
        """Resume at once; or, where there is no session to resume, take a turn for a new one.

        A bot may call `ShardInfo.connect` meanwhile: then the connection that this made is left alone.
        """
        lost = self.ws  # before any pause: after it this may be another one, which is well
        self._cancel_task()
        if self._settled is not None:
            self._settled.cancel()
        self._dispatch("disconnect")
        self._dispatch("shard_disconnect", self.id)
        if exc.resume and lost.session_id is not None:
            try:
                if await self._resume(lost):
                    return
            except self.library.reconnect_error as refused:
                exc = refused
            except self.library.closed_error as closed:
                await self._handle_disconnect(closed)
                return
        elif exc.resume:
            await self._pause_unwelcome(exc)
        if not exc.resume:
            await asyncio.sleep(random.uniform(*INVALID_SESSION_DELAY_S))  # noqa: S311  # not a secret
        await self._replace(lost)

    async def reconnect(self) -> None:
        """Take a turn for a new session."""
        await self._replace(self.ws)

    async def _replace(self, lost: "LibraryWebSocket") -> None:
        """Take a turn for a new session, unless another task has replaced this connection already."""
        if self.ws is not lost:
            return
        self._cancel_task()
        if getattr(lost, "is_welcome", True):
            self._priority, self._unwelcome = LOST_PRIORITY, 0
        async with self._one_at_a_time:
            if self.ws is lost:  # else another task was faster: a bot may call ShardInfo.connect at any time
                self.ws = await self._client.identify_shard(self.id, priority=self._priority)
                self.launch()

    async def close(self) -> None:
        """Close the connection, with the code that the bot wants; the libraries' own is always 1000."""
        self._cancel_task()
        if self._settled is not None:
            self._settled.cancel()
        await self.ws.close(code=self._client.close_code)

    async def _handle_disconnect(self, e: Exception) -> None:
        """Have a lost connection replaced at once: the pauses are ours, and bounded. What is final is the library's."""
        is_final = isinstance(e, self.library.closed_error) and getattr(e, "code", None) != NORMAL
        if is_final:
            self._client.say_final(self.id, e, self.ws)
        if is_final or not self._reconnect or self._client.is_closed():
            await super()._handle_disconnect(e)
            return
        logger.info("shard %d lost its connection: %s", self.id, what_ended(self.library, e, self.ws))
        lost = self.library.reconnect_error(self.id, resume=True)
        self._queue_put(self.library.event_item(self.library.event_type.resume, self, lost))

    async def _resume(self, lost: "LibraryWebSocket") -> bool:
        """Resume the session of this connection; return whether that needs no turn."""
        clock = asyncio.get_running_loop().time
        is_short_lived = clock() - self._resumed_at_s < SHORT_LIVED_S
        self._short_lived = self._short_lived + 1 if is_short_lived else 0
        if self._short_lived >= SHORT_LIVED_MAX:
            self._outage.note("short", f"resumes and is cut off at once: {what_ended(self.library, None, self.ws)}")
            await _pause(self._short_lived - SHORT_LIVED_MAX, PAUSE_MAX_S)
        async with self._one_at_a_time:
            if self.ws is not lost:
                return True  # another task was faster
            resumed = await self._resumer.resume(lost)
            if resumed is None:
                return False
            self.ws = resumed
            self.launch()
        self._resumed_at_s = clock()
        self._settled = asyncio.get_running_loop().call_later(SHORT_LIVED_S, self._outage.over)
        return True

    async def _pause_unwelcome(self, exc: "ReconnectError") -> None:
        """Wait after a connection that was closed between IDENTIFY and READY: each one costs the day a start."""
        code = close_code(self.library, exc, self.ws)
        why = what_ended(self.library, exc, self.ws)
        what = f"lost its connection before it was up: {why}; it asks for another turn"
        self._outage.note(f"before up {code}", what)
        if self._unwelcome:
            await _pause(self._unwelcome - 1, UNWELCOME_MAX_S)
        self._unwelcome += 1


async def _pause(doubled: int, max_s: float) -> None:
    """Wait for 1 s, doubled with each failure up to a maximum, less up to half at random."""
    await asyncio.sleep(min(max_s, 2.0 ** min(doubled, 10)) * random.uniform(0.5, 1))  # noqa: S311  # jitter
