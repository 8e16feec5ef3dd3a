"""Decide which shard of one bot may identify next, and when. This code never waits, sends, logs or reads a clock.

Pass each event to `handle`. Call `grant_due` for the grants that are due, record them, then call `on_committed`,
which returns the replies. A coordinator records the grants in the ledger; a queue inside one process calls both
at once. A standby calls `handle` and `restore` alone.
"""

from collections.abc import Callable, Iterable

from nats_identify.schedule import commands, confirmations, evaluate, expiry, limits, model, plain, replies
from nats_identify.schedule.bucket_queue import QueuedRequest
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.grants import AWAITING, GlobalHold, Hold
from nats_identify.schedule.model import Event, Reason, Reply, ScheduleAction
from nats_identify.schedule.replies import fields_of
from nats_identify.schedule.state import ScheduleState, Snapshot

LATE_COMMITS = 3
"""How many times a plain grant is committed again because its commit took too long; then it is refused."""


class Scheduler:
    """The queue, the holds and the budget of one bot, behind one `handle`.

    Args:
        timing: the durations that new grants are made with.
        budget: the day's session starts.
        guard: defers crash-looping shards; None: no shard is deferred.
        max_concurrency: today's number of buckets; None while it is unknown.
        name_grant: returns a new grant_id at each call.
        max_waiting: requests beyond it are refused as overloaded.
    """

    def __init__(
        self,
        timing: model.Timing,
        budget: SessionBudget,
        guard: CrashLoopGuard | None = None,
        *,
        max_concurrency: int | None,
        name_grant: Callable[[], str],
        max_waiting: int = 200_000,
    ) -> None:
        self.state = ScheduleState(timing, budget, guard or CrashLoopGuard(), max_concurrency, max_waiting)
        self._timing = timing
        self._name_grant = name_grant
        self._to_recommit: list[Hold] = []
        self._in_entry: list[ScheduleAction] = []  # replies that the entry that is being written commits

    # --- events

    def handle(self, event: model.ScheduleEvent, now_ns: int) -> list[ScheduleAction]:
        """Apply one event; return what to send. Only `grant_due` makes grants."""
        actions = expiry.fire_due_timers(self.state, now_ns)
        match event:
            case model.RequestReceived() if not event.is_copy:
                actions += self._receive_request(event, now_ns)
            case model.RequestReceived():
                self._take_copy(event, now_ns)
            case model.Cancel(request_id):
                actions += self._cancel(request_id, now_ns)
            case model.Confirmation(grant_id, outcome):
                actions += confirmations.confirm(self.state, grant_id, outcome, now_ns)
            case model.Undeliverable(grant_id):
                actions += confirmations.undeliverable(self.state, grant_id, now_ns)
            case model.NudgeUndeliverable(request_id):
                self._nudge_undeliverable(request_id)
            case model.LimitsFetchStarted():
                self.state.limits_fetch_started(now_ns)
            case model.LimitsFetched(fetched):
                actions += limits.learn(self.state, fetched, now_ns)
            case model.Pause() | model.Resume() | model.Kick() | model.Release() | model.Pardon():
                actions += commands.apply(self.state, event, now_ns)
            case model.Wake():
                pass
        return actions

    def fire_due_timers(self, now_ns: int) -> list[ScheduleAction]:
        """Apply what time alone has changed by now; return what to send. A snapshot made now shows all of it."""
        return expiry.fire_due_timers(self.state, now_ns)

    def next_deadline_ns(self) -> int | None:
        """When time alone changes something here."""
        return self.state.timers.next_ns()

    @property
    def has_unsent(self) -> bool:
        """Whether replies wait for a commit: final ones to plain requesters, and those to commands."""
        return bool(self._in_entry or self.state.unsent)

    # --- grants and leadership

    def grant_due(self, now_ns: int) -> tuple[list[Hold], list[ScheduleAction]]:
        """Grant all that is due, and nudge the requests whose turn is near. No grant is sent before `on_committed`."""
        actions = expiry.fire_due_timers(self.state, now_ns)
        holds, self._to_recommit = self._to_recommit, []
        for hold in holds:
            self.state.start_hold(hold, now_ns)
        for bucket in self.state.take_dirty_buckets():
            granted, nudges = self._evaluate(bucket, now_ns)
            holds += granted
            actions += nudges
        actions += limits.refuse_plain_when_exhausted(self.state, now_ns)
        self.take_unsent(now_ns)
        return holds, actions

    def take_unsent(self, now_ns: int) -> None:
        """The next entry commits the replies that wait; `on_committed` returns them."""
        self._in_entry += self.state.take_unsent(now_ns)

    def on_committed(self, holds: Iterable[Hold], now_ns: int, *, in_time: bool = True) -> list[ScheduleAction]:
        """These grants are recorded where a successor will find them: return their replies.

        Args:
            holds: what `grant_due` returned.
            now_ns: a reading of the clock after the commit; the holds count from it.
            in_time: whether the leader's own lease stands; otherwise no reply leaves, and a renewal finds its grant.
        """
        actions, self._in_entry = self._in_entry if in_time else [], []
        for hold in holds:
            is_late = not in_time or now_ns - hold.granted_at_ns > self._timing.grace_ns // 2
            self.state.start_hold(hold, now_ns)
            if is_late and not hold.grant.managed:
                actions += self._commit_again_or_refuse(hold, now_ns)
                continue
            self.state.commit(hold)
            if in_time:
                actions += self._publish(hold, hold.reply_to, now_ns)
                actions.append(Event("granted", fields_of(hold)))
        return actions

    def restore(self, snapshot: Snapshot, now_ns: int) -> list[ScheduleAction]:
        """Take over the leader's state; confirms that were received before their grants are applied now."""
        actions: list[ScheduleAction] = []
        for early in self.state.restore(snapshot, now_ns):
            actions += confirmations.confirm(self.state, early.grant_id, early.outcome, early.at_ns)
        return actions

    def step_down(self, uncommitted: Iterable[Hold]) -> None:
        """Stop leading: the requests of grants that were never committed return to their places."""
        self.state.become_standby([*uncommitted, *self._to_recommit])
        self._to_recommit, self._in_entry = [], []

    def take_over(
        self, static: model.Limits | None, now_ns: int, *, unknown_hold_ns: int | None, lost_since_ns: int | None
    ) -> GlobalHold | None:
        """Prepare what the entry of a takeover records.

        Args:
            static: limits that are settings; None: they are Discord's.
            now_ns: a reading of the clock.
            unknown_hold_ns: how long grants of a ledger that is not trusted may matter; None: it is trusted.
            lost_since_ns: since when grants may have been lost with a ledger; None: since never.

        Returns:
            The hold of all buckets where the ledger is not trusted.
        """
        hold = None
        if unknown_hold_ns is not None:
            hold = self.state.assume_unknown_grants(self._name_grant(), unknown_hold_ns, now_ns)
        if static is not None:
            self.state.apply_settings(static, now_ns, lost_since_ns=lost_since_ns)
        return hold

    def become_leader(self, now_ns: int) -> None:
        """Become leader: mark all buckets dirty; the previous leader's nudges do not count."""
        self.state.become_leader(now_ns)

    def on_slow_commit(self, now_ns: int) -> None:
        """A commit was slow: nudges sent before it, and the renewals they cause, may be late by as much."""
        self.state.note_slow_commit(now_ns)

    def note_commit_time(self, commit_ns: int, now_ns: int) -> None:
        """A commit took this long; it was slow if that is longer than a step of the nudges."""
        if commit_ns > evaluate.step_ns(self._timing):
            self.on_slow_commit(now_ns)

    def on_commit_unknown(self, now_ns: int) -> None:
        """The outcome of a commit is unknown: what was sent to shards may be lost as well."""
        self.state.invalidate_nudges(now_ns)

    def on_reconnected(self, now_ns: int) -> None:
        """The connection was lost, perhaps the shards' too: pause grants until they have reconnected and renewed."""
        self.state.invalidate_nudges(now_ns)
        self.state.pause_grants(now_ns + self._timing.nudge_lead_ns // 2)

    # --- requests

    def _receive_request(self, message: model.RequestReceived, now_ns: int) -> list[ScheduleAction]:
        """Queue a request, or apply its renewal; reply with its position, or with the grant that it has."""
        requests = self.state.requests
        if requests.has_ended(message.request_id):
            if not message.managed and requests.may_be_copy_of_ended(message):
                return []  # it has had its one reply
            is_first = self.state.refuse_ended(message.request_id)
            return replies.refuse(message, replies.ended(message), is_news=is_first)
        request = requests.get(message.request_id)
        refusal = replies.wrong_bucket(self.state, message)
        # The ledger may have its grant before any message of it has come here.
        is_known = request is not None or self.state.holds.for_request(message.request_id) is not None
        if refusal is None and not is_known:
            refusal = self._full(message, now_ns)
        if refusal is not None:
            is_again = is_known and not message.managed  # of a plain request the first message counts
            return [] if is_again else plain.final(self.state, message, replies.refuse(message, refusal))
        is_new = request is None
        if request is None:
            request = self.state.admit(message, now_ns)
        elif message.renewal < request.message.renewal:
            return []
        else:
            self.state.renew(request, message, now_ns)
        actions: list[ScheduleAction] = []
        if message.max_concurrency not in {None, self.state.max_concurrency}:
            actions.append(model.FetchLimits(f"a request claims max_concurrency {message.max_concurrency}"))
        if request.grant_id is not None:
            self.state.set_pace(request, request.renew_in_ns, now_ns)
            return actions + self._same_grant_again(request, now_ns)
        self.state.mark_dirty_if_near(request.bucket, now_ns)
        actions += self._defer_if_looping(request, now_ns)
        granted, _ = evaluate.next_grant(self.state, request.bucket, now_ns)
        if request is granted:
            self.state.set_pace(request, request.renew_in_ns, now_ns)
        else:
            actions += self._reply_queued(request, now_ns, is_new=is_new)
        return actions

    def _take_copy(self, message: model.RequestReceived, now_ns: int) -> None:
        """Queue a copy of a request that another replica has."""
        requests = self.state.requests
        is_known = requests.get(message.request_id) is not None or requests.has_ended(message.request_id)
        if not is_known and not requests.is_full:
            self.state.admit_copy(message, now_ns)

    def _full(self, message: model.RequestReceived, now_ns: int) -> model.Refused | None:
        """Refuse a new request for which there is no room, or nothing left of the day."""
        state = self.state
        if state.requests.is_full:
            text = f"{state.requests.max_waiting} requests wait already; ask again later"
            return replies.overloaded(message.request_id, text)
        if state.requests.is_full_for(message.reply_to):
            text = (
                f"{state.requests.max_of_sender} requests of this connection wait already, "
                f"the most that one may have: a quarter of IDENTIFY_MAX_WAITING; ask again later"
            )
            return replies.overloaded(message.request_id, text)
        if message.managed or not state.is_leading:
            return None
        if state.budget.closed_for(message.priority) is Reason.SESSION_LIMIT:
            return replies.exhausted(state, message.request_id, now_ns)
        return None

    def _defer_if_looping(self, request: QueuedRequest, now_ns: int) -> list[ScheduleAction]:
        if not (request.deferred_until_ns or self.state.guard.knows(request.message.shard_id)):
            return []  # nearly always
        opens_at_ns = self.state.loop_ends_at_ns(request, now_ns)
        self.state.defer(request, opens_at_ns, now_ns)
        if not self.state.is_new_loop(request, now_ns):
            return []
        return [Event("crash_loop", fields_of(request, wait_ms=replies.ms(opens_at_ns - now_ns)))]

    def _reply_queued(self, request: QueuedRequest, now_ns: int, *, is_new: bool) -> list[ScheduleAction]:
        queued = replies.queued(self.state, request, now_ns)
        self.state.set_pace(request, queued.renew_in_ns, now_ns)
        actions: list[ScheduleAction] = []
        if not self.state.is_within_lease:
            return actions  # a standby's replies are not sent, so they are not made
        if request.message.managed:
            actions.append(Reply(request.message.reply_to, queued))
            if queued.position == 1 and queued.reason is Reason.WINDOW:
                self._promise_if_near(request, now_ns)
        if is_new:
            eta_ms = replies.ms(queued.eta_ns)
            fields = fields_of(request, position=queued.position, eta_ms=eta_ms, reason=queued.reason.value)
            actions.append(Event("queued", fields))
        return actions

    def _promise_if_near(self, request: QueuedRequest, now_ns: int) -> None:
        if self.state.opens_at_ns(request.bucket) - now_ns <= self._timing.nudge_lead_ns:
            self.state.promise(request)

    def _cancel(self, request_id: str, now_ns: int) -> list[ScheduleAction]:
        request = self.state.end_request(request_id)  # its hold stays, if it was granted
        if request is None:
            return []
        return [Event("cancelled", fields_of(request, waited_ms=replies.waited_ms(request.asked_at_ns, now_ns)))]

    def _same_grant_again(self, request: QueuedRequest, now_ns: int) -> list[ScheduleAction]:
        """The grant was lost, or crossed this renewal: the identical one again, with no new commit, charge or hold."""
        message, hold = request.message, self.state.holds.for_request(request.message.request_id)
        if hold is None or hold.state not in AWAITING:
            return []
        if not (hold.grant.managed and message.managed):  # a plain one has had its one reply, and counts from receipt
            is_copy = not hold.reply_to or hold.reply_to == message.reply_to
            return [] if is_copy else replies.refuse(message, replies.ended(message))
        return self._publish(hold, message.reply_to, now_ns)

    def _publish(self, hold: Hold, to: str, now_ns: int) -> list[ScheduleAction]:
        self.state.count_publish(hold)
        return [Reply(to, replies.granted(self.state, hold, now_ns))]

    # --- grants

    def _evaluate(self, bucket: int, now_ns: int) -> tuple[list[Hold], list[ScheduleAction]]:
        """Grant and nudge what is due in one bucket."""
        holds: list[Hold] = []
        decision = evaluate.evaluate(self.state, bucket, now_ns)
        if decision.grant is not None:
            holds.append(self.state.grant(decision.grant, self._name_grant(), now_ns))
            decision = evaluate.evaluate(self.state, bucket, now_ns)  # the bucket is shut now
        if bucket not in self.state.requests.queues:
            return holds, []
        self.state.set_nudges(
            bucket, decision.nudges, decision.nudge_width, decision.widen_at_ns, decision.look_again_at_ns, now_ns
        )
        nudges = [replies.queued(self.state, request, now_ns) for request in decision.nudges]
        return holds, [
            Reply(request.message.reply_to, queued._replace(position=1, renew_in_ns=0, nudge=True))
            for request, queued in zip(decision.nudges, nudges, strict=True)
        ]

    def _commit_again_or_refuse(self, hold: Hold, now_ns: int) -> list[ScheduleAction]:
        """Commit a late plain grant again, or refuse it: its shard counts from receipt, a successor from the commit."""
        if self.state.count_recommit(hold) <= LATE_COMMITS:
            self._to_recommit.append(hold)
            return []
        request = self.state.refuse_late(hold, now_ns)
        slow = "the ledger could not be written fast enough; ask again with a new request_id"
        refusal = replies.overloaded(hold.grant.request_id, slow)
        return [] if request is None else replies.refuse(request.message, refusal)

    def _nudge_undeliverable(self, request_id: str) -> None:
        """No shard received the nudge: skip the request until it renews, and nudge the next one at once."""
        request = self.state.requests.get(request_id)
        if request is not None and request.renewed_at_ns < request.nudged_at_ns:
            self.state.mark_unresponsive(request)
