"""One coordinator: standby, candidate or leader, behind one `handle`. It never waits, sends, logs or reads a clock.

The order of the actions is a contract: what a successor must know is written before the reply that it
concerns is returned. One write is in flight at a time; all that falls due meanwhile goes into the next.

What changes is in three values, each with its table: the role (here), the write (`write_state`) and the read
(`read_state`).
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from hashlib import blake2b
from itertools import count
from typing import Final

from coordinator.core.handover_policy import HandoverPolicy
from coordinator.core.ledger import (
    Handover,
    LeaseHeader,
    Ledger,
    LedgerRead,
    LedgerSeen,
    LedgerUnreadable,
    Read,
    ReplicaAction,
    ReplicaEvent,
    Stop,
    Stopped,
    TrafficReceived,
    TrafficReturned,
    Write,
    WriteUnsettled,
    Written,
    entry,
    full_hold_ns_of,
)
from coordinator.core.ledger_view import LedgerView
from coordinator.core.limits_policy import LimitsPolicy
from coordinator.core.read_state import RETRY_NS, ReadDue, Reading, ReadState
from coordinator.core.settings import Settings, new_schedule
from coordinator.core.write_state import Idle, InFlight, Pending, WriteState, refused_pause_ns
from nats_identify.schedule import commands, model
from nats_identify.schedule.grants import GlobalHold, Hold
from nats_identify.schedule.model import MS, Code, CommandReply, Event, FetchLimits


class Role(Enum):
    """The role of a replica; `ROLE_CHANGES` has the transitions."""

    STANDBY = "standby"
    CANDIDATE = "candidate"  # the write that takes over has no outcome yet
    LEADER = "leader"
    LEAVING = "leaving"  # it was stopped: it releases the lock if it has it, and takes over no more


ROLE_CHANGES: Final = {
    Role.STANDBY: frozenset({Role.CANDIDATE, Role.LEAVING}),
    Role.CANDIDATE: frozenset({Role.LEADER, Role.STANDBY, Role.LEAVING}),
    Role.LEADER: frozenset({Role.STANDBY, Role.LEAVING}),
    Role.LEAVING: frozenset[Role](),
}


class Replica:
    """Lease, ledger and schedule as one state machine.

    Attributes:
        role: see `Role`. ``term``: of its last takeover.
        lease_until_ns: the end of its lease, by its own clock; 0 where it does not have the lock.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.role = Role.STANDBY
        self.term = 0
        self.lease_until_ns = 0
        self.schedule = new_schedule(settings, _names(settings.instance, settings.grant_key))
        self.schedule.state.become_standby()
        self.view = LedgerView(settings.lease_ns, settings.timing.full_hold_ns)
        self._write_state: WriteState = Idle()
        self._read_state: ReadState = ReadDue()
        self._traffic_at_ns: int | None = None
        self._is_traffic_lost = True
        self._global_hold: GlobalHold | None = None
        self._lineage = ""
        self._handover = HandoverPolicy(settings.lease_ns)
        self._limits_policy = LimitsPolicy(is_static=settings.static is not None)

    def handle(self, event: ReplicaEvent, now_ns: int) -> list[ReplicaAction]:
        """Apply one event, then do all that is due; return what to do, calls and replies in this order."""
        if isinstance(event, model.RequestReceived):  # nearly always, and each case of `_apply` takes its time
            actions = self._schedule(event, now_ns)
        else:
            actions = self._apply(event, now_ns)
        actions += self._advance(now_ns)
        return actions

    def _apply(self, event: ReplicaEvent, now_ns: int) -> list[ReplicaAction]:
        actions: list[ReplicaAction] = []
        match event:
            case LedgerRead():
                self._remember(event.ledger, now_ns)
                actions += self._read(event, now_ns)
            case LedgerUnreadable():
                self._read_state = ReadDue(now_ns + RETRY_NS, is_retry=True)
            case LedgerSeen(ledger, revision):
                self._remember(ledger, now_ns)
                is_news = revision > self.view.revision and ledger.instance != self.settings.instance
                if is_news and isinstance(self._write_state, Idle):  # else the write fails, which leads to a read
                    actions += self._observe_ledger(ledger, revision, now_ns)
            case Written(revision):
                actions += self._written(revision, now_ns)
            case WriteUnsettled(is_refused):
                self._unsettle(now_ns, is_refused=is_refused)
            case TrafficReceived():
                self._traffic_at_ns = now_ns
            case TrafficReturned():
                self.schedule.on_reconnected(now_ns)
            case Handover() | Stop():
                actions += self._give_up_lead(event, now_ns)
            case model.LimitsFetchStarted():
                self._limits_policy.fetch_started(self.term, now_ns)
                actions += self._schedule(event, now_ns)
            case model.LimitsFetched():
                actions += self._limits_fetched(event, now_ns)
            case _:
                return self._schedule(event, now_ns)
        return actions

    def _schedule(self, event: model.ScheduleEvent, now_ns: int) -> list[ReplicaAction]:
        self.schedule.state.set_within_lease(is_within_lease=self.is_leading(now_ns))
        return self._if_leading(self.schedule.handle(event, now_ns), now_ns)

    def next_deadline_ns(self) -> int | None:
        """When `handle` wants a `Wake` at the latest."""
        deadlines = [self.schedule.next_deadline_ns()]
        write_state = self._write_state
        if isinstance(write_state, Idle) and self.is_leader:
            deadlines += [write_state.next_at_ns, self._limits_policy.due_at_ns, self._traffic_lost_at_ns()]
        elif not isinstance(write_state, InFlight):
            deadlines.append(self._read_at_ns())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def is_leader(self) -> bool:
        """Whether it has the lock by its last commit. Its lease may be over: see `is_leading`."""
        return self.lease_until_ns != 0

    def is_leading(self, now_ns: int) -> bool:
        """Return whether this replica leads, within its lease, by its own clock."""
        return self.is_leader and now_ns <= self.lease_until_ns

    def _become(self, role: Role) -> None:
        """Change the role; one that leaves keeps this role to its end."""
        if self.role is Role.LEAVING:
            return
        if role not in ROLE_CHANGES[self.role]:
            text = f"a {self.role.value} cannot become {role.value}"
            raise AssertionError(text)
        self.role = role

    def _advance(self, now_ns: int) -> list[ReplicaAction]:
        """Do what is due in the current role."""
        traffic_at_ns = self._traffic_at_ns
        self._is_traffic_lost = traffic_at_ns is None or now_ns - traffic_at_ns > self.settings.lease_ns
        if isinstance(self._write_state, InFlight):
            return []
        if isinstance(self._write_state, Idle):
            if self.is_leader:
                return self._lead(now_ns)
            if self.role is Role.LEAVING:
                return [Stopped()]
        read_at_ns = self._read_at_ns()
        return self._start_read(now_ns) if read_at_ns is not None and now_ns >= read_at_ns else []

    def _traffic_lost_at_ns(self) -> int:
        return (self._traffic_at_ns or 0) + self.settings.lease_ns + 1

    # --- the read

    def _read_at_ns(self) -> int | None:
        """When to read the ledger: when that is due, or sooner to contest the lock; None while a read is under way."""
        read_state = self._read_state
        if isinstance(read_state, Reading):
            return None
        if self._may_contest and not read_state.is_retry:
            return min(read_state.at_ns, self._contest_at_ns())
        return read_state.at_ns

    def _contest_at_ns(self) -> int:
        """When the lock may be contested: the lease is over, and so is the time for which this replica handed over."""
        return max(self.view.lease_expires_at_ns(), self._handover.contests_at_ns)

    @property
    def _may_contest(self) -> bool:
        follows = isinstance(self._write_state, Idle) and not self.is_leader  # one that leaves has stopped by then
        return follows and self.view.is_known and not self._is_traffic_lost

    def _start_read(self, now_ns: int) -> list[ReplicaAction]:
        if isinstance(self._read_state, Reading):
            return []
        self._read_state = Reading(started_at_ns=now_ns, next_at_ns=now_ns + self.settings.lease_ns // 3)
        return [Read()]

    def _read(self, read: LedgerRead, now_ns: int) -> list[ReplicaAction]:
        reading, write_state = self._read_state, self._write_state
        if not isinstance(reading, Reading):
            return []
        self._read_state = ReadDue(reading.next_at_ns)
        if isinstance(write_state, Pending):  # it is unsettled: with a write in flight no read is begun
            return self._settle(write_state, read, reading.started_at_ns, now_ns)
        if self.view.is_overtaken(read.revision, reading.started_at_ns):
            self._read_state = ReadDue(now_ns)
            return []
        actions = self._observe_ledger(read.ledger, read.revision, now_ns, is_put_back=read.written_on is None)
        is_free = self.role is Role.STANDBY and now_ns >= self._contest_at_ns()
        if self._is_traffic_lost or not is_free:
            return actions
        return actions + self._take_over(now_ns, is_first=read.never_written and self._may_be_first)

    # --- standby

    def _remember(self, ledger: Ledger | None, now_ns: int) -> None:
        """Keep what counts of any ledger, adopted or not: how long a grant may matter, and its ``replied``."""
        if ledger is not None:
            hold_ns = full_hold_ns_of(ledger, self.schedule.state.timing.confirmed_hold_ns)
            self.view.note_hold(hold_ns)
            self.schedule.state.mark_replied(ledger.replied or (), now_ns)

    def _observe_ledger(
        self, ledger: Ledger | None, revision: int, now_ns: int, *, is_put_back: bool = False
    ) -> list[ReplicaAction]:
        """Take over the leader's state; an older copy is not adopted and makes the ledger untrusted."""
        is_newer = self.view.observe(ledger, revision, now_ns, is_put_back=is_put_back)
        if self.is_leader:
            self._step_down()
        if ledger is not None and ledger.leader is not None:
            self._handover.see_leader()
        if ledger is not None and self.view.has_regressed:  # its grants are not adopted; their requesters had a reply
            self.schedule.state.mark_plain_replied(ledger.grants, now_ns)
        if ledger is not None and is_newer:
            self.schedule.restore(ledger.snapshot, now_ns)
        return []

    @property
    def _may_be_first(self) -> bool:
        return self.settings.fresh_start and self.view.newest_age == (0, 0)

    def _take_over(self, now_ns: int, *, is_first: bool) -> list[ReplicaAction]:
        """Contest the lock: the same write deposes the old leader and proves that we hold the latest state."""
        self._become(Role.CANDIDATE)
        self.term = self.view.newest_age[0] + 1
        is_known = self.view.is_trusted or is_first
        if not is_known:
            self.view.note_hold(self.schedule.state.timing.full_hold_ns)
        self._global_hold = self.schedule.take_over(
            self.settings.static,
            now_ns,
            unknown_hold_ns=None if is_known else self.view.longest_hold_ns,
            lost_since_ns=self.view.newest_at_ns if self.view.has_regressed else None,
        )
        self._lineage = self._global_hold.grant_id if self._global_hold else self.view.lineage or self.settings.instance
        self._limits_policy.take_over(knows_limits=is_first or self.schedule.state.knows_limits)
        return self._write((), now_ns, leader=self.settings.name)

    def _lead_from_now(self, now_ns: int) -> list[ReplicaAction]:
        self._become(Role.LEADER)
        self._handover.become_leader(now_ns)
        hold_ns = self.view.longest_hold_ns
        if self._global_hold is not None:
            self.schedule.state.set_global_hold(self._global_hold, now_ns + hold_ns)
        self._limits_policy.become_leader(now_ns, hold_ns)
        self.schedule.become_leader(now_ns)
        fields: model.Fields = {"leader": self.settings.name, "instance": self.settings.instance, "term": self.term}
        if self._global_hold is not None:
            fields["holds_everything_ms"] = hold_ns // MS
        return self._if_leading([Event("leader", fields)], now_ns)

    # --- leader

    def _lead(self, now_ns: int) -> list[ReplicaAction]:
        if now_ns > self.lease_until_ns:  # paused: others may have led, and a restore may have undone their writes
            self._step_down()
            return self._start_read(now_ns)
        if self.role is Role.LEAVING or self._is_traffic_lost:
            return self._write((), now_ns, leader=None)
        if self._handover.is_under_way:
            self._handover.give_up(now_ns)
            self.schedule.take_unsent(now_ns)
            return self._write((), now_ns, leader=None)
        grants, said = self.schedule.grant_due(now_ns)
        actions = self._if_leading(said, now_ns) if said else []
        if self._limits_policy.is_due(now_ns, is_low=self.schedule.state.is_low_on_starts):
            actions.append(FetchLimits("its turn has come"))
        if grants or self.schedule.has_unsent or now_ns >= self._write_state.next_at_ns:
            actions += self._write(tuple(grants), now_ns, leader=self.settings.name)
        return actions

    def _write(self, holds: tuple[Hold, ...], now_ns: int, *, leader: str | None) -> list[ReplicaAction]:
        """Write an entry. A hold that is over is not in it: the request of a plain one is in ``replied`` by then."""
        actions = self._if_leading(self.schedule.fire_due_timers(now_ns), now_ns)
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
        self._write_state = InFlight(
            write=write,
            base=self.view.ledger,
            holds=holds,
            sent_at_ns=now_ns,
            next_at_ns=now_ns + self.settings.lease_ns // 3,
            refusals=self._write_state.refusals,
        )
        return [*actions, write]

    def _written(self, revision: int, now_ns: int) -> list[ReplicaAction]:
        pending = self._write_state
        if not isinstance(pending, Pending):
            return []
        self._write_state = Idle(next_at_ns=pending.next_at_ns)
        self.schedule.note_commit_time(now_ns - pending.sent_at_ns, now_ns)
        self.view.record_own_write(pending.write.ledger, revision, now_ns)
        if pending.write.ledger.leader is None:
            said = self._if_leading(self.schedule.on_committed((), now_ns), now_ns)
            self._step_down()
            return said
        is_first = not self.is_leader
        self.lease_until_ns = pending.sent_at_ns + self.settings.lease_ns  # from before it was sent
        if is_first:
            return self._lead_from_now(now_ns)
        in_time = now_ns <= self.lease_until_ns
        return self._if_leading(self.schedule.on_committed(pending.holds, now_ns, in_time=in_time), now_ns)

    def _unsettle(self, now_ns: int, *, is_refused: bool) -> None:
        """It is unknown whether the write was done: read, after a pause where it was refused."""
        pending = self._write_state
        if not isinstance(pending, Pending):
            return
        self._write_state = pending.unsettled(is_refused=is_refused)
        pause_ns = refused_pause_ns(pending.refusals, self.settings.lease_ns) if is_refused else 0
        self._read_state = ReadDue(now_ns + pause_ns)
        self.schedule.on_commit_unknown(now_ns)

    def _settle(self, pending: Pending, read: LedgerRead, read_from_ns: int, now_ns: int) -> list[ReplicaAction]:
        """Settle a write of unknown outcome: it was done, or it is written again, or another replica has written."""
        if pending.has_landed(read):
            if now_ns <= pending.sent_at_ns + self.settings.lease_ns:
                return self._written(read.revision, now_ns)
            may_lead = pending.write.ledger.leader is not None and self.role is not Role.LEAVING
            if may_lead and pending.is_where_it_was_made(read):
                return self._write_on(pending, read.revision, now_ns)
        elif pending.may_be_written_again(read):  # the first write may still land, but only after this read
            self._write_state = pending.sent_again(read_from_ns)
            return [pending.write]
        self._step_down()
        return self._observe_ledger(read.ledger, read.revision, now_ns)

    def _write_on(self, pending: Pending, revision: int, now_ns: int) -> list[ReplicaAction]:
        """Our write is there with nothing after it, and our lease is over: the next write decides who leads."""
        if self._is_traffic_lost:  # a replica that receives the shards' requests may be quicker
            self._read_state = ReadDue(now_ns + RETRY_NS)
            return []
        self.view.record_own_write(pending.write.ledger, revision, now_ns)
        for hold in pending.holds:
            self.schedule.state.start_hold(hold, now_ns)
        return self._write(pending.holds, now_ns, leader=self.settings.name)

    def _step_down(self) -> None:
        pending = self._write_state
        self.schedule.step_down(pending.holds if isinstance(pending, Pending) else ())
        self._write_state = Idle(refusals=pending.refusals)
        self._handover.step_down()
        self.lease_until_ns = 0
        self._become(Role.STANDBY)

    def _give_up_lead(self, event: Handover | Stop, now_ns: int) -> list[ReplicaAction]:
        """Give the lead up with the next write; the reply to an operator leaves when that is committed."""
        if isinstance(event, Stop):
            self._become(Role.LEAVING)
            return []
        state, name, reply_to = self.schedule.state, self.settings.name, event.operator.reply_to
        if not self.is_leading(now_ns):
            return []
        if self._handover.is_under_way:
            text = f"{name} gives the lead up already, by another command; see the status for who leads then"
            return [CommandReply(reply_to, "handover", text, Code.OVERLOADED)]
        if self._handover.is_too_early(now_ns):
            text = f"{name} has just taken the lead; to have it hand over too, give the command again in some seconds"
            return [CommandReply(reply_to, "handover", text, Code.OVERLOADED)]
        if state.unsent.is_full:
            return [CommandReply(reply_to, "handover", commands.TOO_MANY_UNSENT, Code.OVERLOADED)]
        self._handover.begin()
        fields: model.Fields = {"leader": name, "term": self.term, "by": event.operator.by, "why": event.operator.why}
        text = f"{name} has given the lead up; another replica takes over at once, if there is one"
        state.keep_reply([Event("handover", fields), CommandReply(reply_to, "handover", text)])
        return []

    def _limits_fetched(self, event: model.LimitsFetched, now_ns: int) -> list[ReplicaAction]:
        if not self.is_leader or not self._limits_policy.believes(self.term, now_ns):
            return []
        self._write_state = replace(self._write_state, next_at_ns=now_ns)  # a standby receives it before the heartbeat
        return self._if_leading(self.schedule.handle(event, now_ns), now_ns)

    def _if_leading(self, actions: list[model.ScheduleAction], now_ns: int) -> list[ReplicaAction]:
        """Return the actions if this replica leads within its lease; else none."""
        if self.is_leading(now_ns):
            return list(actions)
        if any(isinstance(action, FetchLimits) for action in actions):
            self._limits_policy.fetch_soon(now_ns)  # it fetches if it comes to lead
        return []


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
