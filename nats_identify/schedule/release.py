"""Who may identify next, and when: the release schedule of one bot. It never waits, sends, logs or reads a clock.

Tell it what happened with `handle`; ask it for what is due with `release`; when those grants are safely
recorded, say so with `committed`, and it returns the replies. A coordinator records them in the ledger in
between; a queue inside one process does both at once. A standby calls `handle` and `adopt` alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from nats_identify.schedule import answers, model, nudge, passing, plain, replies
from nats_identify.schedule.alarms import LOOK_MOST_NS, Look
from nats_identify.schedule.book import Book
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.day import Day
from nats_identify.schedule.line import RENEW_MOST_NS, Asking, Line
from nats_identify.schedule.model import Grant, Happened, Reason, Reply, ScheduleAction
from nats_identify.schedule.replies import facts_of

LATE_COMMITS = 3
"""A plain grant whose commit took too long is committed again so often, then refused."""


class ReleaseSchedule:
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
        self.book = Book(timing, budget, guard or CrashLoopGuard(), max_concurrency, max_waiting)
        self._timing = timing
        self._budget = budget
        self._name_grant = name_grant
        self._again: list[Grant] = []
        self._refusals: list[ScheduleAction] = []  # of plain requests, in the entry that is being written
        self._day = Day(self.book)

    # --- told

    def handle(self, event: model.ScheduleEvent, now_ns: int) -> list[ScheduleAction]:
        """Take in one event; return what to send. Grants come from `release` alone."""
        actions = passing.pass_time(self.book, self._day, now_ns)
        match event:
            case model.Ask(is_copy=True):
                self._take_copy(event, now_ns)
            case model.Ask():
                actions += self._ask(event, now_ns)
            case model.Cancel(request_id):
                actions += self._cancel(request_id)
            case model.Answer(grant_id, outcome):
                actions += answers.answer(self.book, grant_id, outcome, now_ns)
            case model.Undeliverable(grant_id):
                actions += answers.undeliverable(self.book, grant_id, now_ns)
            case model.NudgeUndeliverable(request_id):
                self._nudge_undeliverable(request_id)
            case model.FigureAsked():
                self._day.ask(now_ns)
            case model.Figure(limits):
                actions += self._day.learn(limits, now_ns)
            case model.Wake():
                pass
        return actions

    def next_deadline_ns(self) -> int | None:
        """When time alone changes something here."""
        return self.book.alarms.next_ns()

    @property
    def has_due(self) -> bool:
        """Whether `release` has anything to look at."""
        return bool(self.book.due or self._again)

    @property
    def is_refusing(self) -> bool:
        """Whether refusals of plain requests wait for a commit."""
        return bool(self._refusals)

    # --- asked

    def release(self, now_ns: int) -> tuple[list[Grant], list[ScheduleAction]]:
        """Grant all that is due and nudge those whose turn is near. Nobody may hear of a grant before `committed`."""
        actions = passing.pass_time(self.book, self._day, now_ns)
        grants, self._again = self._again, []
        for grant in grants:
            self.book.stamp(grant, now_ns)
        lines = self.book.room.lines
        due, self.book.due = self.book.due, set()
        for bucket in sorted(due & lines.keys()):
            asking = self._candidate(bucket, now_ns)
            if asking is not None:
                grants.append(self._grant(asking, now_ns))
            if bucket in lines:
                actions += self._prepare(bucket, lines[bucket], now_ns)
        actions += self._day.refuse_plain_when_exhausted(now_ns)
        self._refusals += self.book.plain.take(now_ns)
        return grants, actions

    def committed(self, grants: Iterable[Grant], now_ns: int, *, in_time: bool = True) -> list[ScheduleAction]:
        """These grants are recorded where a successor will find them: return their replies.

        Args:
            grants: what `release` returned.
            now_ns: a reading of the clock after the commit; the holds count from it.
            in_time: whether the leader's own lease stands; otherwise no reply leaves, and a renewal finds its grant.
        """
        actions, self._refusals = self._refusals if in_time else [], []
        for grant in grants:
            is_late = not in_time or now_ns - grant.granted_at_ns > self._timing.grace_ns // 2
            self.book.stamp(grant, now_ns)
            if is_late and not grant.managed:
                actions += self._commit_again_or_refuse(grant, now_ns)
                continue
            grant.committed = True
            if in_time:
                actions += self._publish(grant, grant.reply_to, now_ns)
                waited_ms = replies.ms(now_ns - grant.asked_at_ns)
                actions.append(Happened("granted", facts_of(grant, waited_ms=waited_ms)))
        return actions

    def adopt(
        self, grants: Iterable[Grant], now_ns: int, *, replied: Iterable[plain.Replied] | None = None
    ) -> list[ScheduleAction]:
        """Keep the leader's records; answers that overtook theirs are applied now.

        ``replied`` are the plain requests that have had their reply; None: the leader does not name them.
        """
        actions: list[ScheduleAction] = []
        self.book.adopt_replied(replied or (), now_ns)
        for grant_id, outcome, at_ns in self.book.adopt(grants, now_ns, is_complete=replied is not None):
            actions += answers.answer(self.book, grant_id, outcome, at_ns)
        return actions

    def step_down(self, uncommitted: Iterable[Grant]) -> None:
        """Lead no more: what was never committed goes back to its place."""
        self.book.abandon([*uncommitted, *self._again])
        self._again, self._refusals, self.book.is_leading = [], [], False
        self.book.plain.step_down()
        self._day.forget_asking()

    def begin(self, now_ns: int) -> None:
        """Begin to lead: whatever is due was nobody's business here until now, and nobody was told by us."""
        self.book.is_leading = True
        self.book.count_on_nothing_told(now_ns)
        self.book.all_due()
        self._day.watch()

    def was_slow(self, now_ns: int) -> None:
        """A commit has taken its time: so may have what was said to shards before it, and what they answer."""
        self.book.slow_commit_at_ns = now_ns

    def was_lost(self, now_ns: int) -> None:
        """What became of a commit is not known: what was said to shards may be lost as well."""
        self.book.count_on_nothing_told(now_ns)

    def was_away(self, now_ns: int) -> None:
        """We were cut off from the shards, and they may have been too: let them come back, in their order."""
        self.book.count_on_nothing_told(now_ns)
        self.book.quiet_until_ns = now_ns + self._timing.nudge_lead_ns // 2
        self.book.alarms.at(self.book.quiet_until_ns, Look.EVERYTHING)
        self.book.all_due()

    # --- requests

    def _ask(self, ask: model.Ask, now_ns: int) -> list[ScheduleAction]:
        room = self.book.room
        if room.has_ended(ask.request_id):
            if not ask.managed and room.may_be_copy_of_ended(ask):
                return []  # it has had its one reply
            return replies.refuse(ask, replies.ended(ask), is_news=room.refuse_ended(ask.request_id))
        asking = room.get(ask.request_id)
        refusal = replies.wrong_bucket(self.book, ask) or (self._full(ask, now_ns) if asking is None else None)
        if refusal is not None:
            is_again = asking is not None and not ask.managed  # of a plain request the first message counts
            return [] if is_again else plain.final(self.book, ask, replies.refuse(ask, refusal))
        is_new = asking is None
        if asking is None:
            asking = room.admit(ask, now_ns)
            self.book.link(asking)
        elif ask.renewal < asking.ask.renewal:
            return []
        else:
            room.renew(asking, ask, now_ns)
        self._set_pace(asking, asking.renew_in_ns, now_ns)
        actions: list[ScheduleAction] = []
        if ask.max_concurrency not in {None, self.book.max_concurrency}:
            actions.append(model.FetchFigure(f"a request claims max_concurrency {ask.max_concurrency}"))
        if asking.grant_id is not None:
            return actions + self._same_grant_again(asking, now_ns)
        self.book.due.add(asking.bucket)
        opens_at_ns = self.book.guard.opens_at_ns(ask.shard_id, asking.asked_at_ns, now_ns)
        self.book.hold_back(asking, opens_at_ns, now_ns)
        if self.book.guard.is_news(ask.shard_id, asking.asked_at_ns, now_ns):
            actions.append(Happened("crash_loop", facts_of(asking, wait_ms=replies.ms(opens_at_ns - now_ns))))
        if asking is not self._candidate(asking.bucket, now_ns):
            actions += self._queue(asking, now_ns, is_new=is_new)
        return actions

    def _take_copy(self, ask: model.Ask, now_ns: int) -> None:
        """Give an asking that another replica knows of its place; it is no fresher here than it is there."""
        room = self.book.room
        if room.get(ask.request_id) is None and not room.has_ended(ask.request_id) and not room.is_full:
            asking = room.admit(ask, now_ns)
            stale_ns = now_ns - self._timing.fresh_ns - 1  # worth a nudge
            asking.heard_at_ns = stale_ns if ask.heard_at_ns is None else ask.heard_at_ns
            self.book.link(asking)
            self._set_pace(asking, RENEW_MOST_NS, now_ns)  # nobody here knows when it will renew
            self.book.due.add(asking.bucket)

    def _full(self, ask: model.Ask, now_ns: int) -> model.Refused | None:
        if self.book.room.is_full:
            message = f"{self.book.room.max_waiting} requests wait already; ask again later"
            return replies.overloaded(ask.request_id, message)
        if self.book.room.is_full_for(ask.reply_to):
            message = (
                f"{self.book.room.max_of_sender} requests of this connection wait already, the most that one may have: "
                f"a quarter of IDENTIFY_MAX_WAITING; ask again later"
            )
            return replies.overloaded(ask.request_id, message)
        if not ask.managed and self.book.is_leading and self._budget.closed_for(ask.priority) is Reason.SESSION_LIMIT:
            return replies.exhausted(self.book, ask.request_id, now_ns)
        return None

    def _queue(self, asking: Asking, now_ns: int, *, is_new: bool) -> list[ScheduleAction]:
        queued = replies.queued(self.book, asking, now_ns)
        self._set_pace(asking, queued.renew_in_ns, now_ns)
        actions: list[ScheduleAction] = []
        if asking.ask.managed:
            actions.append(Reply(asking.ask.reply_to, queued))
            if queued.position == 1 and queued.reason is Reason.WINDOW:
                self._promise_if_near(asking, now_ns)
        if is_new:
            eta_ms = replies.ms(queued.eta_ns)
            facts = facts_of(asking, position=queued.position, eta_ms=eta_ms, reason=queued.reason)
            actions.append(Happened("queued", facts))
        return actions

    def _set_pace(self, asking: Asking, renew_in_ns: int, now_ns: int) -> None:
        asking.set_pace(renew_in_ns, now_ns)
        self.book.alarms.at(min(asking.gone_at_ns, now_ns + LOOK_MOST_NS), Look.ASKING, asking.ask.request_id)

    def _promise_if_near(self, asking: Asking, now_ns: int) -> None:
        is_near = self.book.opens_at_ns(asking.bucket) - now_ns <= self._timing.nudge_lead_ns
        if is_near and self.book.is_heard:
            self.book.room.lines[asking.bucket].promise(asking)

    def _cancel(self, request_id: str) -> list[ScheduleAction]:
        asking = self.book.room.end(request_id)  # a turn that it was granted is not freed by this
        if asking is None:
            return []
        self.book.due.add(asking.bucket)
        return [Happened("cancelled", facts_of(asking))]

    def _same_grant_again(self, asking: Asking, now_ns: int) -> list[ScheduleAction]:
        """The grant was lost, or crossed this renewal: the identical one again, with no new commit, charge or hold."""
        grant = self.book.holds.get(asking.grant_id or "")
        if grant is None or not grant.committed or grant.outcome is not None:
            return []
        if not (grant.managed and asking.ask.managed):  # a plain one has had its one reply, and counts from its receipt
            is_copy = not grant.reply_to or grant.reply_to == asking.ask.reply_to
            return [] if is_copy else replies.refuse(asking.ask, replies.ended(asking.ask))
        return self._publish(grant, asking.ask.reply_to, now_ns)

    def _publish(self, grant: Grant, to: str, now_ns: int) -> list[ScheduleAction]:
        grant.sent = None if grant.sent is None else grant.sent + 1
        return [Reply(to, replies.granted(self.book, grant, now_ns))]

    # --- grants

    def _candidate(self, bucket: int, now_ns: int) -> Asking | None:
        """Who is granted if this bucket is looked at now: the first in order whose renewal is fresh.

        A stale one before it keeps its place, and is passed over only after it was told of its turn in vain.
        """
        if self.book.opens_at_ns(bucket) > now_ns:
            return None
        for asking in self.book.room.lines.get(bucket, ()):
            if asking.held_back_until_ns > now_ns or self._budget.closed_for(asking.ask.priority) is not None:
                return None  # those behind are held back for longer, or have no higher priority
            if not asking.is_fresh(now_ns, self._timing):
                if not nudge.may_be_passed(self.book, asking, now_ns):
                    return None
            elif self.book.guard.opens_at_ns(asking.ask.shard_id, asking.asked_at_ns, now_ns) <= now_ns:
                return asking  # else another asking of its shard was granted meanwhile: it is held back when it renews
        return None

    def _grant(self, asking: Asking, now_ns: int) -> Grant:
        ask, book = asking.ask, self.book
        use_within_ns = self._timing.use_within_ns if ask.managed else self._timing.grace_ns // 2
        grant = Grant(
            grant_id=self._name_grant(),
            request_id=ask.request_id,
            shard_id=ask.shard_id,
            bucket=asking.bucket,
            max_concurrency=book.room.max_concurrency,
            renewal=ask.renewal,
            use_within_ns=use_within_ns,
            opens_at_ns=0,
            sent=0,
            asked_at_ns=asking.asked_at_ns,
            managed=ask.managed,
            reply_to=ask.reply_to,
        )
        self._day.charge(now_ns)
        book.guard.count(ask.shard_id, asking.asked_at_ns, now_ns)
        book.stamp(grant, now_ns)
        book.take_up(grant)
        return grant

    def _commit_again_or_refuse(self, grant: Grant, now_ns: int) -> list[ScheduleAction]:
        """A plain grant is never sent late: its shard counts from receipt, a successor from the commit."""
        grant.late_commits += 1
        if grant.late_commits <= LATE_COMMITS:
            self._again.append(grant)
            return []
        # Nobody was told of it: it was not sent here, and a successor sends no plain grant that it has read. Its record
        # is in the ledger, so a successor knows already that the request has had its reply.
        self.book.give_back(grant)
        self.book.let_go(grant, is_unsent=True)
        self.book.plain.add(grant.request_id, now_ns)
        asking = self.book.room.end(grant.request_id)
        slow = "the ledger could not be written fast enough; ask again with a new request_id"
        refusal = replies.overloaded(grant.request_id, slow)
        return [] if asking is None else replies.refuse(asking.ask, refusal)

    def _prepare(self, bucket: int, line: Line, now_ns: int) -> list[ScheduleAction]:
        opens_at_ns = self.book.opens_at_ns(bucket)
        nudged = nudge.nudge(self.book, line, opens_at_ns, now_ns)
        look_at_ns = nudge.next_look_ns(self.book, line, opens_at_ns, now_ns)
        if look_at_ns is not None:
            self.book.alarms.at(look_at_ns, Look.BUCKET, bucket)
        actions: list[ScheduleAction] = []
        for asking in nudged:
            told = replace(replies.queued(self.book, asking, now_ns), position=1, renew_in_ns=0, nudge=True)
            actions.append(Reply(asking.ask.reply_to, told))
            line.promise(asking)
        return actions

    def _nudge_undeliverable(self, request_id: str) -> None:
        """Nobody is there: it is passed over until it renews, and the next one is nudged at once."""
        asking = self.book.room.get(request_id)
        if asking is not None and asking.heard_at_ns < asking.nudged_at_ns:
            asking.silent = True
            self.book.due.add(asking.bucket)
