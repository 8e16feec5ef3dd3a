"""Who may identify next, and when: the release schedule of one bot. It never waits, sends, logs or reads a clock.

Tell it what happened with `handle`; ask it for what is due with `grant_due`; when those grants are safely
recorded, say so with `on_committed`, and it returns the replies. A coordinator records them in the ledger in
between; a queue inside one process does both at once. A standby calls `handle` and `restore` alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from nats_identify.schedule import confirmations, evaluate, expiry, model, plain, replies
from nats_identify.schedule.bucket_queue import RENEW_MOST_NS, BucketQueue, QueuedRequest
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.limits import LimitsTracker
from nats_identify.schedule.model import Event, Grant, Reason, Reply, ScheduleAction
from nats_identify.schedule.replies import fields_of
from nats_identify.schedule.state import ScheduleState
from nats_identify.schedule.timers import LOOK_MOST_NS, TimerKind

LATE_COMMITS = 3
"""A plain grant whose commit took too long is committed again so often, then refused."""


class Scheduler:
    """The queue, the holds and the budget of one bot, behind one `handle`.

    Args:
        timing: the durations that new grants are made with.
        budget: the day's session starts.
        guard: keeps shards that loop from spending them; None: nobody does.
        max_concurrency: today's number of buckets; None while nobody knows it.
        name_grant: returns a grant_id that was never used before.
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
        self._budget = budget
        self._name_grant = name_grant
        self._to_recommit: list[Grant] = []
        self._refusals: list[ScheduleAction] = []  # of plain requests, in the entry that is being written
        self._limits = LimitsTracker(self.state)

    # --- told

    def handle(self, event: model.ScheduleEvent, now_ns: int) -> list[ScheduleAction]:
        """Take in one event; return what to send. Grants come from `grant_due` alone."""
        actions = expiry.fire_due_timers(self.state, self._limits, now_ns)
        match event:
            case model.RequestReceived(is_copy=True):
                self._take_copy(event, now_ns)
            case model.RequestReceived():
                actions += self._receive_request(event, now_ns)
            case model.Cancel(request_id):
                actions += self._cancel(request_id)
            case model.Confirmation(grant_id, outcome):
                actions += confirmations.confirm(self.state, grant_id, outcome, now_ns)
            case model.Undeliverable(grant_id):
                actions += confirmations.undeliverable(self.state, grant_id, now_ns)
            case model.NudgeUndeliverable(request_id):
                self._nudge_undeliverable(request_id)
            case model.LimitsFetchStarted():
                self._limits.fetch_started(now_ns)
            case model.LimitsFetched(limits):
                actions += self._limits.learn(limits, now_ns)
            case model.Wake():
                pass
        return actions

    def next_deadline_ns(self) -> int | None:
        """When time alone changes something here."""
        return self.state.timers.next_ns()

    @property
    def has_due(self) -> bool:
        """Whether `grant_due` has anything to look at."""
        return bool(self.state.dirty_buckets or self._to_recommit)

    @property
    def is_refusing(self) -> bool:
        """Whether refusals of plain requests wait for a commit."""
        return bool(self._refusals)

    # --- asked

    def grant_due(self, now_ns: int) -> tuple[list[Grant], list[ScheduleAction]]:
        """Grant all that is due, and nudge those whose turn is near. No grant leaves before `on_committed`."""
        actions = expiry.fire_due_timers(self.state, self._limits, now_ns)
        grants, self._to_recommit = self._to_recommit, []
        for grant in grants:
            self.state.start_hold(grant, now_ns)
        queues = self.state.requests.queues
        dirty, self.state.dirty_buckets = self.state.dirty_buckets, set()
        for bucket in sorted(dirty & queues.keys()):
            request = self._candidate(bucket, now_ns)
            if request is not None:
                grants.append(self._grant(request, now_ns))
            if bucket in queues:
                actions += self._prepare(bucket, queues[bucket], now_ns)
        actions += self._limits.refuse_plain_when_exhausted(now_ns)
        self._refusals += self.state.plain.take(now_ns)
        return grants, actions

    def on_committed(self, grants: Iterable[Grant], now_ns: int, *, in_time: bool = True) -> list[ScheduleAction]:
        """These grants are recorded where a successor will find them: return their replies.

        Args:
            grants: what `grant_due` returned.
            now_ns: a reading of the clock after the commit; the holds count from it.
            in_time: whether the leader's own lease stands; otherwise no reply leaves, and a renewal finds its grant.
        """
        actions, self._refusals = self._refusals if in_time else [], []
        for grant in grants:
            is_late = not in_time or now_ns - grant.granted_at_ns > self._timing.grace_ns // 2
            self.state.start_hold(grant, now_ns)
            if is_late and not grant.managed:
                actions += self._commit_again_or_refuse(grant, now_ns)
                continue
            grant.committed = True
            if in_time:
                actions += self._publish(grant, grant.reply_to, now_ns)
                waited_ms = replies.ms(now_ns - grant.asked_at_ns)
                actions.append(Event("granted", fields_of(grant, waited_ms=waited_ms)))
        return actions

    def restore(
        self, grants: Iterable[Grant], now_ns: int, *, replied: Iterable[plain.Replied] | None = None
    ) -> list[ScheduleAction]:
        """Keep the leader's records; answers that overtook theirs are applied now.

        ``replied`` are the plain requests that have had their reply; None: the leader does not name them.
        """
        actions: list[ScheduleAction] = []
        self.state.adopt_replied(replied or (), now_ns)
        for grant_id, outcome, at_ns in self.state.restore(grants, now_ns, is_complete=replied is not None):
            actions += confirmations.confirm(self.state, grant_id, outcome, at_ns)
        return actions

    def step_down(self, uncommitted: Iterable[Grant]) -> None:
        """Lead no more: what was never committed goes back to its place."""
        self.state.rollback_uncommitted([*uncommitted, *self._to_recommit])
        self._to_recommit, self._refusals, self.state.is_leading = [], [], False
        self.state.plain.step_down()
        self._limits.forget_asking()

    def become_leader(self, now_ns: int) -> None:
        """Begin to lead: whatever is due was nobody's business here until now, and nobody was told by us."""
        self.state.is_leading = True
        self.state.invalidate_nudges(now_ns)
        self.state.mark_all_dirty()
        self._limits.watch()

    def on_slow_commit(self, now_ns: int) -> None:
        """A commit has taken its time: so may have what was said to shards before it, and what they answer."""
        self.state.slow_commit_at_ns = now_ns

    def on_commit_unknown(self, now_ns: int) -> None:
        """What became of a commit is not known: what was said to shards may be lost as well."""
        self.state.invalidate_nudges(now_ns)

    def on_reconnected(self, now_ns: int) -> None:
        """We were cut off from the shards, and they may have been too: let them come back, in their order."""
        self.state.invalidate_nudges(now_ns)
        self.state.grants_paused_until_ns = now_ns + self._timing.nudge_lead_ns // 2
        self.state.timers.at(self.state.grants_paused_until_ns, TimerKind.EVERYTHING)
        self.state.mark_all_dirty()

    # --- requests

    def _receive_request(self, message: model.RequestReceived, now_ns: int) -> list[ScheduleAction]:
        requests = self.state.requests
        if requests.has_ended(message.request_id):
            if not message.managed and requests.may_be_copy_of_ended(message):
                return []  # it has had its one reply
            is_first = requests.refuse_ended(message.request_id)
            return replies.refuse(message, replies.ended(message), is_news=is_first)
        request = requests.get(message.request_id)
        refusal = replies.wrong_bucket(self.state, message) or (
            self._full(message, now_ns) if request is None else None
        )
        if refusal is not None:
            is_again = request is not None and not message.managed  # of a plain request the first message counts
            return [] if is_again else plain.final(self.state, message, replies.refuse(message, refusal))
        is_new = request is None
        if request is None:
            request = requests.admit(message, now_ns)
            self.state.attach_hold(request)
        elif message.renewal < request.message.renewal:
            return []
        else:
            requests.renew(request, message, now_ns)
        self._set_pace(request, request.renew_in_ns, now_ns)
        actions: list[ScheduleAction] = []
        if message.max_concurrency not in {None, self.state.max_concurrency}:
            actions.append(model.FetchLimits(f"a request claims max_concurrency {message.max_concurrency}"))
        if request.grant_id is not None:
            return actions + self._same_grant_again(request, now_ns)
        self.state.dirty_buckets.add(request.bucket)
        opens_at_ns = self.state.guard.opens_at_ns(message.shard_id, request.asked_at_ns, now_ns)
        self.state.defer(request, opens_at_ns, now_ns)
        if self.state.guard.is_news(message.shard_id, request.asked_at_ns, now_ns):
            actions.append(Event("crash_loop", fields_of(request, wait_ms=replies.ms(opens_at_ns - now_ns))))
        if request is not self._candidate(request.bucket, now_ns):
            actions += self._queue(request, now_ns, is_new=is_new)
        return actions

    def _take_copy(self, message: model.RequestReceived, now_ns: int) -> None:
        """Give an asking that another replica knows of its place; it is no fresher here than it is there."""
        requests = self.state.requests
        if (
            requests.get(message.request_id) is None
            and not requests.has_ended(message.request_id)
            and not requests.is_full
        ):
            request = requests.admit(message, now_ns)
            stale_ns = now_ns - self._timing.fresh_ns - 1  # worth a nudge
            request.renewed_at_ns = stale_ns if message.renewed_at_ns is None else message.renewed_at_ns
            self.state.attach_hold(request)
            self._set_pace(request, RENEW_MOST_NS, now_ns)  # nobody here knows when it will renew
            self.state.dirty_buckets.add(request.bucket)

    def _full(self, message: model.RequestReceived, now_ns: int) -> model.Refused | None:
        if self.state.requests.is_full:
            text = f"{self.state.requests.max_waiting} requests wait already; ask again later"
            return replies.overloaded(message.request_id, text)
        if self.state.requests.is_full_for(message.reply_to):
            text = (
                f"{self.state.requests.max_of_sender} requests of this connection wait already, "
                f"the most that one may have: a quarter of IDENTIFY_MAX_WAITING; ask again later"
            )
            return replies.overloaded(message.request_id, text)
        if (
            not message.managed
            and self.state.is_leading
            and self._budget.closed_for(message.priority) is Reason.SESSION_LIMIT
        ):
            return replies.exhausted(self.state, message.request_id, now_ns)
        return None

    def _queue(self, request: QueuedRequest, now_ns: int, *, is_new: bool) -> list[ScheduleAction]:
        queued = replies.queued(self.state, request, now_ns)
        self._set_pace(request, queued.renew_in_ns, now_ns)
        actions: list[ScheduleAction] = []
        if request.message.managed:
            actions.append(Reply(request.message.reply_to, queued))
            if queued.position == 1 and queued.reason is Reason.WINDOW:
                self._promise_if_near(request, now_ns)
        if is_new:
            eta_ms = replies.ms(queued.eta_ns)
            fields = fields_of(request, position=queued.position, eta_ms=eta_ms, reason=queued.reason)
            actions.append(Event("queued", fields))
        return actions

    def _set_pace(self, request: QueuedRequest, renew_in_ns: int, now_ns: int) -> None:
        request.set_pace(renew_in_ns, now_ns)
        self.state.timers.at(
            min(request.expires_at_ns, now_ns + LOOK_MOST_NS), TimerKind.ASKING, request.message.request_id
        )

    def _promise_if_near(self, request: QueuedRequest, now_ns: int) -> None:
        is_near = self.state.opens_at_ns(request.bucket) - now_ns <= self._timing.nudge_lead_ns
        if is_near and self.state.is_within_lease:
            self.state.requests.queues[request.bucket].promise(request)

    def _cancel(self, request_id: str) -> list[ScheduleAction]:
        request = self.state.requests.end(request_id)  # a turn that it was granted is not freed by this
        if request is None:
            return []
        self.state.dirty_buckets.add(request.bucket)
        return [Event("cancelled", fields_of(request))]

    def _same_grant_again(self, request: QueuedRequest, now_ns: int) -> list[ScheduleAction]:
        """The grant was lost, or crossed this renewal: the identical one again, with no new commit, charge or hold."""
        grant = self.state.holds.get(request.grant_id or "")
        if grant is None or not grant.committed or grant.outcome is not None:
            return []
        if not (
            grant.managed and request.message.managed
        ):  # a plain one has had its one reply, and counts from its receipt
            is_copy = not grant.reply_to or grant.reply_to == request.message.reply_to
            return [] if is_copy else replies.refuse(request.message, replies.ended(request.message))
        return self._publish(grant, request.message.reply_to, now_ns)

    def _publish(self, grant: Grant, to: str, now_ns: int) -> list[ScheduleAction]:
        grant.publish_count = None if grant.publish_count is None else grant.publish_count + 1
        return [Reply(to, replies.granted(self.state, grant, now_ns))]

    # --- grants

    def _candidate(self, bucket: int, now_ns: int) -> QueuedRequest | None:
        """Who is granted if this bucket is looked at now: the first in order whose renewal is fresh.

        A stale one before it keeps its place, and is passed over only after it was told of its turn in vain.
        """
        if self.state.opens_at_ns(bucket) > now_ns:
            return None
        for request in self.state.requests.queues.get(bucket, ()):
            if request.deferred_until_ns > now_ns or self._budget.closed_for(request.message.priority) is not None:
                return None  # those behind are held back for longer, or have no higher priority
            if not request.is_fresh(now_ns, self._timing):
                if not evaluate.may_be_skipped(self.state, request, now_ns):
                    return None
            elif self.state.guard.opens_at_ns(request.message.shard_id, request.asked_at_ns, now_ns) <= now_ns:
                return request  # else another asking of its shard was granted meanwhile: it is held back when it renews
        return None

    def _grant(self, request: QueuedRequest, now_ns: int) -> Grant:
        message, state = request.message, self.state
        use_within_ns = self._timing.use_within_ns if message.managed else self._timing.grace_ns // 2
        grant = Grant(
            grant_id=self._name_grant(),
            request_id=message.request_id,
            shard_id=message.shard_id,
            bucket=request.bucket,
            max_concurrency=state.requests.max_concurrency,
            renewal=message.renewal,
            use_within_ns=use_within_ns,
            opens_at_ns=0,
            publish_count=0,
            asked_at_ns=request.asked_at_ns,
            managed=message.managed,
            reply_to=message.reply_to,
        )
        self._limits.charge(now_ns)
        state.guard.count(message.shard_id, request.asked_at_ns, now_ns)
        state.start_hold(grant, now_ns)
        state.add_hold(grant)
        return grant

    def _commit_again_or_refuse(self, grant: Grant, now_ns: int) -> list[ScheduleAction]:
        """A plain grant is never sent late: its shard counts from receipt, a successor from the commit."""
        grant.late_commits += 1
        if grant.late_commits <= LATE_COMMITS:
            self._to_recommit.append(grant)
            return []
        # Nobody was told of it: it was not sent here, and a successor sends no plain grant that it has read. Its record
        # is in the ledger, so a successor knows already that the request has had its reply.
        self.state.refund(grant)
        self.state.end_hold(grant, is_unsent=True)
        self.state.plain.add(grant.request_id, now_ns)
        request = self.state.requests.end(grant.request_id)
        slow = "the ledger could not be written fast enough; ask again with a new request_id"
        refusal = replies.overloaded(grant.request_id, slow)
        return [] if request is None else replies.refuse(request.message, refusal)

    def _prepare(self, bucket: int, queue: BucketQueue, now_ns: int) -> list[ScheduleAction]:
        opens_at_ns = self.state.opens_at_ns(bucket)
        nudged = evaluate.nudge(self.state, queue, opens_at_ns, now_ns)
        look_at_ns = evaluate.next_look_ns(self.state, queue, opens_at_ns, now_ns)
        if look_at_ns is not None:
            self.state.timers.at(look_at_ns, TimerKind.BUCKET, bucket)
        actions: list[ScheduleAction] = []
        for request in nudged:
            told = replace(replies.queued(self.state, request, now_ns), position=1, renew_in_ns=0, nudge=True)
            actions.append(Reply(request.message.reply_to, told))
            queue.promise(request)
        return actions

    def _nudge_undeliverable(self, request_id: str) -> None:
        """Nobody is there: it is passed over until it renews, and the next one is nudged at once."""
        request = self.state.requests.get(request_id)
        if request is not None and request.renewed_at_ns < request.nudged_at_ns:
            request.is_unresponsive = True
            self.state.dirty_buckets.add(request.bucket)
