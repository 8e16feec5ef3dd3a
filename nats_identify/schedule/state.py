"""The state of one bot's schedule, and the only code that changes it: requests, holds, budget, guard and timers.

It makes no decision: the scheduler and the modules beside it read the state, and change it by the methods below.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from nats_identify.schedule import margin
from nats_identify.schedule.bucket_queue import RENEW_MAX_NS, QueuedRequest
from nats_identify.schedule.budget import SessionBudget, StaticDay
from nats_identify.schedule.crash_loop import CrashLoopGuard, ShardHistory
from nats_identify.schedule.grants import (
    AWAITING,
    CONFIRMED,
    GlobalHold,
    Grant,
    Hold,
    HoldRecord,
    HoldState,
    HoldTable,
    hold_of,
    records_of,
)
from nats_identify.schedule.model import (
    SECOND,
    Limits,
    Outcome,
    Reason,
    RequestReceived,
    ScheduleAction,
    Timing,
)
from nats_identify.schedule.pause import Paused
from nats_identify.schedule.plain import REPLIED_FOR_NS, PlainReplies, Replied
from nats_identify.schedule.requests import RequestTable
from nats_identify.schedule.timers import LOOK_MAX_NS, Timer, TimerKind, Timers
from nats_identify.schedule.unsent import UnsentReplies

EARLY_CONFIRMS_MAX = 10_000
"""The most confirms without a grant, and grants without a READY, that are kept: more than a window's worth."""

PLAIN_RETRIES = 4
"""A plain request that could not be delivered is tried again after 1, 2, 4 and 8 s, then dropped."""


