"""The queue of one small process: the same schedule, without NATS. It uses no network.

A bot that names no queue uses it. Several processes need `NatsQueue`: two LocalQueues do not share the limit, and
break it together.
"""

import logging
from collections import deque
from dataclasses import replace
from itertools import count

from nats_identify import wire
from nats_identify.client.base_queue import BaseQueue, Message, PendingAcquire
from nats_identify.client.requester import Received, SendAnswer, SendCancel, SendRequest
from nats_identify.clock import NS_PER_S, Clock, now_ns
from nats_identify.loops import Move
from nats_identify.schedule import model
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import Limits, Timing
from nats_identify.schedule.scheduler import Scheduler

logger = logging.getLogger("nats_identify")

DURATION_MAX_S = 86_400
"""A day, as for the settings of a coordinator."""


class LocalQueue(BaseQueue):
    """The release schedule in this process, for a bot that runs in one.

    Args:
        max_concurrency: identify requests allowed per window. Discord's ``session_start_limit``: 1 for all
            but large bots.
        session_total: session starts of a day, or None to count none. Discord's default is 1000; what was
            spent before this process started is not known here.
        window_s: seconds between two IDENTIFYs of a bucket, above 0, a day at most; Discord's docs: 5.
        margin_s: seconds that are added to it for the network between here and Discord, as `Timing` says; 0 or more.
        use_within_s: seconds that a shard may take between its turn and its IDENTIFY; above 0.
        clock: nanoseconds that only grow; tests bring their own.

    Raises:
        ValueError: there can be no such max_concurrency, or a duration is not in its range.
    """

    def __init__(
        self,
        max_concurrency: int = 1,
        *,
        session_total: int | None = 1000,
        window_s: float = 5.0,
        margin_s: float = 0.2,
        use_within_s: float = 5.0,
        clock: Clock = now_ns,
    ) -> None:
        if not 1 <= max_concurrency <= model.BUCKETS_MAX:
            message = f"max_concurrency {max_concurrency}: Discord's session_start_limit says 1 or more"
            raise ValueError(message)
        super().__init__(clock=clock)
        self._timing = timing = Timing(
            window_ns=_duration_ns("window_s", window_s),
            margin_ns=_duration_ns("margin_s", margin_s, may_be_zero=True),
            use_within_ns=_duration_ns("use_within_s", use_within_s),
        )
        self._is_counted = session_total is not None
        total = 2**53 if session_total is None else session_total
        budget = self._make_budget()
        if budget.static:
            budget.set(Limits(max_concurrency, total, total), unconfirmed_count=0, now_ns=clock())
            self._max_concurrency = max_concurrency
        numbers = count(1)
        self._schedule = Scheduler(
            timing,
            budget,
            self._make_guard(),
            max_concurrency=self._max_concurrency,
            name_grant=lambda: f"local-{next(numbers)}",
        )
        self._unsent: deque[Message] = deque()

    @property
    def description(self) -> str:
        """What it is, for people."""
        return f"a {type(self).__name__}, which shares nothing with other processes"

    def _make_budget(self) -> SessionBudget:
        return SessionBudget()

    def _make_guard(self) -> CrashLoopGuard | None:
        return None  # the counts would not survive the crash

    def _pace_ns(self) -> int:
        return self._timing.nudge_lead_ns

    def _begin_anew(self, move: Move) -> None:
        if move is Move.FORKED:
            logger.warning(
                "this process was forked from one that uses the same %s: the two share nothing from here "
                "on; where both start shards of one bot, take NatsQueue",
                type(self).__name__,
            )
        super()._begin_anew(move)  # the schedule stays: the windows that run are Discord's

    def _send(self, pending: PendingAcquire, message: Message) -> None:
        self._unsent.append(message)
        self._keep_running()

    async def _run(self) -> None:
        """Pass messages between the requesters and the schedule, until no request is left."""
        while self._pending or self._unsent:
            self._deliver()
            self._tick()
            if not self._unsent:
                self._perform(self._schedule.handle(model.Wake(), self._clock()))
                self._release()
            if self._pending and not self._unsent:
                await self._sleep(self._schedule.next_deadline_ns())

    def _deliver(self) -> None:
        while self._unsent:
            event = _event(self._unsent.popleft())
            self._perform(self._schedule.handle(event, self._clock()))
            self._release()

    def _release(self) -> None:
        grants, actions = self._schedule.grant_due(self._clock())
        self._perform([*actions, *self._schedule.on_committed(grants, self._clock())])

    def _perform(self, actions: list[model.ScheduleAction]) -> None:
        for action in actions:
            if isinstance(action, model.Reply):
                body = action.body
                if isinstance(body, model.Granted) and not self._is_counted:
                    body = replace(body, remaining=None)
                self._received(action.to, _received(body))


def _event(message: Message) -> model.ScheduleEvent:
    """The event that a coordinator's intake makes of the message."""
    match message:
        case SendRequest(bucket, request):
            request_id = request.request_id or ""
            return request.ask(bucket=bucket, reply_to=request_id, request_id=request_id)
        case SendCancel(_, request_id):
            return model.Cancel(request_id)
        case SendAnswer(grant_id, outcome):
            return model.Confirmation(grant_id, outcome)


def _received(body: model.Granted | model.Queued | model.Refused) -> Received:
    return Received(wire.reply_of(body), body.grant_id if isinstance(body, model.Granted) else "")


def _duration_ns(name: str, seconds: float, *, may_be_zero: bool = False) -> int:
    """Return the seconds as nanoseconds.

    Raises:
        ValueError: they are not in the range; a coordinator refuses them as well.
    """
    if not (0 < seconds <= DURATION_MAX_S or (may_be_zero and seconds == 0)):
        least = "0 or more" if may_be_zero else "above 0"
        message = f"{name} {seconds}: give seconds, {least}, {DURATION_MAX_S} at most"
        raise ValueError(message)
    return round(seconds * NS_PER_S)
