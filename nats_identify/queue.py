"""The Queue interface, the Grant that it returns and the Turn that uses it.

This module depends on no schedule, no NATS and no Discord; every queue of the library and every queue that a
bot author writes fits behind it.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from nats_identify.clock import now_ns
from nats_identify.reason import Reason

PRIORITY_MAX: Final = 10
SHARD_ID_MAX: Final = 2**53
"""What the wire's JSON can say of a shard."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The position of a request in its queue.

    Attributes:
        position: its place in its bucket, 1 is next; None while there is no reply yet.
        eta_ms: milliseconds until the turn, exact at position 1; None while it cannot be known.
        reason: why it waits.
        near: the turn is about two seconds away or less: the moment to open the gateway connection.
    """

    position: int | None
    eta_ms: int | None
    reason: Reason
    near: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """The permission for one shard to send one IDENTIFY, until ``use_by_ns``.

    Attributes:
        shard_id: the shard that may send it, 0 or more.
        grant_id: the grant's own name, unique in its queue; decided on once.
        request_id: the request that it replies to.
        bucket: Discord's ``rate_limit_key``, ``shard_id % max_concurrency``.
        max_concurrency: the number of buckets when it was granted, 1 or more.
        use_by_ns: the last instant at which IDENTIFY may be sent: nanoseconds on `nats_identify.clock.now_ns`.
        waited_ms: how long the shard waited, in milliseconds.
        remaining: session starts left today after this one, or None where they are not counted.
    """

    shard_id: int
    grant_id: str
    request_id: str
    bucket: int
    max_concurrency: int
    use_by_ns: int
    waited_ms: int = 0
    remaining: int | None = None


OnProgress = Callable[[Progress], None]
"""A plain function that gets each new `Progress`. What it raises is logged, and the wait goes on."""


@runtime_checkable
class Queue(Protocol):
    """One queue for the IDENTIFYs of one bot token. Subclass it, and write three methods.

    Contract, checked by `nats_identify.testing.conformance`:

    - `acquire` returns when the shard may send IDENTIFY, and never because something failed: in doubt it waits.
    - It may be cancelled at any time: the place is given up, and a turn just granted is given back.
    - Per granted turn, `identified` or `decline` is called once, at the moment it happens.
    """

    @abstractmethod
    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,
    ) -> Grant:
        """Wait until this shard may send one IDENTIFY.

        Args:
            shard_id: the shard, 0 or more.
            priority: -10 … 10, higher goes first; convention: 1 for a session that was live and was lost.
            on_progress: called whenever the position, the ETA or the reason changes.
            replaces: a grant of this shard that came too late to be used: it is declined, and the
                request goes on at its old place.

        Raises:
            QueueClosedError: the queue was closed by its owner.
            TypeError, ValueError: no such shard or priority can be asked for.
            RuntimeError: the queue is in use in another event loop that runs, or works with a NATS connection of one.
                Nothing else is ever raised into a bot.
        """
        ...

    @abstractmethod
    def identified(self, grant: Grant) -> None:
        """IDENTIFY has just been sent: the window starts now."""
        ...

    @abstractmethod
    def decline(self, grant: Grant) -> None:
        """IDENTIFY was not and will not be sent with this grant: the next shard may go at once."""
        ...

    def ready(self, grant: Grant) -> None:
        """Discord accepted the IDENTIFY. Optional; call it when READY was received, and never earlier.

        Discord had the IDENTIFY by then, so the bucket may open one window later.
        """
        return  # without a statement mypy takes it for abstract: `Queue` is a Protocol

    def rejected(self, grant: Grant) -> None:
        """Discord answered the IDENTIFY with Invalid Session, and it counts as `ready`. Optional.

        An Invalid Session after RESUME, or of a session that was live, is none of this grant.
        """
        return  # as `ready`

    def turn(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        near: bool = False,
        on_progress: OnProgress | None = None,
    ) -> "Turn":
        """Return the turn of one shard, to be entered with ``async with``. See `Turn`.

        Raises:
            TypeError, ValueError: no such shard or priority can be asked for.
        """
        return Turn(self, shard_id, priority=priority, near=near, on_progress=on_progress)

    async def close(self) -> None:
        """End every wait with `QueueClosedError`. A queue that holds nothing open has nothing to do here."""
        return  # as `ready`

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class QueueClosedError(Exception):
    """The queue was closed by its owner: no shard can wait in it any more."""


def check_request(shard_id: int, priority: int = 0) -> None:
    """Refuse what no queue can be asked for.

    Raises:
        TypeError: the shard or the priority is no whole number.
        ValueError: it is out of range.
    """
    for name, value in (("shard_id", shard_id), ("priority", priority)):
        if not isinstance(value, int) or isinstance(value, bool):
            message = f"{name} {value!r}: a whole number is wanted, not a {type(value).__name__}"
            raise TypeError(message)
    if not 0 <= shard_id <= SHARD_ID_MAX:
        message = f"shard_id {shard_id}: shards count from 0"
        raise ValueError(message)
    if abs(priority) > PRIORITY_MAX:
        message = f"priority {priority}: from -{PRIORITY_MAX} to {PRIORITY_MAX}"
        raise ValueError(message)


class Turn:
    """One shard's way through a queue, as a context manager.

    The short form enters the block when IDENTIFY may be sent, and counts it as sent when the block ends::

        async with queue.turn(shard_id):
            await websocket.send(identify)

    The full form enters while the turn is near (about two seconds to go), so that connecting costs the
    bucket nothing, and says the exact moments::

        async with queue.turn(shard_id, near=True) as turn:
            websocket = await connect()
            await turn.granted()  # right before the send: looks at the clock
            await websocket.send(identify)
            turn.identified()

    An exception before `granted` returned gives the place or the turn back. After that it cannot be known
    whether IDENTIFY was sent, so the turn counts as used, unless `decline` was called.

    Leaving the full form's block without `granted` having returned is an error, unless `decline` was called:
    an IDENTIFY that was sent there had no turn.

    Attributes:
        queue: the queue that gives the turn.
        shard_id: the shard, 0 or more.
        priority: -10 … 10, higher goes first.
        progress: the newest one of the queue, or None before the first.

    Raises:
        TypeError, ValueError: no such shard or priority can be asked for, or ``on_progress`` cannot be called.
    """

    def __init__(
        self, queue: Queue, shard_id: int, *, priority: int, near: bool, on_progress: OnProgress | None
    ) -> None:
        check_request(shard_id, priority)
        if on_progress is not None and (not callable(on_progress) or iscoroutinefunction(on_progress)):
            message = f"on_progress {on_progress!r}: a plain function is wanted, which takes a Progress"
            raise TypeError(message)
        self.queue = queue
        self.shard_id = shard_id
        self.priority = priority
        self.progress: Progress | None = None
        self._enter_near = near
        self._on_progress = on_progress
        self._near = asyncio.Event()
        self._acquire_task: asyncio.Task[Grant] | None = None
        self._grant: Grant | None = None
        self._decided = False
        self._declined = False
        self._is_over = False

    async def __aenter__(self) -> Self:
        if self._acquire_task is not None or self._is_over:
            message = "a turn is for one IDENTIFY; take a new one from `queue.turn`"
            raise RuntimeError(message)
        self._acquire_task = self._start_acquire()
        try:
            await (self.near() if self._enter_near else self.granted())
        except BaseException:
            self._is_over = True
            await self._withdraw()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        was_forgotten = error is None and self._grant is None and not self._declined
        if was_forgotten:
            self._grant = self._unseen()  # whether IDENTIFY was sent all the same cannot be known: the window runs
        if self._grant is not None:
            self._used(self._grant)  # does nothing where the turn was decided already
        else:
            await self._withdraw()
        if was_forgotten:
            message = (
                f"the block of shard {self.shard_id}'s turn ended, and `await turn.granted()` never returned in it: "
                "call it right before IDENTIFY is sent, or `turn.decline()` where none is to be sent"
            )
            raise RuntimeError(message)

    async def near(self) -> None:
        """Wait until the turn is about two seconds away, or here: the moment to connect.

        Raises:
            QueueClosedError: the queue was closed by its owner.
            RuntimeError: this is not inside of the turn's block.
        """
        acquire_task = self._asked()
        waiting = asyncio.ensure_future(self._near.wait())
        try:
            await asyncio.wait({acquire_task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if acquire_task.done():
            acquire_task.result()  # raises what ended the request, if anything did

    async def granted(self) -> Grant:
        """Wait until IDENTIFY may be sent; call it again right before the send, it costs nothing.

        Looks at the clock: a grant that came too late is declined and the wait goes on at the same place.

        Raises:
            QueueClosedError: the queue was closed by its owner.
            RuntimeError: the turn was declined, or IDENTIFY was sent with it, or this is not inside of its block.
        """
        while True:
            acquire_task = self._asked()
            self._refuse_if_decided()
            grant = await asyncio.shield(acquire_task)
            self._refuse_if_decided()  # meanwhile
            if now_ns() <= grant.use_by_ns:
                self._grant = grant
                return grant
            self._grant = None
            self._acquire_task = self._start_acquire(replaces=grant)

    def identified(self) -> None:
        """IDENTIFY has just been sent. Call it right after the send; later calls do nothing.

        Raises:
            RuntimeError: there is no grant, or it was declined: an IDENTIFY was sent that no turn allowed.
        """
        if self._grant is None and (unseen := self._unseen()) is not None:
            self._used(unseen)  # it was sent: the window runs, although `granted` was forgotten
        grant = self._held()
        if self._declined:
            message = f"shard {self.shard_id} declined this turn: its IDENTIFY had no turn, and another's may be near"
            raise RuntimeError(message)
        self._used(grant)

    def decline(self) -> None:
        """IDENTIFY was not and will not be sent: the turn, or the place, goes to the next shard.

        Before `granted` has returned, the place is given up when the block ends. Later calls do nothing.

        Raises:
            RuntimeError: this is not inside of the turn's block, and there is no grant.
        """
        if self._grant is None:
            self._asked()  # raises outside of the block
            self._declined = True
        elif not self._decided:
            self._decided = self._declined = True
            self.queue.decline(self._grant)

    def ready(self) -> None:
        """Discord accepted the IDENTIFY."""
        self.queue.ready(self._held())

    def rejected(self) -> None:
        """Discord answered the IDENTIFY with Invalid Session."""
        self.queue.rejected(self._held())

    def _held(self) -> Grant:
        if self._grant is None:
            message = f"shard {self.shard_id} holds no grant; call this after `await turn.granted()` returned"
            raise RuntimeError(message)
        return self._grant

    def _unseen(self) -> Grant | None:
        """Return a grant that `granted` has not returned, or None."""
        acquire_task = self._acquire_task
        if (
            self._decided
            or acquire_task is None
            or not acquire_task.done()
            or acquire_task.cancelled()
            or acquire_task.exception()
        ):
            return None
        return acquire_task.result()

    def _used(self, grant: Grant) -> None:
        if not self._decided:
            self._decided = True
            self.queue.identified(grant)

    def _refuse_if_decided(self) -> None:
        if self._declined:
            message = "this turn was declined; take a new one from `queue.turn`"
            raise RuntimeError(message)
        if self._decided:
            message = (
                f"shard {self.shard_id} has used this turn for its one IDENTIFY; to identify again, leave the block "
                "and take a new one from `queue.turn`"
            )
            raise RuntimeError(message)

    def _asked(self) -> asyncio.Task[Grant]:
        """Return the acquire of this block."""
        if self._acquire_task is None:
            message = "this turn was not entered; use it with `async with`, which gives the place back whatever happens"
            raise RuntimeError(message)
        if self._is_over:
            message = "the block of this turn has ended; take a new one from `queue.turn`"
            raise RuntimeError(message)
        return self._acquire_task

    def _start_acquire(self, *, replaces: Grant | None = None) -> asyncio.Task[Grant]:
        acquiring = self.queue.acquire(
            self.shard_id, priority=self.priority, on_progress=self._progressed, replaces=replaces
        )
        return asyncio.ensure_future(acquiring)

    def _progressed(self, progress: Progress) -> None:
        self.progress = progress
        if progress.near:
            self._near.set()
        if self._on_progress is not None:
            self._on_progress(progress)

    async def _withdraw(self) -> None:
        """Withdraw the request; a grant that was not returned is declined, since nothing was sent with it."""
        if self._acquire_task is None:
            return
        self._acquire_task.cancel()
        await asyncio.wait({self._acquire_task})
        if not self._decided and (grant := self._unseen()) is not None:
            self._decided = True
            self.queue.decline(grant)
