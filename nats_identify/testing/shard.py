"""A bare shard: the smallest client that uses a queue correctly; it handles no event and uses no library.

It does all that an integration should do, in one file: connect while the turn is near, look at the clock right before
IDENTIFY, report the outcome of the turn, RESUME without the queue, and never identify without a grant.
"""

import asyncio
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from nats_identify.clock import now_ns
from nats_identify.queue import OnProgress, Queue, Turn
from nats_identify.testing.codes import FATAL, NEEDS_IDENTIFY, CloseCode, Op
from nats_identify.testing.delays import Range
from nats_identify.testing.instant import InstantQueue
from nats_identify.testing.link import Frame, Link, LinkLostError
from nats_identify.testing.shard_state import OnState, ShardRefusedError, ShardState, States

LOST_PRIORITY: Final = 1
"""What a shard asks with whose session was live and was lost; by convention, see `Queue.acquire`."""

INVALID_SESSION_DELAY_S: Final[Range] = (1.0, 5.0)
"""Discord asks for a random wait after Invalid Session.

Source: https://discord.com/developers/docs/events/gateway#resuming
"""

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
"""A connection that fails is tried again at once, then after 0.1 s, doubled each time up to this."""


@dataclass(frozen=True, slots=True)
class _Session:
    session_id: str
    resume_url: str


