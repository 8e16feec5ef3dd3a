"""What the schedule knows: who waits, what is granted, what is left of the day; kept consistent. It decides nothing."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from nats_identify.schedule.alarms import Alarms, Look
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.holds import EVERY_BUCKET, HoldTable
from nats_identify.schedule.line import Asking
from nats_identify.schedule.model import Facts, Grant, Outcome, Timing
from nats_identify.schedule.plain import PlainReplies, Replied
from nats_identify.schedule.waiting import WaitingRoom

STASHED_MOST = 10_000
"""So many answers without a grant, and grants without a READY, are kept: more than a window's worth."""


class Book:
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
        self.alarms = Alarms()
        self.room = WaitingRoom(max_concurrency or 1, max_waiting, self.alarms)
        self.holds = HoldTable(max_concurrency or 1)
        self.plain = PlainReplies()
        self.is_leading = True  # a standby refuses no plain request
        self.due: set[int] = set()
        self.is_heard = True  # what is said now is sent: not by a standby, nor after a leader's lease
        self.attentive_since_ns = 0  # what was said to shards before may not have reached them
        self.slow_commit_at_ns = 0  # what was said right before took its time, and so may its answers
        self.quiet_until_ns = 0  # nobody is granted before: shards are on their way back
        self.used: OrderedDict[str, Facts] = OrderedDict()
        self._stash: OrderedDict[str, tuple[Outcome, int]] = OrderedDict()

    def stamp(self, grant: Grant, now_ns: int) -> None:
        """Count the whole hold of an unanswered grant from now."""
        hold_ns = self.timing.managed_hold_ns if grant.managed else self.timing.plain_hold_ns
        grant.granted_at_ns, grant.opens_at_ns = now_ns, now_ns + hold_ns
        self.alarms.at(grant.opens_at_ns, Look.GRANT, grant.grant_id)

    def take_up(self, grant: Grant) -> None:
        """Let a grant hold its bucket; the asking that it serves leaves its line."""
        self.holds.add(grant)
        self.alarms.at(grant.opens_at_ns, Look.GRANT, grant.grant_id)
        asking = self.room.get(grant.request_id)
        if asking is not None:
            self.link(asking)

    def link(self, asking: Asking) -> None:
        """Take an asking out of its line if a live grant serves it; either may be heard of first."""
        grant = self.holds.for_request(asking.ask.request_id)
        if grant is not None and asking.grant_id is None:
            self.room.take(asking)
            asking.grant_id = grant.grant_id

    def let_go(self, grant: Grant, *, is_unsent: bool = False) -> Asking | None:
        """End a grant's hold; return the asking that it did not serve, back at its place.

        A managed one is silent until it renews; a renewal newer than the one that the grant echoes counts, since
        it may have overtaken the answer, unless the grant ``is_unsent``. A plain one has had its one reply, unless
        the grant ``is_unsent``.
        """
        self.holds.remove(grant)
        self.due.update(self.holds.buckets_of(grant))
        asking = self.room.get(grant.request_id)
        if asking is None or asking.grant_id != grant.grant_id:
            return None
        if not asking.ask.managed and not is_unsent:
            self.room.forget(asking)
            return None
        asking.grant_id = None
        asking.silent = is_unsent or asking.ask.renewal <= grant.renewal
        self.room.put(asking)
        self.due.add(asking.bucket)
        return asking

    def hold_back(self, asking: Asking, until_ns: int, now_ns: int) -> None:
        """Let a shard that loops stand behind everybody until then."""
        until_ns = until_ns if until_ns > now_ns else 0
        if asking.held_back_until_ns != until_ns and asking.grant_id is None:
            self.room.take(asking)
            asking.held_back_until_ns = until_ns
            self.room.put(asking)
            self.due.add(asking.bucket)
        if until_ns:
            self.alarms.at(until_ns, Look.ASKING, asking.ask.request_id)

    def tune(self, margin_ns: int) -> None:
        """Let every hold that begins from now on have this margin."""
        self.timing = replace(self.timing, margin_ns=margin_ns)

    def identify(self, grant: Grant, at_ns: int) -> None:
        """The turn was used: the window starts, and the asking has ended."""
        grant.outcome, grant.identified_at_ns = Outcome.IDENTIFIED, at_ns
        grant.opens_at_ns = at_ns + self.timing.confirmed_hold_ns
        self.alarms.at(grant.opens_at_ns, Look.GRANT, grant.grant_id)
        self.due.update(self.holds.buckets_of(grant))  # it opens at another time now
        self.room.end(grant.request_id)
        self.believe_used(grant, at_ns)

    def believe_used(self, grant: Grant, at_ns: int) -> None:
        """Discord's day has begun, if this leader granted the turn; of another's nobody here knows in which day."""
        if grant.sent:
            self.budget.use(grant.granted_at_ns, at_ns)

    def give_back(self, grant: Grant) -> None:
        """Its IDENTIFY proved not to have been sent; where the day was spent, whoever waits anywhere may have it."""
        was_closed = self.budget.closed_for(0) is not None
        self.budget.give_back()
        self.guard.give_back(grant.shard_id)
        if was_closed:
            self.all_due()

    def stash(self, grant_id: str, outcome: Outcome, at_ns: int) -> None:
        """Keep an answer whose grant has not been seen yet, or may be seen again; the first one counts."""
        self._stash.setdefault(grant_id, (outcome, at_ns))
        if len(self._stash) > STASHED_MOST:
            self._stash.popitem(last=False)

    def charge_unseen(self, since_ns: int, now_ns: int) -> None:
        """Spend what was used since then with turns that were never seen: the ledger that had them is lost."""
        for grant_id, (outcome, at_ns) in list(self._stash.items()):
            if at_ns > since_ns and outcome is not Outcome.DECLINED:
                del self._stash[grant_id]
                self.budget.spend(now_ns)

    def remember_used(self, grant_id: str, facts: Facts) -> None:
        """Keep the ids of a turn whose hold is over: its READY may come later."""
        self.used[grant_id] = facts
        if len(self.used) > STASHED_MOST:
            self.used.popitem(last=False)

    def in_the_air(self, now_ns: int) -> int:
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
            self.room.renumber(max_concurrency)
        self.all_due()

    def opens_at_ns(self, bucket: int) -> int:
        """When this bucket may be granted next; in the past where it is open."""
        return max(self.holds.opens_at_ns(bucket), self.quiet_until_ns)

    def count_on_nothing_told(self, now_ns: int) -> None:
        """What was told to shards before may not have reached them: no nudge and no promise of before counts."""
        self.attentive_since_ns = now_ns
        self.room.break_promises()

    def all_due(self) -> None:
        """Look at every bucket again."""
        self.due.update(self.room.lines)

    def hold_everything(self, grant_id: str, hold_ns: int, now_ns: int) -> Grant:
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
        self.take_up(record)
        return record

    def end_plain(self, grant: Grant, now_ns: int) -> None:
        """A plain grant was received, or may have been: its request has had its reply."""
        if not grant.managed:
            self.room.end(grant.request_id)
            self.plain.add(grant.request_id, now_ns)

    def adopt_replied(self, replied: Iterable[Replied], now_ns: int) -> None:
        """These plain requests have had their reply: nothing is heard of them again."""
        for request_id, left_ns in replied:
            self.room.end(request_id)
            self.plain.add(request_id, now_ns, left_ns)

    def adopt(
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
            self.let_go(gone, is_unsent=is_complete and not gone.managed)
        overtaken = []
        for grant in seen.values():
            mine = self.holds.get(grant.grant_id)
            if mine is None:
                self.take_up(grant)
            elif mine.outcome is None:
                mine.outcome, mine.identified_at_ns = grant.outcome, grant.identified_at_ns
                mine.opens_at_ns = grant.opens_at_ns
            else:
                mine.opens_at_ns = min(mine.opens_at_ns, grant.opens_at_ns)
            if grant.outcome is not None and grant.request_id:
                self.room.end(grant.request_id)
            self.alarms.at(grant.opens_at_ns, Look.GRANT, grant.grant_id)
            if grant.grant_id in self._stash:
                overtaken.append((grant.grant_id, *self._stash.pop(grant.grant_id)))
        return overtaken

    def abandon(self, grants: Iterable[Grant]) -> None:
        """These were never committed, and nobody has heard of them; what another committed proves nothing here."""
        for grant in grants:
            if self.holds.get(grant.grant_id) is grant and not grant.committed:
                self.give_back(grant)
                asking = self.let_go(grant, is_unsent=True)
                if asking is not None:
                    asking.silent = False
        for grant in self.holds:
            grant.sent = None
