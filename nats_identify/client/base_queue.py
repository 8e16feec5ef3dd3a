"""Base class of the queues: runs one request per waiting shard. Events in, messages out; no NATS, no schedule.

`LocalQueue` and `NatsQueue` differ only in how they carry the messages: both run the same state machine.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from abc import abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nats_identify import tracing, wire
from nats_identify.client.requester import (
    PACE_NS,
    AskAnew,
    Begin,
    Decline,
    DeliverGrant,
    Identified,
    Place,
    Received,
    ReportProgress,
    Requester,
    RequesterEvent,
    SendAnswer,
    SendCancel,
    SendRequest,
    Source,
    State,
    Tick,
    Withdraw,
)
from nats_identify.clock import NS_PER_S, Clock, now_ns
from nats_identify.loops import Home, Move, cancel
from nats_identify.printable import printable
from nats_identify.queue import Grant, OnProgress, Progress, Queue, QueueClosedError, check_request
from nats_identify.reason import Reason
from nats_identify.schedule.model import Outcome
from nats_identify.schedule.timers import TimerKind, Timers
from nats_identify.trouble import Trouble

if TYPE_CHECKING:
    from nats_identify.client.otel import AcquireTrace

ENDED_MAX = 1024
"""Ended requests that are kept at most, to answer copies of their grants."""

CANCEL_EVERY_S = 0.2
"""How often a runner that is still there is cancelled again when the queue is closed."""

RESTART_S = 1.0
"""Pause before a runner that ended by a defect is started again."""

logger = logging.getLogger("nats_identify")

Message = SendRequest | SendCancel | SendAnswer


@dataclass(slots=True, eq=False)
class PendingAcquire:
    """One call of `acquire` and its request; ``grant_id`` is the grant that the shard holds.

    ``unanswered_since_ns``: when the oldest message without a reply was sent. ``is_silent``: the shard has been
    notified that no reply comes.
    ``requester`` is replaced when its request has ended and the shard still waits.
    ``trace``: its spans, where they are recorded.
    """

    requester: Requester
    granted: asyncio.Future[Grant]
    on_progress: OnProgress | None
    grant_id: str = ""
    answer_to: str = ""
    unanswered_since_ns: int | None = None
    is_silent: bool = False
    trace: "AcquireTrace | None" = None


class BaseQueue(Queue):
    """Runs a `Requester` for each waiting shard; a subclass carries the messages."""

    def __init__(self, *, client: str = "", clock: Clock = now_ns) -> None:
        self._client = client
        self._clock = clock
        self._max_concurrency: int | None = None
        self._source = Source(secrets.token_hex(8), clock())
        self._pending: dict[str, PendingAcquire] = {}
        self._ended: OrderedDict[str, PendingAcquire] = OrderedDict()
        self._timers = Timers()
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._is_closed = False
        self._home = Home()
        self._defect = Trouble()
        self._refusals: dict[Reason, Trouble] = {}  # as many as there are reasons

    # --- the interface

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,
        place: Place | None = None,
    ) -> Grant:
        """Wait until this shard may send one IDENTIFY. See `Queue.acquire`.

        ``place``: filled in here; pass it again after this wait was cancelled, and the shard is where it was in the
        line. It is of this queue object, and not to be used after a grant.
        """
        check_request(shard_id, priority)
        self._enter()
        pending = self._pending.get(replaces.request_id) if replaces else None
        if pending is None:
            pending = self._begin(shard_id, priority, on_progress, place)
        else:
            self._go_on_waiting(pending, on_progress)
        trace = pending.trace
        self._keep_running()
        try:
            grant = await pending.granted
        except BaseException as error:
            is_withdrawn = isinstance(error, asyncio.CancelledError)
            if trace is not None:
                trace.ended("withdrawn" if is_withdrawn else "closed")
            if is_withdrawn and self._pending.get(pending.requester.request_id) is pending:
                self._step(pending, Withdraw())  # else the queue went on without it
            raise
        if trace is not None:
            trace.granted(grant)
        return grant

    def identified(self, grant: Grant) -> None:
        """IDENTIFY has just been sent: the window starts now."""
        self._handle(grant, Identified())
        if self._clock() > grant.use_by_ns + NS_PER_S:
            late_s = (self._clock() - grant.use_by_ns) / NS_PER_S
            logger.warning(
                "shard %d used its turn %.1f s too late; call `await turn.granted()` right before the send",
                grant.shard_id,
                late_s,
            )

    def decline(self, grant: Grant) -> None:
        """IDENTIFY was not and will not be sent; the request ends."""
        self._handle(grant, Decline())

    def ready(self, grant: Grant) -> None:
        """Discord accepted the IDENTIFY."""
        self._report(grant, Outcome.READY)

    def rejected(self, grant: Grant) -> None:
        """Discord answered Invalid Session."""
        self._report(grant, Outcome.REJECTED)

    async def close(self) -> None:
        """Withdraw every request, and end every wait with `QueueClosedError`. Idempotent.

        A grant that a shard holds is not changed: only the shard knows whether it sent IDENTIFY.

        Raises:
            RuntimeError: the queue is in use in another event loop, which runs.
        """
        if (move := self._home.enter()) is not Move.STAYED:
            self._begin_anew(move)
        self._is_closed = True
        for pending in list(self._pending.values()):
            if pending.requester.state is not State.HOLDING:
                self._step(pending, Withdraw())
            if not pending.granted.done():
                pending.granted.set_exception(QueueClosedError())
                pending.granted.exception()  # retrieved here: the caller may have stopped waiting
        if self._runner is not None:
            while not self._runner.done():  # `asyncio.wait_for` before Python 3.12 may drop a cancellation
                self._runner.cancel()
                await asyncio.wait({self._runner}, timeout=CANCEL_EVERY_S)

    # --- for subclasses

    @abstractmethod
    def _send(self, pending: PendingAcquire, message: Message) -> None:
        """Send this request's message; never waits."""

    @abstractmethod
    async def _run(self) -> None:
        """The one task of this queue, started with the first waiting shard."""

    def _enter(self) -> None:
        """Work in the running event loop from here on.

        Raises:
            QueueClosedError: the queue was closed.
            RuntimeError: another event loop uses the queue and runs, or this queue cannot work in this one.
        """
        if self._is_closed:
            raise QueueClosedError
        if (move := self._home.enter()) is not Move.STAYED:
            self._begin_anew(move)

    def _begin_anew(self, move: Move) -> None:
        """Drop what belongs to the former event loop, or to the parent process, and begin in this one.

        Requests are withdrawn. A grant that a shard holds is left unanswered: whether IDENTIFY was sent with it is not
        known here, and an unanswered grant holds its bucket for the full time.
        """
        cancel(self._runner, move)
        self._runner, self._wake = None, asyncio.Event()
        all_pending, self._pending = self._pending, {}
        self._ended.clear()
        self._timers = Timers()
        self._source = Source(secrets.token_hex(8), self._clock())  # a forked child is another process
        for pending in all_pending.values():
            if pending.requester.state is not State.HOLDING:
                self._step(pending, Withdraw())
            loop = pending.granted.get_loop()
            if move is Move.NEW_LOOP and not pending.granted.done() and not loop.is_closed():
                pending.granted.set_exception(RuntimeError("the queue of this wait went on in another event loop"))
                pending.granted.exception()  # retrieved here: that loop may never run again

    def _keep_running(self) -> None:
        if self._is_closed:
            return
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name=f"{type(self).__name__} runner")
            self._runner.add_done_callback(self._ran)
        self._wake.set()

    def _ran(self, runner: asyncio.Task[None]) -> None:
        """Log a defect that ended the runner, and start it again: shards must not wait for ever in silence."""
        if runner.cancelled() or runner.exception() is None:
            return
        if self._defect.note(self._clock()) is not None:
            logger.error("a defect stopped the queue; it begins again", exc_info=runner.exception())
        runner.get_loop().call_later(RESTART_S, self._restart, runner)

    def _restart(self, ended: asyncio.Task[None]) -> None:
        if self._runner is ended:  # else the queue works in another event loop by now
            self._keep_running()

    def _step(self, pending: PendingAcquire, event: RequesterEvent) -> None:
        """Pass an event to a requester, and carry out the actions that it returns."""
        requester, anew = pending.requester, None
        for action in requester.handle(event, self._clock()):
            match action:
                case AskAnew():
                    anew = action
                case SendRequest() | SendCancel() | SendAnswer():
                    if isinstance(action, SendRequest) and pending.unanswered_since_ns is None:
                        pending.unanswered_since_ns = self._clock()
                    self._send(pending, action)
                case DeliverGrant(grant, use_by_ns, answer_to):
                    pending.answer_to = answer_to
                    self._deliver_grant(pending, grant, use_by_ns)
                case ReportProgress():
                    self._progressed(pending, action)
        self._max_concurrency = requester.max_concurrency or self._max_concurrency
        if requester.state is State.OVER:
            self._end(pending)
        if anew is not None:
            self._ask_anew(pending, anew)
            return
        deadline_ns = requester.next_deadline_ns()
        if deadline_ns is not None:
            self._timers.at(deadline_ns, TimerKind.REQUEST, requester.request_id)
            self._wake.set()

    def _adopt(self, max_concurrency: int) -> None:
        """Take the coordinator's max_concurrency; requests that have none yet use it to find their bucket."""
        self._max_concurrency = max_concurrency
        for pending in self._pending.values():
            pending.requester.max_concurrency = pending.requester.max_concurrency or max_concurrency

    def _tick(self) -> None:
        """Pass a `Tick` to each requester whose deadline has come."""
        while (alarm := self._timers.pop_due(self._clock())) is not None:
            pending = self._pending.get(str(alarm.key))
            if pending is not None:
                self._step(pending, Tick())

    async def _sleep(self, *deadlines_ns: int | None, max_s: float | None = None) -> None:
        """Wait for an event, or until the earliest deadline."""
        wanted = [deadline for deadline in (*deadlines_ns, self._timers.next_ns()) if deadline is not None]
        wait_s = max(0.0, (min(wanted) - self._clock()) / NS_PER_S) if wanted else max_s
        wait_s = wait_s if max_s is None or wait_s is None else min(wait_s, max_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    def _received(self, request_id: str, event: Received) -> None:
        pending = self._pending.get(request_id) or self._ended.get(request_id)
        if pending is not None:
            pending.unanswered_since_ns, pending.is_silent = None, False
            self._step(pending, event)

    def _report_silence(self, max_ns: int) -> int:
        """Notify the shards whose requests are unanswered for ``max_ns``; return the longest such time, in ns."""
        now_ns, longest_ns = self._clock(), 0
        for pending in list(self._pending.values()):
            unanswered_ns = 0 if pending.unanswered_since_ns is None else now_ns - pending.unanswered_since_ns
            longest_ns = max(longest_ns, unanswered_ns)
            if unanswered_ns >= max_ns:
                self._no_answer(pending)
        return longest_ns

    def _no_answer(self, pending: PendingAcquire) -> None:
        if not pending.is_silent and pending.requester.state is State.ASKING:
            pending.is_silent = True
            self._progressed(pending, ReportProgress(None, None, Reason.NO_ANSWER, near=False))

    # --- inside

    def _begin(
        self, shard_id: int, priority: int, on_progress: OnProgress | None, place: Place | None = None
    ) -> PendingAcquire:
        requester = self._requester(shard_id, priority, place=place)
        pending = PendingAcquire(requester, _future(), on_progress, trace=_begin_trace(requester))
        self._step(pending, Begin())  # raises for invalid arguments, before anything is kept
        self._pending[pending.requester.request_id] = pending
        return pending

    def _go_on_waiting(self, pending: PendingAcquire, on_progress: OnProgress | None) -> None:
        """Decline the grant of this request, which came too late, and let it wait on under another span."""
        if pending.trace is not None:
            pending.trace.decided("declined")
        pending.granted, pending.on_progress, pending.grant_id = _future(), on_progress, ""
        pending.trace = _begin_trace(pending.requester)
        self._step(pending, Decline(goes_on=True))

    def _requester(self, shard_id: int, priority: int, *, anew_count: int = 0, place: Place | None = None) -> Requester:
        return Requester(
            shard_id,
            secrets.token_hex(8),
            jitter=random.random,
            max_concurrency=self._max_concurrency,
            priority=priority,
            client=self._client,
            pace_ns=self._pace_ns(),
            source=self._source,
            anew_count=anew_count,
            place=place,
        )

    def _ask_anew(self, pending: PendingAcquire, anew: AskAnew) -> None:
        """Replace a request that has ended with a new one; the old one still declines late grants."""
        ended = pending.requester
        self._remember_ended(PendingAcquire(ended, pending.granted, None, answer_to=pending.answer_to))
        pending.requester = self._requester(ended.shard_id, ended.priority, anew_count=anew.anew_count)
        pending.grant_id = pending.answer_to = ""
        pending.unanswered_since_ns, pending.is_silent = None, False
        self._pending[pending.requester.request_id] = pending
        if pending.trace is not None:
            pending.trace.asks(pending.requester.request_id)
        if self._refusals.setdefault(Reason.ENDED, Trouble()).note(self._clock()) is not None:  # no flood of lines
            logger.warning(
                "shard %d waits: its request ended, and not by this process (%s); it asks anew as %s, at the end of "
                "its line, for the %d. time in this wait; if no operator ended it, find the other client that uses "
                "the id or the cancel subject",
                *(ended.shard_id, printable(anew.message), pending.requester.request_id, anew.anew_count),
            )
        self._step(pending, Begin(anew.pause_ns))

    def _pace_ns(self) -> int:
        return PACE_NS

    def _end(self, pending: PendingAcquire) -> None:
        request_id = pending.requester.request_id
        if self._pending.pop(request_id, None) is not None:
            self._remember_ended(pending)

    def _remember_ended(self, pending: PendingAcquire) -> None:
        self._ended[pending.requester.request_id] = pending
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def _handle(self, grant: Grant, event: RequesterEvent) -> None:
        if not self._home.is_here():
            return  # the grant of an event loop that has ended, or of the parent process
        pending = self._pending.get(grant.request_id)
        if pending is not None and pending.grant_id == grant.grant_id:  # an older one was given back
            self._step(pending, event)
            if pending.trace is not None:
                pending.trace.decided("identified" if isinstance(event, Identified) else "declined")

    def _report(self, grant: Grant, outcome: Outcome) -> None:
        if not self._home.is_here():
            return
        pending = self._pending.get(grant.request_id) or self._ended.get(grant.request_id)
        # The outcome opens the bucket of the grant that it names: that of a grant that was given back names no other.
        if pending is not None and pending.grant_id == grant.grant_id and pending.answer_to:
            self._send(pending, SendAnswer(pending.answer_to, outcome))
            if pending.trace is not None:
                pending.trace.reported(outcome.value)

    def _deliver_grant(self, pending: PendingAcquire, grant: wire.Granted, use_by_ns: int) -> None:
        if not pending.granted.done():
            handed = Grant(
                shard_id=grant.shard_id,
                grant_id=grant.grant_id,
                request_id=grant.request_id,
                bucket=grant.bucket,
                max_concurrency=grant.max_concurrency,
                use_by_ns=use_by_ns,
                waited_ms=grant.waited_ms,
                remaining=grant.remaining,
            )
            pending.grant_id = grant.grant_id
            pending.granted.set_result(handed)

    def _progressed(self, pending: PendingAcquire, progress: ReportProgress) -> None:
        if progress.problem and self._refusals.setdefault(progress.reason, Trouble()).note(self._clock()) is not None:
            logger.warning("shard %d waits: %s", pending.requester.shard_id, printable(progress.problem))
        if pending.trace is not None:
            pending.trace.queued(progress.position, progress.eta_ms, progress.reason.value)
        if pending.on_progress is None:
            return
        try:
            pending.on_progress(Progress(progress.position, progress.eta_ms, progress.reason, progress.near))
        except Exception:
            logger.exception("on_progress of shard %d failed; the wait goes on", pending.requester.shard_id)


def _begin_trace(requester: Requester) -> "AcquireTrace | None":
    trace = tracing.begin(requester.shard_id, requester.priority)
    if trace is not None:
        trace.asks(requester.request_id)
    return trace


def _future() -> "asyncio.Future[Grant]":
    return asyncio.get_running_loop().create_future()