class BareShard:
    """One shard of a bot.

    For example::

        async with BareShard(queue, 0, 1, gateway.ws_url, token) as shard:
            await shard.until(ShardState.UP)

    Args:
        queue: where it asks; None identifies at once, which is what a control run is for.
        shard_id: the shard, 0 or more.
        shard_count: of the bot.
        gateway_url: where to connect, e.g. ``ws://127.0.0.1:40001``.
        token: the bot's; it is sent to the gateway and shown nowhere.
        priority: of the first request.
        intents: as in IDENTIFY.
        invalid_session_delay_s: (lowest, highest) wait after Invalid Session, before the next request.
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
        self._queue = InstantQueue() if queue is None else queue
        self._shard_count = shard_count
        self._gateway_url = gateway_url
        self._token = token
        self._priority = priority
        self._intents = intents
        self._invalid_session_delay_s = invalid_session_delay_s
        self._states = States(shard_id, on_state)
        self._on_progress = on_progress
        self._session: _Session | None = None
        self._sequence: int | None = None
        self._link: Link | None = None
        self._failures = 0
        self._goodbye: int = CloseCode.NORMAL
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.ensure_future(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def state(self) -> ShardState:
        """The state entered last."""
        return self._states.present

    async def until(self, state: ShardState) -> None:
        """Wait until this state is entered; not at all if it is the present one. Give it a deadline of yours.

        Raises:
            ShardRefusedError: Discord refused the shard for good.
            QueueClosedError: the queue was closed by its owner.
            RuntimeError: it does not run (any more), so the wait would never end.
        """
        if self._running is None:
            raise RuntimeError("this shard is not running; use `async with`, or wait for the task of `run`")
        await self._states.until(state, self._running)

    async def close(self, code: int = CloseCode.NORMAL) -> None:
        """End: give a waiting turn back, and close the connection.

        Args:
            code: 1000 ends the session; 4000, say, leaves it resumable for minutes.
        """
        self._goodbye = code
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def run(self) -> None:
        """Be a shard until cancelled.

        Raises:
            ShardRefusedError: Discord refused the shard for good.
            QueueClosedError: the queue was closed by its owner.
        """
        last = ShardState.CLOSED
        async with aiohttp.ClientSession() as http:
            try:
                while True:
                    await self._live(http)
            except ShardRefusedError:
                last = ShardState.REFUSED
                raise
            finally:
                await self._hang_up(self._goodbye)
                self._states.enter(last)

    async def _live(self, http: aiohttp.ClientSession) -> None:
        """Live until the connection ends: log in or resume, then listen."""
        valid = True
        try:
            session = self._session
            valid = await (self._log_in(http) if session is None else self._resume(http, session))
            if valid:
                self._failures = 0
                self._states.enter(ShardState.UP)
                valid = await self._listen()
        except LinkLostError as lost:
            if lost.code in FATAL:
                raise ShardRefusedError(self.shard_id, lost.code) from None
            if lost.code in NEEDS_IDENTIFY:
                self._session = None
            self._failures += 1
        await self._hang_up(CloseCode.UNKNOWN_ERROR)
        if not valid:
            self._states.enter(ShardState.REJECTED)
            await asyncio.sleep(random.uniform(*self._invalid_session_delay_s))  # noqa: S311  # not a secret

    async def _log_in(self, http: aiohttp.ClientSession) -> bool:
        """Take a turn and use it. Return whether READY came."""
        self._states.enter(ShardState.WAITING)
        async with self._queue.turn(
            self.shard_id, near=True, priority=self._priority, on_progress=self._on_progress
        ) as turn:
            self._states.enter(ShardState.NEAR)
            link = await self._connected_and_granted(http, turn)
            self._states.enter(ShardState.GRANTED)
            await link.send(Op.IDENTIFY, self._identify_data())
            turn.identified()
            self._states.enter(ShardState.IDENTIFIED)
            welcome = await self._is_welcome(link)
            if welcome:
                turn.ready()
                self._priority = max(self._priority, LOST_PRIORITY)  # from now on it has something to lose
            else:
                turn.rejected()
        return welcome

    async def _connected_and_granted(self, http: aiohttp.ClientSession, turn: Turn) -> Link:
        """Return a living connection at a moment when IDENTIFY may be sent.

        A connection that dies during the wait is replaced; the turn, or the place in the queue, is kept.
        """
        in_hand = False
        try:
            while True:
                link = await self._connect(http, self._gateway_url)
                in_hand = False  # the turn looks at the clock again, and may decline what came too late
                in_hand = await _granted_or_lost(turn, link)
                if in_hand and not link.lost.is_set():
                    return link
                self._failures += 1
                await self._hang_up(CloseCode.UNKNOWN_ERROR)
        except BaseException:
            if in_hand:
                turn.decline()  # nothing was sent with it
            raise

    async def _resume(self, http: aiohttp.ClientSession, session: _Session) -> bool:
        """Go on with the session, without the queue: RESUME is free. Return whether RESUMED came."""
        self._states.enter(ShardState.RESUMING)
        link = await self._connect(http, session.resume_url)
        resume = {"token": self._token, "session_id": session.session_id, "seq": self._sequence}
        await link.send(Op.RESUME, resume)
        return await self._is_welcome(link)

    async def _connect(self, http: aiohttp.ClientSession, url: str) -> Link:
        """Connect, however often it takes."""
        while True:
            if self._failures > 1:
                await asyncio.sleep(min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(self._failures - 2, 10)))
            try:
                self._link = await Link.open(http, url)
            except LinkLostError as lost:
                if lost.code in FATAL:
                    raise
                self._failures += 1
            else:
                return self._link

    async def _is_welcome(self, link: Link) -> bool:
        """Wait for the answer to IDENTIFY or RESUME. Return False for Invalid Session."""
        while True:
            frame = await link.receive()
            match frame:
                case Frame(name="READY", data={"session_id": str(session_id), "resume_gateway_url": str(resume_url)}):
                    self._session = _Session(session_id, resume_url)
                    return True
                case Frame(name="RESUMED"):
                    return True
                case Frame(op=Op.INVALID_SESSION, data=resumable):
                    self._session = self._session if resumable else None
                    return False
                case Frame(op=Op.RECONNECT):
                    raise LinkLostError(CloseCode.UNKNOWN_ERROR)

    async def _listen(self) -> bool:
        """Read until the gateway asks for another connection. Return False for Invalid Session."""
        link = self._link
        while link is not None:
            frame = await link.receive()
            if frame.op == Op.RECONNECT:
                break
            if frame.op == Op.INVALID_SESSION:
                self._session = self._session if frame.data else None
                return False
        return True

    async def _hang_up(self, code: int) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            self._sequence = link.sequence if link.sequence is not None else self._sequence
            await link.close(code)

    def _identify_data(self) -> dict[str, object]:
        return {
            "token": self._token,
            "properties": {"os": "linux", "browser": "bare-shard", "device": "bare-shard"},
            "intents": self._intents,
            "shard": [self.shard_id, self._shard_count],
        }


async def _granted_or_lost(turn: Turn, link: Link) -> bool:
    """Wait for the grant, but no longer than the connection lives. Return whether the grant is there.

    Raises:
        LinkLostError: the connection was lost for good.
        QueueClosedError: the queue was closed by its owner.
    """
    while True:
        granted = asyncio.ensure_future(turn.granted())
        lost = asyncio.ensure_future(link.lost.wait())
        try:
            await asyncio.wait({granted, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            granted.cancel()  # does nothing to one that is done
            lost.cancel()
        if not granted.done():
            if link.code in FATAL:
                raise LinkLostError(link.code)
            return False
        if now_ns() <= granted.result().use_by_ns:
            return True
        # The grant is too old, since this process was busy: the turn requests another.
