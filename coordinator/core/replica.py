"""One coordinator: standby, candidate or leader, behind one `handle`. It never waits, sends, logs or reads a clock.

The order of the actions is a contract: what a successor must know is written before the reply that it
concerns is returned. One write is in flight at a time; all that falls due meanwhile goes into the next.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from hashlib import blake2b
from itertools import count

from coordinator.core import ledger as words
from coordinator.core.ledger import (
    LeaseHeader,
    Ledger,
    Read,
    ReplicaAction,
    ReplicaEvent,
    Stopped,
    Write,
    entry,
    full_hold_ns_of,
)
from coordinator.core.ledger_view import LedgerView
from coordinator.core.limits_policy import LimitsPolicy
from coordinator.core.settings import Settings
from coordinator.core.write_state import Pending
from nats_identify.schedule import model
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.grants import GlobalHold, Hold
from nats_identify.schedule.model import MS, SECOND, Event, FetchLimits
from nats_identify.schedule.plain import REPLIED_FOR_NS
from nats_identify.schedule.scheduler import Scheduler

RETRY_NS = 250 * MS
"""The pause before an unanswered read is repeated: a ledger that comes back is read well within a second."""

REFUSED_MAX_NS = SECOND
"""The longest pause before a refused write is repeated, and a third of the lease, the heartbeat's pace, where that is
less. The first is `RETRY_NS`, each further one twice as long; shards are granted again within 2 s of the cure."""


class Role(Enum):
    """The role of a replica."""

    STANDBY = "standby"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Replica:
    """Lease, ledger and schedule as one state machine."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.role = Role.STANDBY
        self.term = 0
        self.lease_until_ns = 0
        self._name_grant = _names(settings.instance, settings.grant_key)
        static = settings.static
        self.schedule = Scheduler(
            settings.timing,
            SessionBudget(reserve=settings.reserve, static=static is not None),
            CrashLoopGuard(settings.crash_loop_grants, settings.crash_loop_period_ns),
            max_concurrency=static.max_concurrency if static else None,
            name_grant=self._name_grant,
            max_waiting=settings.max_waiting,
        )
        self.schedule.state.become_standby()
        self.view = LedgerView(settings.lease_ns)
        self._longest_hold_ns = settings.timing.full_hold_ns  # the longest that a grant of any ledger seen can matter
        self._pending: Pending | None = None
        self._is_unsettled = False  # it is unknown whether the pending write was done
        self._refusals = 0  # of writes, since one was last accepted
        self._write_soon = False  # a standby should receive news before the next heartbeat
        self._is_reading = False
        self._is_traffic_lost = True
        self._stopping = False
        self._heard_at_ns: int | None = None
        self._read_at_ns = self._retry_at_ns = self._looked_at_ns = 0
        self._heartbeat_at_ns = 0
        self._global_hold: GlobalHold | None = None
        self._contested_at_ns = 0
        self._first_read_ns = 0  # when the ledger was first read as it stands
        self._lineage = ""
        self._figure_waits = False
        self._limits_policy = LimitsPolicy()

    def handle(self, event: ReplicaEvent, now_ns: int) -> list[ReplicaAction]:
        """Apply one event, then do all that is due; return what to do, in this order."""
        actions: list[ReplicaAction] = []
        match event:
            case words.LedgerRead():
                self._remember(event.ledger, now_ns)
                actions += self._read(event, now_ns)
            case words.LedgerUnreadable():
                self._is_reading = False
                self._read_at_ns = self._retry_at_ns = now_ns + RETRY_NS
            case words.LedgerSeen(ledger, revision):
                self._remember(ledger, now_ns)
                is_news = revision > self.view.revision and ledger.instance != self.settings.instance
                if is_news and self._pending is None:  # a pending write will fail, which leads to a read
                    actions += self._observe_ledger(ledger, revision, now_ns)
            case words.Written(revision):
                actions += self._written(revision, now_ns)
            case words.WriteUnsettled(is_refused):
                self._is_unsettled, self._read_at_ns = True, now_ns
                self._read_at_ns += self._back_off_ns() if is_refused else 0
                self.schedule.on_commit_unknown(now_ns)
            case words.TrafficHeard():
                self._heard_at_ns = now_ns
            case words.TrafficReturned():
                self.schedule.on_reconnected(now_ns)
            case words.Stop():
                self._stopping = True
            case model.LimitsFetchStarted():
                self._limits_policy.fetch_started(self.term, now_ns)
                self.schedule.handle(event, now_ns)
            case model.LimitsFetched():
                actions += self._limits_fetched(event, now_ns)
            case _:
                self.schedule.state.set_within_lease(is_within_lease=self.is_leading(now_ns))
                actions += self._if_leading(self.schedule.handle(event, now_ns), now_ns)
        return actions + self._advance(now_ns)

    def next_deadline_ns(self) -> int | None:
        """When `handle` wants a `Wake` at the latest."""
        deadlines = [self.schedule.next_deadline_ns()]
        if self._pending is None and self.role is Role.LEADER:
            deadlines += [self._heartbeat_at_ns, self._limits_policy.due_at_ns, self._deaf_at_ns()]
        elif not self._is_reading and (self._pending is None or self._is_unsettled):
            deadlines.append(self._read_at_ns)
            if self._pending is None and self._may_contest:
                deadlines.append(max(self.view.lease_expires_at_ns(), self._retry_at_ns))
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _advance(self, now_ns: int) -> list[ReplicaAction]:
        """Do what is due in the current role."""
        heard_ns = self._heard_at_ns
        self._is_traffic_lost = heard_ns is None or now_ns - heard_ns > self.settings.lease_ns
        if self._pending is not None:
            return self._start_read(now_ns) if self._is_unsettled and now_ns >= self._read_at_ns else []
        if self.role is Role.LEADER:
            return self._lead(now_ns)
        if self._stopping:
            return [Stopped()]
        is_free = self._may_contest and now_ns >= max(self.view.lease_expires_at_ns(), self._retry_at_ns)
        return self._start_read(now_ns) if is_free or now_ns >= self._read_at_ns else []

    @property
    def _may_contest(self) -> bool:
        return self.role is Role.STANDBY and self.view.is_known and not self._is_traffic_lost

    def _start_read(self, now_ns: int) -> list[ReplicaAction]:
        if self._is_reading:
            return []
        self._is_reading, self._looked_at_ns = True, now_ns
        self._read_at_ns = now_ns + self.settings.lease_ns // 3
        return [Read()]

    # --- standby

    def _remember(self, ledger: Ledger | None, now_ns: int) -> None:
        """Keep what counts of any ledger, adopted or not: how long a grant may matter, and its ``replied``."""
        if ledger is not None:
            hold_ns = full_hold_ns_of(ledger, self.schedule.state.timing.confirmed_hold_ns)
            self._longest_hold_ns = max(self._longest_hold_ns, hold_ns)
            self.schedule.state.mark_replied(ledger.replied or (), now_ns)

    def _observe_ledger(
        self, ledger: Ledger | None, revision: int, now_ns: int, *, is_put_back: bool = False
    ) -> list[ReplicaAction]:
        """Take over the leader's state; an older copy is not adopted and makes the ledger untrusted."""
        is_newer = self.view.observe(ledger, revision, now_ns, is_put_back=is_put_back)
        if self.role is Role.LEADER:
            self._step_down()
        if ledger is not None and self.view.has_regressed:  # its grants are not adopted; their requesters had a reply
            plain_ids = [record.request_id for record in ledger.grants if record.plain]
            self.schedule.state.mark_replied([(name, REPLIED_FOR_NS) for name in plain_ids], now_ns)
        if ledger is not None and is_newer:
            self.schedule.restore(ledger.snapshot, now_ns)
        return []

    def _read(self, event: words.LedgerRead, now_ns: int) -> list[ReplicaAction]:
        self._is_reading = False
        if self._pending is not None:
            return self._settle(self._pending, event, now_ns)
        actions = self._observe_ledger(event.ledger, event.revision, now_ns, is_put_back=event.written_on is None)
        if self._first_read_ns < self.view.last_change_ns:
            self._first_read_ns = now_ns
        if self._is_traffic_lost or self._stopping or now_ns < self.view.lease_expires_at_ns():
            return actions
        return actions + self._take_over(now_ns, is_first=event.never_written and self._may_be_first)

    @property
    def _may_be_first(self) -> bool:
        return self.settings.fresh_start and self.view.newest_age == (0, 0)

    def _take_over(self, now_ns: int, *, is_first: bool) -> list[ReplicaAction]:
        """Contest the lock: the same write deposes the old leader and proves that we hold the latest state."""
        state, static = self.schedule.state, self.settings.static
        self.role, self.term = Role.CANDIDATE, self.view.newest_age[0] + 1
        self._global_hold = None
        self._contested_at_ns = now_ns
        if not (self.view.is_trusted or is_first):
            self._longest_hold_ns = max(self._longest_hold_ns, state.timing.full_hold_ns)
            self._global_hold = state.assume_unknown_grants(self._name_grant(), self._longest_hold_ns, now_ns)
        if static is not None:
            lost_since_ns = self.view.newest_at_ns if self.view.has_regressed else None
            state.apply_settings(static, now_ns, lost_since_ns=lost_since_ns)
        self._lineage = self._global_hold.grant_id if self._global_hold else self.view.lineage or self.settings.instance
        self._figure_waits = not state.knows_limits and not is_first
        return self._write((), now_ns, leader=self.settings.name)

    def _lead_from_now(self, now_ns: int) -> list[ReplicaAction]:
        self.role = Role.LEADER
        hold_ns = self._longest_hold_ns
        if self._global_hold is not None:
            hold_ns = max(0, self._unknown_grants_until_ns(now_ns) - now_ns)
            self.schedule.state.set_global_hold(self._global_hold, now_ns + hold_ns)
        if self.settings.static is None:
            self._limits_policy.become_leader(now_ns, hold_ns if self._figure_waits else 0)
        self.schedule.become_leader(now_ns)
        fields: model.Fields = {"leader": self.settings.name, "instance": self.settings.instance, "term": self.term}
        if self._global_hold is not None:
            fields["holds_everything_ms"] = hold_ns // MS
        return self._if_leading([Event("leader", fields)], now_ns)

    def _unknown_grants_until_ns(self, now_ns: int) -> int:
        """Until when grants may matter that no ledger shows, for a leader that did not trust what it took over.

        They were committed before the ledger was lost, so before it was first read as it was taken over; our write has
        shown that none was committed after that. One that took more than a lease may have met another copy of it.
        """
        is_in_contact = now_ns - self._contested_at_ns <= self.settings.lease_ns
        return (self._first_read_ns if is_in_contact else now_ns) + self._longest_hold_ns

    # --- leader

    def _lead(self, now_ns: int) -> list[ReplicaAction]:
        if now_ns > self.lease_until_ns:  # paused: others may have led, and a restore may have undone their writes
            self._step_down()
            return self._start_read(now_ns)
        if self._stopping or self._is_traffic_lost:
            return self._write((), now_ns, leader=None)
        grants, said = self.schedule.grant_due(now_ns)
        actions = self._if_leading(said, now_ns)
        if self._limits_policy.is_due(now_ns, is_low=self.schedule.state.is_low_on_starts):
            actions.append(FetchLimits("its turn has come"))
        if grants or self.schedule.is_refusing or self._write_soon or now_ns >= self._heartbeat_at_ns:
            actions += self._write(tuple(grants), now_ns, leader=self.settings.name)
        return actions

    def _write(self, holds: tuple[Hold, ...], now_ns: int, *, leader: str | None) -> list[ReplicaAction]:
        header = LeaseHeader(
            prefix=self.settings.prefix,
            leader=leader,
            instance=self.settings.instance,
            term=self.term,
            sequence=self.view.newest_age[1] + 1,
            lease_ns=self.settings.lease_ns,
            lineage=self._lineage,
        )
        made = entry(header, self.schedule.state.snapshot(now_ns))
        write = Write(ledger=made, revision=self.view.revision)
        self._pending = Pending(write=write, base=self.view.ledger, holds=holds, sent_at_ns=now_ns)
        self._heartbeat_at_ns = now_ns + self.settings.lease_ns // 3
        self._write_soon = False
        return [write]

    def _written(self, revision: int, now_ns: int) -> list[ReplicaAction]:
        pending = self._pending
        if pending is None:
            return []
        self._pending, self._is_unsettled, self._refusals = None, False, 0
        if self.schedule.is_slow(now_ns - pending.sent_at_ns):
            self.schedule.on_slow_commit(now_ns)
        self.view.record_own_write(pending.write.ledger, revision, now_ns)
        if pending.write.ledger.leader is None:
            self._step_down()
            return []
        self.lease_until_ns = pending.sent_at_ns + self.settings.lease_ns  # from before it was sent
        if self.role is Role.CANDIDATE:
            return self._lead_from_now(now_ns)
        in_time = now_ns <= self.lease_until_ns
        return self._if_leading(self.schedule.on_committed(pending.holds, now_ns, in_time=in_time), now_ns)

    def _settle(self, pending: Pending, event: words.LedgerRead, now_ns: int) -> list[ReplicaAction]:
        """The outcome of a write was unknown: it is there, or it is written again, or another replica has written."""
        self._is_unsettled = False
        if pending.has_landed(event):
            if now_ns <= pending.sent_at_ns + self.settings.lease_ns:
                return self._written(event.revision, now_ns)
            may_lead = pending.write.ledger.leader is not None and not self._stopping
            if may_lead and pending.is_where_it_was_made(event):
                return self._write_on(pending, event.revision, now_ns)
        elif pending.may_be_written_again(event):  # or the first one lands after all: after that read, in any case
            self._pending = replace(pending, sent_at_ns=self._looked_at_ns)
            return [pending.write]
        self._step_down()
        return self._observe_ledger(event.ledger, event.revision, now_ns)

    def _back_off_ns(self) -> int:
        """How long to wait before the read after which the same bytes are written again: longer each time."""
        max_ns = min(self.settings.lease_ns // 3, REFUSED_MAX_NS)
        pause_ns = min(max_ns, RETRY_NS << min(self._refusals, 8))
        self._refusals += 1
        return pause_ns

    def _write_on(self, pending: Pending, revision: int, now_ns: int) -> list[ReplicaAction]:
        """Our write is there with nothing after it, and our lease is over: the next write decides who leads."""
        if self._is_traffic_lost:  # a replica that receives the shards' requests may be quicker
            self._is_unsettled, self._read_at_ns = True, now_ns + RETRY_NS
            return []
        self.view.record_own_write(pending.write.ledger, revision, now_ns)
        for hold in pending.holds:
            self.schedule.state.start_hold(hold, now_ns)
        return self._write(pending.holds, now_ns, leader=self.settings.name)

    def _step_down(self) -> None:
        self.schedule.step_down(self._pending.holds if self._pending else ())
        self.role, self._pending, self._is_unsettled, self.lease_until_ns = Role.STANDBY, None, False, 0

    def _limits_fetched(self, event: model.LimitsFetched, now_ns: int) -> list[ReplicaAction]:
        if self.role is not Role.LEADER or not self._limits_policy.believes(self.term, now_ns):
            return []
        self._write_soon = True
        return self._if_leading(self.schedule.handle(event, now_ns), now_ns)

    def _if_leading(self, actions: list[model.ScheduleAction], now_ns: int) -> list[ReplicaAction]:
        """Return the actions if this replica leads within its lease; else none."""
        if self.is_leading(now_ns):
            return list(actions)
        if any(isinstance(action, FetchLimits) for action in actions):
            self._limits_policy.due_at_ns = now_ns  # the next leader fetches
        return []

    def is_leading(self, now_ns: int) -> bool:
        """Return whether this replica leads, within its lease, by its own clock."""
        return self.role is Role.LEADER and now_ns <= self.lease_until_ns

    def _deaf_at_ns(self) -> int:
        return (self._heard_at_ns or 0) + self.settings.lease_ns + 1


GRANT_ID_SECRET_BYTES = 10
"""80 random bits in each grant id: a requester cannot derive another's id from its own, and so cannot confirm it."""


def _names(instance: str, key: bytes) -> Callable[[], str]:
    """Return a function that makes grant ids: a number for people, and a part that needs the key to compute."""
    numbers = count(1)

    def name() -> str:
        number = next(numbers)
        secret = blake2b(f"{instance}-{number}".encode(), key=key, digest_size=GRANT_ID_SECRET_BYTES)
        return f"{number}-{secret.hexdigest()}"

    return name
