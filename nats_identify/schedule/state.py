"""What the schedule knows: who waits, what is granted, what is left of the day; kept consistent. It decides nothing."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from nats_identify.schedule.bucket_queue import QueuedRequest
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.grants import EVERY_BUCKET, HoldTable
from nats_identify.schedule.model import Fields, Grant, Outcome, Timing
from nats_identify.schedule.plain import PlainReplies, Replied
from nats_identify.schedule.requests import RequestTable
from nats_identify.schedule.timers import TimerKind, Timers

EARLY_CONFIRMS_MAX = 10_000
"""So many answers without a grant, and grants without a READY, are kept: more than a window's worth."""


class ScheduleState:
    """The waiting room, the holds, the budget, the guard and the alarms of one bot, moved together.

    Attributes:
        timing: the durations of the settings, with the margin of today.
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
        self.margin_setting_ns = timing.margin_ns
        self.budget = budget
        self.guard = guard
        self.max_concurrency = max_concurrency
        self.timers = Timers()
        self.requests = RequestTable(max_concurrency or 1, max_waiting, self.timers)
        self.holds = HoldTable(max_concurrency or 1)
        self.plain = PlainReplies()
        self.is_leading = True  # a standby refuses no plain request
        self.dirty_buckets: set[int] = set()
        self.is_within_lease = True  # what is said now is sent: not by a standby, nor after a leader's lease
        self.nudges_valid_from_ns = 0  # what was said to shards before may not have reached them
        self.slow_commit_at_ns = 0  # what was said right before took its time, and so may its answers
        self.grants_paused_until_ns = 0  # nobody is granted before: shards are on their way back
        self.used: OrderedDict[str, Fields] = OrderedDict()
        self._early_confirms: OrderedDict[str, tuple[Outcome, int]] = OrderedDict()

    def start_hold(self, grant: Grant, now_ns: int) -> None:
        """Count the whole hold of an unanswered grant from now."""
        hold_ns = self.timing.managed_hold_ns if grant.managed else self.timing.plain_hold_ns
        grant.granted_at_ns, grant.opens_at_ns = now_ns, now_ns + hold_ns
        self.timers.at(grant.opens_at_ns, TimerKind.GRANT, grant.grant_id)

    def add_hold(self, grant: Grant) -> None:
        """Let a grant hold its bucket; the asking that it serves leaves its line."""
        self.holds.add(grant)
        self.timers.at(grant.opens_at_ns, TimerKind.GRANT, grant.grant_id)
        request = self.requests.get(grant.request_id)
        if request is not None:
            self.attach_hold(request)

    def attach_hold(self, request: QueuedRequest) -> None:
        """Take an asking out of its line if a live grant serves it; either may be heard of first."""
        grant = self.holds.for_request(request.message.request_id)
        if grant is not None and request.grant_id is None:
            self.requests.take(request)
            request.grant_id = grant.grant_id

    def end_hold(self, grant: Grant, *, is_unsent: bool = False) -> QueuedRequest | None:
        """End a grant's hold; return the asking that it did not serve, back at its place.

        A managed one is silent until it renews; a renewal newer than the one that the grant echoes counts, since
        it may have overtaken the answer, unless the grant ``is_unsent``. A plain one has had its one reply, unless
        the grant ``is_unsent``.
        """
        self.holds.remove(grant)
        self.dirty_buckets.update(self.holds.buckets_of(grant))
        request = self.requests.get(grant.request_id)
        if request is None or request.grant_id != grant.grant_id:
            return None
        if not request.message.managed and not is_unsent:
            self.requests.forget(request)
            return None
        request.grant_id = None
        request.is_unresponsive = is_unsent or request.message.renewal <= grant.renewal
        self.requests.put(request)
        self.dirty_buckets.add(request.bucket)
        return request

    def defer(self, request: QueuedRequest, until_ns: int, now_ns: int) -> None:
        """Let a shard that loops stand behind everybody until then."""
        until_ns = until_ns if until_ns > now_ns else 0
        if request.deferred_until_ns != until_ns and request.grant_id is None:
            self.requests.take(request)
            request.deferred_until_ns = until_ns
            self.requests.put(request)
            self.dirty_buckets.add(request.bucket)
        if until_ns:
            self.timers.at(until_ns, TimerKind.ASKING, request.message.request_id)

    def set_margin(self, margin_ns: int) -> None:
        """Let every hold that begins from now on have this margin."""
        self.timing = replace(self.timing, margin_ns=margin_ns)

    def identify(self, grant: Grant, at_ns: int) -> None:
        """The turn was used: the window starts, and the asking has ended."""
        grant.outcome, grant.identified_at_ns = Outcome.IDENTIFIED, at_ns
        grant.opens_at_ns = at_ns + self.timing.confirmed_hold_ns
        self.timers.at(grant.opens_at_ns, TimerKind.GRANT, grant.grant_id)
        self.dirty_buckets.update(self.holds.buckets_of(grant))  # it opens at another time now
        self.requests.end(grant.request_id)
        self.mark_day_begun(grant, at_ns)

    def mark_day_begun(self, grant: Grant, at_ns: int) -> None:
        """Discord's day has begun, if this leader granted the turn; of another's nobody here knows in which day."""
        if grant.publish_count:
            self.budget.use(grant.granted_at_ns, at_ns)

    def refund(self, grant: Grant) -> None:
        """Its IDENTIFY proved not to have been sent; where the day was spent, whoever waits anywhere may have it."""
        was_closed = self.budget.closed_for(0) is not None
        self.budget.refund()
        self.guard.refund(grant.shard_id)
        if was_closed:
            self.mark_all_dirty()

    def buffer_early_confirm(self, grant_id: str, outcome: Outcome, at_ns: int) -> None:
        """Keep an answer whose grant has not been seen yet, or may be seen again; the first one counts."""
        self._early_confirms.setdefault(grant_id, (outcome, at_ns))
        if len(self._early_confirms) > EARLY_CONFIRMS_MAX:
            self._early_confirms.popitem(last=False)

    def charge_unmatched_confirms(self, since_ns: int, now_ns: int) -> None:
        """Spend what was used since then with turns that were never seen: the ledger that had them is lost."""
        for grant_id, (outcome, at_ns) in list(self._early_confirms.items()):
            if at_ns > since_ns and outcome is not Outcome.DECLINED:
                del self._early_confirms[grant_id]
                self.budget.spend(now_ns)

    def retain_for_ready(self, grant_id: str, fields: Fields) -> None:
        """Keep the ids of a turn whose hold is over: its READY may come later."""
        self.used[grant_id] = fields
        if len(self.used) > EARLY_CONFIRMS_MAX:
            self.used.popitem(last=False)

    def unconfirmed_count(self, now_ns: int) -> int:
        """Grants that Discord's own count may not show yet: unconfirmed, or confirmed less than a window ago."""
        return sum(1 for grant in self.holds if grant.request_id and self._may_be_uncounted(grant, now_ns))

    def _may_be_uncounted(self, grant: Grant, now_ns: int) -> bool:
        confirmed_ns = grant.identified_at_ns
        return confirmed_ns is None or now_ns - confirmed_ns < self.timing.window_ns

    def renumber(self, max_concurrency: int) -> None:
        """Change the number of buckets: who waits moves, in order; no hold is shortened."""
        if max_concurrency != self.max_concurrency:
            self.max_concurrency = max_concurrency
            self.holds.renumber(max_concurrency)
            self.requests.renumber(max_concurrency)
        self.mark_all_dirty()

    def opens_at_ns(self, bucket: int) -> int:
        """When this bucket may be granted next; in the past where it is open."""
        return max(self.holds.opens_at_ns(bucket), self.grants_paused_until_ns)

    def invalidate_nudges(self, now_ns: int) -> None:
        """What was told to shards before may not have reached them: no nudge and no promise of before counts."""
        self.nudges_valid_from_ns = now_ns
        self.requests.break_promises()

    def mark_all_dirty(self) -> None:
        """Look at every bucket again."""
        self.dirty_buckets.update(self.requests.queues)

    def hold_all_buckets(self, grant_id: str, hold_ns: int, now_ns: int) -> Grant:
        """Block every bucket by a record that a successor will find: grants may be out that nobody here knows of."""
        use_within_ns = self.timing.use_within_ns
        record = Grant(
            grant_id=grant_id,
            request_id="",
            shard_id=0,
            bucket=0,
            max_concurrency=EVERY_BUCKET,
            renewal=0,
            use_within_ns=use_within_ns,
            opens_at_ns=now_ns + hold_ns,
            outcome=Outcome.IDENTIFIED,  # no answer concerns it
            committed=True,
        )
        self.add_hold(record)
        return record

    def end_plain(self, grant: Grant, now_ns: int) -> None:
        """A plain grant was received, or may have been: its request has had its reply."""
        if not grant.managed:
            self.requests.end(grant.request_id)
            self.plain.add(grant.request_id, now_ns)

    def adopt_replied(self, replied: Iterable[Replied], now_ns: int) -> None:
        """These plain requests have had their reply: nothing is heard of them again."""
        for request_id, left_ns in replied:
            self.requests.end(request_id)
            self.plain.add(request_id, now_ns, left_ns)

    def restore(
        self, grants: Iterable[Grant], now_ns: int, *, is_complete: bool = True
    ) -> list[tuple[str, Outcome, int]]:
        """Keep the records of whoever leads, each stamped with this clock when it was seen.

        A record that the leader has dropped is dropped. One that nobody had answered here is as the leader says: it
        may have been committed again, later. Of one that was answered here the earlier opening counts, since either
        is enough. Returns the answers that overtook their grants: id, outcome, instant.
        ``is_complete``: the leader names the plain requests that have had their reply; another one whose record it has
        dropped was not received, and keeps its place.
        """
        seen = {grant.grant_id: grant for grant in grants}
        for gone in [grant for grant in self.holds if grant.grant_id not in seen]:
            self.end_hold(gone, is_unsent=is_complete and not gone.managed)
        overtaken = []
        for grant in seen.values():
            mine = self.holds.get(grant.grant_id)
            if mine is None:
                self.add_hold(grant)
            elif mine.outcome is None:
                mine.outcome, mine.identified_at_ns = grant.outcome, grant.identified_at_ns
                mine.opens_at_ns = grant.opens_at_ns
            else:
                mine.opens_at_ns = min(mine.opens_at_ns, grant.opens_at_ns)
            if grant.outcome is not None and grant.request_id:
                self.requests.end(grant.request_id)
            self.timers.at(grant.opens_at_ns, TimerKind.GRANT, grant.grant_id)
            if grant.grant_id in self._early_confirms:
                overtaken.append((grant.grant_id, *self._early_confirms.pop(grant.grant_id)))
        return overtaken

    def rollback_uncommitted(self, grants: Iterable[Grant]) -> None:
        """These were never committed, and nobody has heard of them; what another committed proves nothing here."""
        for grant in grants:
            if self.holds.get(grant.grant_id) is grant and not grant.committed:
                self.refund(grant)
                request = self.end_hold(grant, is_unsent=True)
                if request is not None:
                    request.is_unresponsive = False
        for grant in self.holds:
            grant.publish_count = None
