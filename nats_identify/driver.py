"""Runs the attempts of one process's shards: events in, messages out. It knows no NATS and no schedule.

`LocalQueue` and `NatsQueue` are this, with a different post: the same state machine waits in both.
"""

import asyncio
import contextlib
import logging
import secrets
from abc import abstractmethod
from collections import OrderedDict
from dataclasses import dataclass

from nats_identify import attempt as words
from nats_identify import wire
from nats_identify.attempt import AskAnew, Attempt, AttemptEvent, SendAnswer, SendCancel, SendRequest, Source
from nats_identify.clock import NS_PER_S, Clock, now_ns
from nats_identify.loops import Home, Move, cancel
from nats_identify.printable import printable
from nats_identify.queue import Grant, OnProgress, Progress, Queue, QueueClosedError, check_request
from nats_identify.schedule.model import Code, Outcome
from nats_identify.schedule.timers import TimerKind, Timers
from nats_identify.trouble import Trouble

ENDED_MOST = 1024
"""So many ended attempts are kept, to answer copies of their grants."""

CANCEL_EVERY_S = 0.2
"""How often a runner that is still there is cancelled again when the queue is closed."""

RESTART_S = 1.0
"""A runner that a defect has ended is started again after so long."""

logger = logging.getLogger("nats_identify")

Message = SendRequest | SendCancel | SendAnswer


@dataclass(slots=True, eq=False)
class Entry:
    """One attempt and whoever waits for it; ``grant_id`` is the grant in the shard's hands.

    ``unanswered_since_ns`` is when the oldest request was sent that has no reply; ``is_silent``: the shard was told
    that there is no answer.
    ``attempt`` is replaced where its request has ended and the shard still waits.
    """

    attempt: Attempt
    granted: asyncio.Future[Grant]
    on_progress: OnProgress | None
    grant_id: str = ""
    answer_to: str = ""
    unanswered_since_ns: int | None = None
    is_silent: bool = False