class EarlyConfirm(NamedTuple):
    """A confirm that was received before its grant was seen, or while its commit was under way."""

    grant_id: str
    outcome: Outcome
    at_ns: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a successor must know of the state; every instant is a duration, counted from when it was made.

    Attributes:
        max_concurrency, total, remaining, reset_in_ns: today's limits; None where they are unknown. ``remaining`` is
            below zero where more was spent than the total of today allows.
        grants: every live hold.
        crash_loops: what was granted lately to shards that may loop.
        margin_ns: the margin as tuned; None in the ledger of a leader that did not write it.
        static_day: of a day of static limits; None: the limits are Discord's.
        full_hold_ns: how long a grant of its leader may matter; None in the ledger of one that did not write it.
        replied: plain requests that have had their reply, and for how long to know them; None: as above.
        paused: the pause in force, with what is left of it; None: there is none.
    """

    max_concurrency: int | None = None
    total: int | None = None
    remaining: int | None = None
    reset_in_ns: int | None = None
    grants: tuple[HoldRecord, ...] = ()
    crash_loops: tuple[ShardHistory, ...] = ()
    margin_ns: int | None = None
    static_day: StaticDay | None = None
    full_hold_ns: int | None = None
    replied: tuple[Replied, ...] | None = None
    paused: Paused | None = None


class ScheduleState:
    """The requests, the holds, the budget, the guard and the timers of one bot, kept consistent.

    Attributes:
        timing: the durations of the settings, with the margin of today.
        dirty_buckets: the buckets to evaluate again.
        is_leading: whether this replica leads; a standby refuses no plain request.
        is_within_lease: whether a reply is sent now: not by a standby, nor after the leader's lease.
        nudges_valid_from_ns: a nudge sent earlier may not have reached its shard.
        slow_commit_at_ns: when a commit was last slow; nudges sent before it, and the renewals they cause, may be late.
        grants_paused_until_ns: no grant before this instant: shards are reconnecting.
        unsent: replies that wait for the next commit.
        paused: an operator's pause; on a standby the one of the last entry, over or not. None: there is none.
    """

    def __init__(
        self,
        timing: Timing,
        budget: SessionBudget,
        guard: CrashLoopGuard,
        max_concurrency: int | None,
        max_waiting: int,
    ) -> None:
        self.timing = timing
        self.budget = budget
        self.guard = guard
        self.max_concurrency = max_concurrency
        self.timers = Timers()
        self.requests = RequestTable(max_concurrency or 1, max_waiting, self.timers)
        self.holds = HoldTable(max_concurrency or 1)
        self.plain = PlainReplies()
        self.unsent = UnsentReplies()
        self.paused: Paused | None = None
        self.is_leading = True
        self.is_within_lease = True
        self.dirty_buckets: set[int] = set()
        self.nudges_valid_from_ns = 0
        self.slow_commit_at_ns = 0
        self.grants_paused_until_ns = 0
        self._settings = timing
        self._opened_by_margin: set[int] = set()  # buckets whose next grant is as early as the margin allows
        self._used: OrderedDict[str, Hold] = OrderedDict()
        self._early_confirms: OrderedDict[str, EarlyConfirm] = OrderedDict()
        self._uncounted: int | None = None  # grants that the limits being fetched may not show
        self._exhausted = (False, False)  # whether the day's limit was reached for priority 0, for priority 1

    # --- reading

    def opens_at_ns(self, bucket: int) -> int:
        """When this bucket may be granted next; in the past where it is open."""
        return max(self.holds.opens_at_ns(bucket), self.grants_paused_until_ns)

    def loop_ends_at_ns(self, request: QueuedRequest, now_ns: int) -> int:
        """When the crash-loop guard lets this request be granted; in the past where it does not defer it."""
        return self.guard.opens_at_ns(request.message.shard_id, request.asked_at_ns, now_ns)

    def pause_of(self, priority: int) -> Paused | None:
        """The pause for which a request of this priority waits; None, nearly always: it does not."""
        return None if self.paused is None or not self.paused.covers(priority) else self.paused

    def closed_for(self, priority: int) -> Reason | None:
        """Why no request of this priority is granted now, in any bucket; None where one may be.

        The day's limit goes before a pause: it may outlast the pause, and no command ends it.
        """
        closed = self.budget.closed_for(priority)
        if closed is None and self.paused is not None and self.paused.covers(priority):
            return Reason.PAUSED
        return closed

    @property
    def knows_limits(self) -> bool:
        """Whether it is known how many session starts are left."""
        return self.budget.known is not None

    @property
    def is_low_on_starts(self) -> bool:
        """Whether little of the day is left, or an unknown part of it."""
        return self.budget.is_low

    def unconfirmed_count(self, now_ns: int) -> int:
        """Count the grants that Discord's own number may not show: unconfirmed, or confirmed less than a window ago."""
        return sum(1 for hold in self.holds if self._may_be_uncounted(hold, now_ns))

    def _may_be_uncounted(self, hold: Hold, now_ns: int) -> bool:
        confirmed_ns = hold.identified_at_ns
        return confirmed_ns is None or now_ns - confirmed_ns < self.timing.window_ns

    # --- dirty buckets and timers

    def mark_dirty(self, bucket: int) -> None:
        """Evaluate this bucket again."""
        self.dirty_buckets.add(bucket)

    def mark_dirty_if_near(self, bucket: int, now_ns: int) -> None:
        """A request was received: evaluate its bucket again, at the earliest when its turn is near.

        Until then there is no grant and no nudge to decide, whatever the request.
        """
        near_at_ns = self.opens_at_ns(bucket) - self.timing.nudge_lead_ns
        if now_ns < near_at_ns:
            self.look_at_bucket(bucket, near_at_ns)
        else:
            self.mark_dirty(bucket)

    def mark_all_dirty(self) -> None:
        """Evaluate every bucket again."""
        self.dirty_buckets.update(self.requests.queues)

    def take_dirty_buckets(self) -> list[int]:
        """Return the dirty buckets that have requests, in order; no bucket is dirty afterwards."""
        if not self.dirty_buckets:
            return []  # nearly always
        dirty, self.dirty_buckets = self.dirty_buckets, set()
        return sorted(dirty & self.requests.queues.keys())

    def take_due_timer(self, now_ns: int) -> Timer | None:
        """Remove one timer that is due and return it, or None."""
        return self.timers.pop_due(now_ns)

    def look_at_bucket(self, bucket: int, at_ns: int) -> None:
        """Evaluate this bucket at that instant."""
        self.timers.at(at_ns, TimerKind.BUCKET, bucket)

    def look_at_hold(self, grant_id: str, at_ns: int) -> None:
        """Set the timer of this hold."""
        self.timers.at(at_ns, TimerKind.HOLD, grant_id)

    def look_at_request(self, request_id: str, at_ns: int) -> None:
        """Set the timer of this request."""
        self.timers.at(at_ns, TimerKind.REQUEST, request_id)

    def look_at_all(self, at_ns: int) -> None:
        """Evaluate every bucket at that instant."""
        self.timers.at(at_ns, TimerKind.ALL)

    def _look_at_budget(self) -> None:
        if self.budget.resets_at_ns is not None:
            self.timers.at(self.budget.resets_at_ns, TimerKind.BUDGET)

    # --- requests

    def admit(self, message: RequestReceived, now_ns: int) -> QueuedRequest:
        """Queue a new request; a live grant that serves it is attached."""
        request = self.requests.admit(message, now_ns)
        self.attach_hold(request)
        return request

    def admit_copy(self, message: RequestReceived, now_ns: int) -> None:
        """Queue a request that another replica has; it is no fresher here than it is there."""
        request = self.requests.admit(message, now_ns)
        stale_ns = now_ns - self._settings.fresh_ns - 1  # worth a nudge
        request.renewed_at_ns = stale_ns if message.renewed_at_ns is None else message.renewed_at_ns
        self.attach_hold(request)
        self.set_pace(request, RENEW_MAX_NS, now_ns)  # when it will renew is not known here
        self.mark_dirty(request.bucket)

    def renew(self, request: QueuedRequest, message: RequestReceived, now_ns: int) -> None:
        """Apply a newer message of the same request."""
        self.requests.renew(request, message, now_ns)

    def refuse_ended(self, request_id: str) -> bool:
        """Record that a request with a spent id is refused; return True the first time."""
        return self.requests.refuse_ended(request_id)

    def set_pace(self, request: QueuedRequest, renew_in_ns: int, now_ns: int) -> None:
        """Expect the next renewal in ``renew_in_ns``, and set the timer of the expiry."""
        request.set_pace(renew_in_ns, now_ns)
        self.look_at_request(request.message.request_id, min(request.expires_at_ns, now_ns + LOOK_MAX_NS))

    def promise(self, request: QueuedRequest) -> None:
        """Record that the request was promised its turn: later requests are placed behind it."""
        self.requests.queues[request.bucket].promise(request)

    def set_nudges(
        self,
        bucket: int,
        nudges: Iterable[QueuedRequest],
        width: int,
        widen_at_ns: int | None,
        look_again_at_ns: int | None,
        now_ns: int,
    ) -> None:
        """Record that these requests are nudged now and promised their turn; set the bucket's timer."""
        queue = self.requests.queues[bucket]
        queue.nudge_width, queue.widen_at_ns = width, widen_at_ns
        if look_again_at_ns is not None:
            self.look_at_bucket(bucket, look_again_at_ns)
        for request in nudges:
            request.nudged_at_ns = now_ns
            queue.promise(request)

    def invalidate_nudges(self, now_ns: int) -> None:
        """Messages sent before now may be lost: no nudge and no promise sent before counts."""
        self.nudges_valid_from_ns = now_ns
        self.requests.break_promises()

    def mark_unresponsive(self, request: QueuedRequest) -> None:
        """No shard received its nudge: skip it until it renews, and evaluate the bucket at once."""
        request.is_unresponsive = True
        self.mark_dirty(request.bucket)

    def defer(self, request: QueuedRequest, until_ns: int, now_ns: int) -> None:
        """Queue a crash-looping shard's request behind all others until then."""
        until_ns = until_ns if until_ns > now_ns else 0
        if request.deferred_until_ns != until_ns and request.grant_id is None:
            self.requests.take(request)
            request.deferred_until_ns = until_ns
            self.requests.put(request)
            self.mark_dirty(request.bucket)
        if until_ns:
            self.look_at_request(request.message.request_id, until_ns)

    def is_new_loop(self, request: QueuedRequest, now_ns: int) -> bool:
        """Return True once for each wait of a crash-looping shard."""
        return self.guard.is_news(request.message.shard_id, request.asked_at_ns, now_ns)

    def retry_later(self, request: QueuedRequest, now_ns: int) -> None:
        """A plain request could not be delivered: try again later, or drop it after the last try."""
        request.retry_at_ns = now_ns + (SECOND << request.undeliverable_count)
        request.undeliverable_count += 1
        self.look_at_request(request.message.request_id, request.retry_at_ns)
        if request.undeliverable_count > PLAIN_RETRIES:
            self.requests.forget(request)

    def drop_request(self, request: QueuedRequest) -> None:
        """Drop an expired request; a renewal queues it again."""
        self.requests.forget(request)
        self.mark_dirty(request.bucket)

    def end_request(self, request_id: str, reply_to: str = "") -> QueuedRequest | None:
        """End a request for good, known or not; return it if it was known. Its grant, if any, keeps its hold."""
        request = self.requests.end(request_id, reply_to)
        if request is not None:
            self.mark_dirty(request.bucket)
        return request

    # --- an operator's commands

    def start_pause(self, paused: Paused) -> None:
        """Pause, in place of the pause in force."""
        self.paused = paused
        self.look_at_pause()
        self.mark_all_dirty()  # it may cover fewer requests than the one before

    def end_pause(self) -> None:
        """End the pause: every bucket is evaluated, and the heads are nudged."""
        self.paused = None
        self.mark_all_dirty()

    def look_at_pause(self) -> None:
        """Set the timer of the pause, if it ends by itself."""
        if self.paused is not None and self.paused.ends_ns is not None:
            self.timers.at(self.paused.ends_ns, TimerKind.PAUSE)

    def pardon(self, shard_id: int, now_ns: int) -> bool:
        """Forget the grants of a shard that loops; its requests return to their places. Return whether it had any.

        A standby takes the grants from the ledger: there may be a newer one that is not forgiven.
        """
        had_any = self.is_leading and self.guard.forget(shard_id)
        queue = self.requests.queues.get(shard_id % self.requests.max_concurrency, ())
        for request in [one for one in queue if one.message.shard_id == shard_id and one.deferred_until_ns]:
            self.defer(request, 0, now_ns)
        self.mark_dirty(shard_id % self.requests.max_concurrency)
        return had_any

    def was_declined(self, grant_id: str) -> bool:
        """Whether a decline of this grant is kept: its hold has ended for good."""
        early = self._early_confirms.get(grant_id)
        return early is not None and early.outcome is Outcome.DECLINED

    # --- replies that wait for a commit

    def keep_refusal(self, message: RequestReceived, actions: list[ScheduleAction]) -> None:
        """Keep the refusal of a plain request until it is committed; without room for it, the request gets none."""
        if self.unsent.keep(actions, message.request_id):
            self.requests.end(message.request_id, message.reply_to)

    def keep_reply(self, actions: list[ScheduleAction]) -> None:
        """Keep the reply to a command, and its events, until it is committed; the caller has seen that there is room.

        Nothing is reported as done that a successor may not have.
        """
        self.unsent.keep(actions)

    def take_unsent(self, now_ns: int) -> list[ScheduleAction]:
        """Return the replies that the next ledger entry commits; it has the plain requests among them."""
        actions, request_ids = self.unsent.take()
        for request_id in request_ids:
            self.plain.add(request_id, now_ns)
        return actions

    # --- plain requests

    def mark_replied(self, replied: Iterable[Replied], now_ns: int) -> None:
        """These plain requests have had their reply: they are ended."""
        for request_id, left_ns in replied:
            self.requests.end(request_id)
            self.plain.add(request_id, now_ns, left_ns)

    def mark_plain_replied(self, records: Iterable[HoldRecord], now_ns: int) -> None:
        """These grants are of an entry that is not adopted; their plain requests have had their reply."""
        self.mark_replied(
            [(record.grant.request_id, REPLIED_FOR_NS) for record in records if not record.grant.managed], now_ns
        )

    def _end_plain(self, hold: Hold, now_ns: int) -> None:
        """A plain grant was received, or may have been: its request has had its reply."""
        if not hold.grant.managed:
            self.mark_replied([(hold.grant.request_id, REPLIED_FOR_NS)], now_ns)

    # --- holds

    def grant(self, request: QueuedRequest, grant_id: str, now_ns: int) -> Hold:
        """Grant a request: charge the day and the guard, and begin the hold, which is not committed yet."""
        message = request.message
        grant = Grant(
            grant_id=grant_id,
            request_id=message.request_id,
            shard_id=message.shard_id,
            bucket=request.bucket,
            max_concurrency=self.requests.max_concurrency,
            renewal=message.renewal,
            use_within_ns=self._settings.use_within_ns if message.managed else self._settings.grace_ns // 2,
            managed=message.managed,
        )
        hold = Hold(
            grant=grant,
            state=HoldState.UNCOMMITTED,
            asked_at_ns=request.asked_at_ns,
            reply_to=message.reply_to,
            client=message.client,
            follows_margin=request.bucket in self._opened_by_margin,
        )
        self._opened_by_margin.discard(request.bucket)
        self._charge(now_ns)
        self.guard.count(message.shard_id, request.asked_at_ns, now_ns)
        self.start_hold(hold, now_ns)
        self.add_hold(hold)
        return hold

    def _charge(self, now_ns: int) -> None:
        self.budget.charge(now_ns)
        if self._uncounted is not None:
            self._uncounted += 1
        self._look_at_budget()

    def start_hold(self, hold: Hold, now_ns: int) -> None:
        """Count the whole hold of an unanswered grant from now."""
        hold_ns = self.timing.managed_hold_ns if hold.grant.managed else self.timing.plain_hold_ns
        hold.granted_at_ns, hold.opens_at_ns = now_ns, now_ns + hold_ns
        self.look_at_hold(hold.grant.grant_id, hold.opens_at_ns)

    def add_hold(self, hold: Hold) -> None:
        """Add a grant's hold to its bucket; the request that it serves leaves its queue."""
        self.holds.add(hold)
        self.look_at_hold(hold.grant.grant_id, hold.opens_at_ns)
        request = self.requests.get(hold.grant.request_id)
        if request is not None:
            self.attach_hold(request)

    def attach_hold(self, request: QueuedRequest) -> None:
        """Take a request out of its queue if a live grant serves it; either may be received first."""
        hold = self.holds.for_request(request.message.request_id)
        if hold is not None and request.grant_id is None:
            self.requests.take(request)
            request.grant_id = hold.grant.grant_id
            hold.client = hold.client or request.message.client
            hold.asked_at_ns = hold.asked_at_ns or request.asked_at_ns

    def commit(self, hold: Hold) -> None:
        """Mark this grant as committed to the ledger."""
        hold.state = HoldState.UNANSWERED

    def count_publish(self, hold: Hold) -> None:
        """Count one more publish by this leader; an inherited grant is not counted: a 503 for it proves nothing."""
        if hold.state is not HoldState.INHERITED:
            hold.publish_count += 1

    def count_recommit(self, hold: Hold) -> int:
        """The commit of a plain grant took too long; return how many times it has."""
        hold.recommits += 1
        return hold.recommits

    def end_hold(self, hold: Hold, *, is_unsent: bool = False) -> QueuedRequest | None:
        """End a hold; return the request that its grant did not serve, back at its place.

        A managed request is unresponsive until it renews; a renewal newer than the one that the grant echoes counts,
        since it may have overtaken the confirm, unless the grant ``is_unsent``. A plain request has had its one reply,
        unless the grant ``is_unsent``.
        """
        self.holds.remove(hold)
        self.dirty_buckets.update(self.holds.buckets_of(hold))
        request = self.requests.get(hold.grant.request_id)
        if request is None or request.grant_id != hold.grant.grant_id:
            return None
        if not request.message.managed and not is_unsent:
            self.requests.forget(request)
            return None
        request.grant_id = None
        request.is_unresponsive = is_unsent or request.message.renewal <= hold.grant.renewal
        self.requests.put(request)
        self.mark_dirty(request.bucket)
        return request

    def identify(self, hold: Hold, at_ns: int) -> None:
        """The grant was used: the window starts, and the request has ended."""
        hold.state, hold.identified_at_ns, hold.opens_by_margin = HoldState.IDENTIFIED, at_ns, True
        self._open_at(hold, at_ns + self.timing.confirmed_hold_ns)
        self.requests.end(hold.grant.request_id)

    def settle(self, hold: Hold, outcome: Outcome, at_ns: int) -> None:
        """Discord accepted or rejected the IDENTIFY of an identified grant, so it had the IDENTIFY before ``at_ns``.

        The bucket opens a window after that where this is earlier than a window and the margin after ``identified``:
        either is enough, and a later outcome must not extend the hold.
        """
        hold.state = CONFIRMED[outcome]
        self._mark_day_begun(hold, at_ns)
        opens_at_ns = at_ns + self.timing.proved_hold_ns
        if opens_at_ns < hold.opens_at_ns:
            hold.opens_by_margin = False
            self._open_at(hold, opens_at_ns)

    def _open_at(self, hold: Hold, opens_at_ns: int) -> None:
        hold.opens_at_ns = opens_at_ns
        self.look_at_hold(hold.grant.grant_id, opens_at_ns)
        self.dirty_buckets.update(self.holds.buckets_of(hold))

    def decline(self, hold: Hold, at_ns: int) -> None:
        """The grant was not used. The decline is kept: an entry of a leader that did not receive it may bring it back.

        That entry's budget has no refund for it, so each restored copy of the grant is refunded, and one refund counts
        in all. It may be read long after the hold is over: only newer confirms displace the decline.
        """
        self.buffer_early_confirm(hold.grant.grant_id, Outcome.DECLINED, at_ns)
        self._end_plain(hold, at_ns)
        self.refund(hold)
        self.end_hold(hold)

    def expire_hold(self, hold: Hold | GlobalHold) -> None:
        """End a hold that has run out: what was confirmed is settled, what was not may have been lost.

        A plain requester need not confirm and is assumed to have identified: its id is spent. That Discord's day has
        begun is not assumed: the IDENTIFY may never have been sent, and a day that ends too early is spent twice.
        """
        if isinstance(hold, GlobalHold):
            self.holds.remove(hold)
            self.dirty_buckets.update(self.holds.buckets_of(hold))
            return
        self._end_plain(hold, hold.opens_at_ns)
        self.end_hold(hold)
        if hold.opens_by_margin:
            self._opened_by_margin.update(self.holds.buckets_of(hold))
        if hold.state is HoldState.IDENTIFIED:
            self._retain_for_ready(hold)

    def take_used(self, grant_id: str) -> Hold | None:
        """Remove and return the ended hold of an identified grant whose READY was not received yet."""
        return self._used.pop(grant_id, None)

    def _retain_for_ready(self, hold: Hold) -> None:
        self._used[hold.grant.grant_id] = hold
        if len(self._used) > EARLY_CONFIRMS_MAX:
            self._used.popitem(last=False)

    def refund(self, hold: Hold) -> None:
        """No IDENTIFY was sent for this grant: refund it; if the day was spent, any bucket may use the refund."""
        was_closed = self.budget.closed_for(0) is not None
        self.budget.refund()
        self.guard.refund(hold.grant.shard_id)
        if was_closed:
            self.mark_all_dirty()

    def refuse_late(self, hold: Hold, now_ns: int) -> QueuedRequest | None:
        """End a plain grant that was recorded and never sent; return its request, which has ended.

        A successor sends no plain grant that it has read: the record shows that the request has had its reply.
        """
        self.refund(hold)
        self.end_hold(hold, is_unsent=True)
        request = self.requests.get(hold.grant.request_id)
        self._end_plain(hold, now_ns)
        return request

    def rollback_uncommitted(self, holds: Iterable[Hold]) -> None:
        """Undo grants that were never committed: no reply was sent. A 503 for an older grant proves nothing now."""
        for hold in holds:
            if self.holds.get(hold.grant.grant_id) is hold and hold.state is HoldState.UNCOMMITTED:
                self.refund(hold)
                request = self.end_hold(hold, is_unsent=True)
                if request is not None:
                    request.is_unresponsive = False
        for hold in self.holds:
            hold.publish_count = 0
            if hold.state is HoldState.UNANSWERED:
                hold.state = HoldState.INHERITED

    def hold_all_buckets(self, grant_id: str, hold_ns: int, now_ns: int) -> GlobalHold:
        """Hold every bucket, by a record that a successor reads: there may be grants that are unknown here."""
        hold = GlobalHold(grant_id=grant_id, use_within_ns=self.timing.use_within_ns, opens_at_ns=now_ns + hold_ns)
        self.holds.add(hold)
        self.look_at_hold(grant_id, hold.opens_at_ns)
        return hold

    def set_global_hold(self, hold: GlobalHold, until_ns: int) -> None:
        """Set when a global hold is over: its beginning is known better once it is committed."""
        hold.opens_at_ns = until_ns
        self.look_at_hold(hold.grant_id, until_ns)

    # --- confirms without a grant

    def buffer_early_confirm(self, grant_id: str, outcome: Outcome, at_ns: int) -> None:
        """Keep a confirm whose grant has not been seen yet, or may be seen again; the first one counts."""
        self._early_confirms.setdefault(grant_id, EarlyConfirm(grant_id=grant_id, outcome=outcome, at_ns=at_ns))
        if len(self._early_confirms) > EARLY_CONFIRMS_MAX:
            self._early_confirms.popitem(last=False)

    def charge_unmatched_confirms(self, since_ns: int, now_ns: int) -> None:
        """Charge confirms received since ``since_ns`` whose grants were lost with the previous ledger."""
        for confirm in list(self._early_confirms.values()):
            if confirm.at_ns > since_ns and confirm.outcome is not Outcome.DECLINED:
                del self._early_confirms[confirm.grant_id]
                self.budget.spend(now_ns)

    # --- limits

    def set_margin(self, margin_ns: int) -> None:
        """Every hold that begins from now on has this margin."""
        self.timing = replace(self.timing, margin_ns=margin_ns)

    def widen_margin(self) -> None:
        """Discord has rejected an IDENTIFY."""
        self.set_margin(margin.widened(self.timing.margin_ns, self._settings.margin_ns))

    def narrow_margin(self) -> None:
        """Discord has accepted an IDENTIFY that came as early as the margin allows."""
        self.set_margin(margin.narrowed(self.timing.margin_ns, self._settings.margin_ns))

    def limits_fetch_started(self, now_ns: int) -> None:
        """Discord's answer may not show the unconfirmed grants, nor those made from now on."""
        self._uncounted = self.unconfirmed_count(now_ns)

    def set_limits(self, limits: Limits, now_ns: int) -> None:
        """Take Discord's limits, less the grants that they may not show."""
        uncounted = self.unconfirmed_count(now_ns) if self._uncounted is None else self._uncounted
        self._uncounted = None
        self.budget.set(limits, unconfirmed_count=uncounted, now_ns=now_ns)
        self.renumber(limits.max_concurrency)
        self._look_at_budget()

    def apply_settings(self, static: Limits, now_ns: int, *, lost_since_ns: int | None) -> None:
        """Take limits that are settings; ``lost_since_ns``: since when grants may have been lost with a ledger."""
        self.budget.set_static(static, unconfirmed_count=self.unconfirmed_count(now_ns), now_ns=now_ns)
        if lost_since_ns is not None:
            self.charge_unmatched_confirms(lost_since_ns, now_ns)
        self.renumber(static.max_concurrency)

    def end_day(self, now_ns: int) -> bool:
        """Close or refill the budget if the day has ended; return whether it has."""
        has_ended = self.budget.end_day(now_ns, unconfirmed_count=self.unconfirmed_count(now_ns))
        self._look_at_budget()
        if has_ended:
            self.mark_all_dirty()
        return has_ended

    def note_exhausted(self) -> bool:
        """Return True when the day's limit has just been reached for a priority."""
        if self.budget.is_open:  # nearly always
            self._exhausted = (False, False)
            return False
        limit = Reason.SESSION_LIMIT
        exhausted = (self.budget.closed_for(0) is limit, self.budget.closed_for(1) is limit)
        has_run_out, self._exhausted = exhausted > self._exhausted, exhausted
        return has_run_out

    def _mark_day_begun(self, hold: Hold, at_ns: int) -> None:
        """Discord's day has begun, if this leader published the grant; of another's grant the day is not known here."""
        if hold.publish_count:
            self.budget.use(hold.granted_at_ns, at_ns)
            self._look_at_budget()

    def renumber(self, max_concurrency: int) -> None:
        """Change the number of buckets: requests move, in order; no hold is shortened."""
        if max_concurrency != self.max_concurrency:
            self.max_concurrency = max_concurrency
            self._opened_by_margin.clear()
            self.holds.renumber(max_concurrency)
            self.requests.renumber(max_concurrency)
        self.mark_all_dirty()

    # --- leading

    def set_within_lease(self, *, is_within_lease: bool) -> None:
        """Set whether a reply is sent now."""
        self.is_within_lease = is_within_lease

    def become_leader(self, now_ns: int) -> None:
        """Mark all buckets dirty; the previous leader's nudges do not count."""
        self.is_leading = True
        self.invalidate_nudges(now_ns)
        self.mark_all_dirty()
        self._look_at_budget()
        self.look_at_pause()

    def become_standby(self, uncommitted: Iterable[Hold] = ()) -> None:
        """Roll back uncommitted grants, and send no reply whose cause is not committed."""
        self.rollback_uncommitted(uncommitted)
        self.is_leading = False
        self.unsent.drop()
        self._uncounted, self._exhausted = None, (False, False)

    def note_slow_commit(self, now_ns: int) -> None:
        """A commit was slow: nudges sent before it, and the renewals they cause, may be late by as much."""
        self.slow_commit_at_ns = now_ns

    def pause_grants(self, until_ns: int) -> None:
        """Grant nothing until then."""
        self.grants_paused_until_ns = until_ns
        self.look_at_all(until_ns)
        self.mark_all_dirty()

    def assume_unknown_grants(self, grant_id: str, hold_ns: int, now_ns: int) -> GlobalHold:
        """The ledger is not trusted: hold every bucket, and mark the rest of the day's budget as unknown."""
        hold = self.hold_all_buckets(grant_id, hold_ns, now_ns)
        self.budget.mark_unknown(now_ns)
        return hold

    # --- the ledger

    def snapshot(self, now_ns: int) -> Snapshot:
        """Return what a successor must know."""
        budget = self.budget
        return Snapshot(
            max_concurrency=self.max_concurrency,
            total=budget.total,
            remaining=budget.remaining,
            reset_in_ns=max(0, (budget.resets_at_ns or 0) - now_ns) if budget.is_begun else None,
            grants=records_of(self.holds, now_ns),
            crash_loops=self.guard.ages(now_ns),
            margin_ns=self.timing.margin_ns,
            static_day=budget.day.shifted(now_ns) if budget.from_settings else None,
            full_hold_ns=self.timing.full_hold_ns,
            replied=self.plain.left(now_ns),
            paused=None if self.paused is None else self.paused.with_time_left(now_ns),
        )

    def restore(self, snapshot: Snapshot, now_ns: int) -> list[EarlyConfirm]:
        """Take over the leader's state; return the confirms that were received before their grants."""
        limits = Limits(
            max_concurrency=snapshot.max_concurrency or 1,
            total=snapshot.total,
            remaining=snapshot.remaining,
            reset_in_ns=snapshot.reset_in_ns,
        )
        from_settings = snapshot.static_day is not None  # else Discord's
        self.budget.set(limits, unconfirmed_count=0, now_ns=now_ns, from_settings=from_settings)
        self.budget.restore_day(snapshot.static_day, now_ns)
        self.guard.restore(snapshot.crash_loops, now_ns)
        if snapshot.margin_ns is not None:
            self.set_margin(margin.clamp(snapshot.margin_ns, self._settings.margin_ns))
        if snapshot.max_concurrency is not None:
            self.renumber(snapshot.max_concurrency)
        self.mark_replied(snapshot.replied or (), now_ns)
        self.paused = None if snapshot.paused is None else snapshot.paused.from_time_left(now_ns)
        return self.restore_holds(snapshot.grants, now_ns, names_replied=snapshot.replied is not None)

    def restore_holds(
        self, records: Sequence[HoldRecord], now_ns: int, *, names_replied: bool = True
    ) -> list[EarlyConfirm]:
        """Keep the leader's holds, each counted from now; a hold that the leader has dropped is dropped.

        A hold that is not confirmed here is taken from the ledger: it may have been committed again, later. For one
        that is confirmed here the earlier opening counts, since either is enough.
        ``names_replied``: the ledger lists the plain requests that have had their reply; a request that is not listed,
        and whose grant the leader has dropped, was not received and keeps its place.
        """
        theirs = {record.grant.grant_id: hold_of(record, now_ns) for record in records}
        for gone in [hold for hold in self.holds.all() if _id(hold) not in theirs]:
            if isinstance(gone, GlobalHold):
                self.expire_hold(gone)
            else:
                self.end_hold(gone, is_unsent=names_replied and not gone.grant.managed)
        early = []
        for grant_id, hold in theirs.items():
            self._merge_hold(hold)
            self.look_at_hold(grant_id, hold.opens_at_ns)
            if grant_id in self._early_confirms:
                early.append(self._early_confirms.pop(grant_id))
        return early

    def _merge_hold(self, theirs: Hold | GlobalHold) -> None:
        mine = self.holds.get(_id(theirs))
        if isinstance(theirs, GlobalHold):
            if mine is None:
                self.holds.add(theirs)
            else:
                mine.opens_at_ns = min(mine.opens_at_ns, theirs.opens_at_ns)
            return
        is_confirmed = theirs.state not in AWAITING
        if not isinstance(mine, Hold):
            self.add_hold(theirs)
        elif mine.state.outcome is None:
            mine.state = theirs.state if is_confirmed else mine.state
            mine.identified_at_ns = theirs.identified_at_ns
            mine.opens_at_ns = theirs.opens_at_ns
        else:
            mine.opens_at_ns = min(mine.opens_at_ns, theirs.opens_at_ns)
        if is_confirmed:
            self.requests.end(theirs.grant.request_id)


def _id(hold: Hold | GlobalHold) -> str:
    return hold.grant_id if isinstance(hold, GlobalHold) else hold.grant.grant_id