class AttemptQueue(Queue):
    """A queue whose waiting is done by `Attempt`; a subclass carries the messages."""

    def __init__(self, *, client: str = "", clock: Clock = now_ns) -> None:
        self._client = client
        self._clock = clock
        self._max_concurrency: int | None = None
        self._source = Source(secrets.token_hex(8), clock())
        self._entries: dict[str, Entry] = {}
        self._ended: OrderedDict[str, Entry] = OrderedDict()
        self._alarms = Timers()
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._is_closed = False
        self._home = Home()
        self._defect = Trouble()
        self._refusals: dict[str, Trouble] = {}  # by reason: as many as there are codes

    # --- the interface

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        instead_of: Grant | None = None,
    ) -> Grant:
        """Wait until this shard may send one IDENTIFY. See `Queue.acquire`."""
        check_request(shard_id, priority)
        self._enter()
        entry = self._entries.get(instead_of.request_id) if instead_of else None
        if entry is None:
            entry = self._begin(shard_id, priority, on_progress)
        else:
            entry.granted, entry.on_progress, entry.grant_id = _future(), on_progress, ""
            self._drive(entry, words.Decline(goes_on=True))
        self._keep_running()
        try:
            return await entry.granted
        except asyncio.CancelledError:
            if self._entries.get(entry.attempt.request_id) is entry:  # else the queue went on without it
                self._drive(entry, words.Withdraw())
            raise

    def identified(self, grant: Grant) -> None:
        """IDENTIFY has just been sent: the window starts now."""
        self._tell(grant, words.Identified())
        if self._clock() > grant.use_by_ns + NS_PER_S:
            late_s = (self._clock() - grant.use_by_ns) / NS_PER_S
            logger.warning(
                "shard %d used its turn %.1f s too late; call `await turn.granted()` right before the send",
                grant.shard_id,
                late_s,
            )

    def decline(self, grant: Grant) -> None:
        """IDENTIFY was not and will not be sent; the asking ends."""
        self._tell(grant, words.Decline())

    def ready(self, grant: Grant) -> None:
        """Discord accepted the IDENTIFY."""
        self._report(grant, Outcome.READY)

    def rejected(self, grant: Grant) -> None:
        """Discord answered Invalid Session."""
        self._report(grant, Outcome.REJECTED)

    async def close(self) -> None:
        """Withdraw every asking, and end every wait with `QueueClosedError`. Idempotent.

        A grant that was handed to a shard stays as it is: whether IDENTIFY was sent with it is for the shard to say.

        Raises:
            RuntimeError: the queue is in use in another event loop, which runs.
        """
        if (move := self._home.enter()) is not Move.STAYED:
            self._begin_anew(move)
        self._is_closed = True
        for entry in list(self._entries.values()):
            if entry.attempt.state is not words.State.HOLDING:
                self._drive(entry, words.Withdraw())
            if not entry.granted.done():
                entry.granted.set_exception(QueueClosedError())
                entry.granted.exception()  # retrieved here: nobody may be waiting any more
        if self._runner is not None:
            while not self._runner.done():  # `asyncio.wait_for` before Python 3.12 may drop a cancellation
                self._runner.cancel()
                await asyncio.wait({self._runner}, timeout=CANCEL_EVERY_S)

    # --- for subclasses

    @abstractmethod
    def _post(self, entry: Entry, message: Message) -> None:
        """Carry a message of this entry's attempt; never waits."""

    @abstractmethod
    async def _run(self) -> None:
        """Do all the waiting of this queue; started when somebody waits."""

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

        Requests are withdrawn. A grant that was handed to a shard is left unanswered: whether IDENTIFY was sent with it
        cannot be known here, and unanswered it holds its bucket for the full time.
        """
        cancel(self._runner, move)
        self._runner, self._wake = None, asyncio.Event()
        entries, self._entries = self._entries, {}
        self._ended.clear()
        self._alarms = Timers()
        self._source = Source(secrets.token_hex(8), self._clock())  # a forked child is another process
        for entry in entries.values():
            if entry.attempt.state is not words.State.HOLDING:
                self._drive(entry, words.Withdraw())
            loop = entry.granted.get_loop()
            if move is Move.NEW_LOOP and not entry.granted.done() and not loop.is_closed():
                entry.granted.set_exception(RuntimeError("the queue of this wait went on in another event loop"))
                entry.granted.exception()  # retrieved here: that loop may never run again

    def _keep_running(self) -> None:
        if self._is_closed:
            return
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name=f"{type(self).__name__} runner")
            self._runner.add_done_callback(self._ran)
        self._wake.set()

    def _ran(self, runner: asyncio.Task[None]) -> None:
        """A defect must not leave shards waiting unheard: say so, and begin again a little later."""
        if runner.cancelled() or runner.exception() is None:
            return
        if self._defect.note(self._clock()) is not None:
            logger.error("a defect stopped the queue; it begins again", exc_info=runner.exception())
        runner.get_loop().call_later(RESTART_S, self._restart, runner)

    def _restart(self, ended: asyncio.Task[None]) -> None:
        if self._runner is ended:  # else the queue works in another event loop by now
            self._keep_running()

    def _drive(self, entry: Entry, event: AttemptEvent) -> None:
        """Tell an attempt what happened, and do what it wants."""
        attempt, anew = entry.attempt, None
        for action in attempt.handle(event, self._clock()):
            match action:
                case AskAnew():
                    anew = action
                case SendRequest() | SendCancel() | SendAnswer():
                    if isinstance(action, SendRequest) and entry.unanswered_since_ns is None:
                        entry.unanswered_since_ns = self._clock()
                    self._post(entry, action)
                case words.HandOver(grant, use_by_ns, answer_to):
                    entry.answer_to = answer_to
                    self._hand_over(entry, grant, use_by_ns)
                case words.Tell():
                    self._progressed(entry, action)
        self._max_concurrency = attempt.max_concurrency or self._max_concurrency
        if attempt.state is words.State.OVER:
            self._end(entry)
        if anew is not None:
            self._ask_anew(entry, anew)
            return
        deadline_ns = attempt.next_deadline_ns()
        if deadline_ns is not None:
            self._alarms.at(deadline_ns, TimerKind.REQUEST, attempt.request_id)
            self._wake.set()

    def _adopt(self, max_concurrency: int) -> None:
        """Take the number that a coordinator told; an asking that has none yet asks in the right bucket with it."""
        self._max_concurrency = max_concurrency
        for entry in self._entries.values():
            entry.attempt.max_concurrency = entry.attempt.max_concurrency or max_concurrency

    def _tick(self) -> None:
        """Wake the attempts whose time has come."""
        while (alarm := self._alarms.pop_due(self._clock())) is not None:
            entry = self._entries.get(str(alarm.key))
            if entry is not None:
                self._drive(entry, words.Tick())

    async def _sleep(self, *deadlines_ns: int | None, most_s: float | None = None) -> None:
        """Wait until something is told, or the earliest deadline."""
        wanted = [deadline for deadline in (*deadlines_ns, self._alarms.next_ns()) if deadline is not None]
        wait_s = max(0.0, (min(wanted) - self._clock()) / NS_PER_S) if wanted else most_s
        wait_s = wait_s if most_s is None or wait_s is None else min(wait_s, most_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    def _received(self, request_id: str, event: words.Received) -> None:
        entry = self._entries.get(request_id) or self._ended.get(request_id)
        if entry is not None:
            entry.unanswered_since_ns, entry.is_silent = None, False
            self._drive(entry, event)

    def _tell_silence(self, most_ns: int) -> int:
        """Tell the shards whose requests have had no answer for longer; return the longest, in nanoseconds."""
        now_ns, longest_ns = self._clock(), 0
        for entry in list(self._entries.values()):
            unanswered_ns = 0 if entry.unanswered_since_ns is None else now_ns - entry.unanswered_since_ns
            longest_ns = max(longest_ns, unanswered_ns)
            if unanswered_ns >= most_ns:
                self._no_answer(entry)
        return longest_ns

    def _no_answer(self, entry: Entry) -> None:
        if not entry.is_silent and entry.attempt.state is words.State.ASKING:
            entry.is_silent = True
            self._progressed(entry, words.Tell(None, None, "no_answer", near=False))

    # --- inside

    def _begin(self, shard_id: int, priority: int, on_progress: OnProgress | None) -> Entry:
        entry = Entry(self._attempt(shard_id, priority), _future(), on_progress)
        self._drive(entry, words.Begin())  # raises for what no request can say, before anything is kept
        self._entries[entry.attempt.request_id] = entry
        return entry

    def _attempt(self, shard_id: int, priority: int, *, anew_count: int = 0) -> Attempt:
        return Attempt(
            shard_id,
            secrets.token_hex(8),
            max_concurrency=self._max_concurrency,
            priority=priority,
            client=self._client,
            pace_ns=self._pace_ns(),
            source=self._source,
            anew_count=anew_count,
        )

    def _ask_anew(self, entry: Entry, anew: AskAnew) -> None:
        """Let a new request take over the wait of one that has ended; the old one still answers late grants."""
        ended = entry.attempt
        self._remember_ended(Entry(ended, entry.granted, None, answer_to=entry.answer_to))
        entry.attempt = self._attempt(ended.shard_id, ended.priority, anew_count=anew.anew_count)
        entry.grant_id = entry.answer_to = ""
        entry.unanswered_since_ns, entry.is_silent = None, False
        self._entries[entry.attempt.request_id] = entry
        if self._refusals.setdefault(Code.ENDED, Trouble()).note(self._clock()) is not None:  # no flood of lines
            logger.warning(
                "shard %d waits: its request ended, and not by this process (%s); it asks anew as %s, at the end of "
                "its line, for the %d. time in this wait; look for who else uses the id or the cancel subject",
                *(ended.shard_id, printable(anew.message), entry.attempt.request_id, anew.anew_count),
            )
        self._drive(entry, words.Begin(anew.pause_ns))

    def _pace_ns(self) -> int:
        return words.PACE_NS

    def _end(self, entry: Entry) -> None:
        request_id = entry.attempt.request_id
        if self._entries.pop(request_id, None) is not None:
            self._remember_ended(entry)

    def _remember_ended(self, entry: Entry) -> None:
        self._ended[entry.attempt.request_id] = entry
        if len(self._ended) > ENDED_MOST:
            self._ended.popitem(last=False)

    def _tell(self, grant: Grant, event: AttemptEvent) -> None:
        if not self._home.is_here():
            return  # the grant of an event loop that has ended, or of the parent process
        entry = self._entries.get(grant.request_id)
        if entry is not None and entry.grant_id == grant.grant_id:  # an older one was given back
            self._drive(entry, event)

    def _report(self, grant: Grant, outcome: Outcome) -> None:
        if not self._home.is_here():
            return
        entry = self._entries.get(grant.request_id) or self._ended.get(grant.request_id)
        if entry is not None and entry.answer_to:
            self._post(entry, SendAnswer(entry.answer_to, outcome))

    def _hand_over(self, entry: Entry, grant: wire.Granted, use_by_ns: int) -> None:
        if not entry.granted.done():
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
            entry.grant_id = grant.grant_id
            entry.granted.set_result(handed)

    def _progressed(self, entry: Entry, told: words.Tell) -> None:
        if told.problem and self._refusals.setdefault(told.reason, Trouble()).note(self._clock()) is not None:
            logger.warning("shard %d waits: %s", entry.attempt.shard_id, printable(told.problem))
        if entry.on_progress is None:
            return
        try:
            entry.on_progress(Progress(told.position, told.eta_ms, told.reason, told.near))
        except Exception:
            logger.exception("on_progress of shard %d failed; the wait goes on", entry.attempt.shard_id)


def _future() -> "asyncio.Future[Grant]":
    return asyncio.get_running_loop().create_future()
