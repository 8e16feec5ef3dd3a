"""The ledger's content, and the events and actions between a replica and its edge. Nothing is stored here."""

from dataclasses import dataclass

from nats_identify.schedule.budget import StaticDay
from nats_identify.schedule.crash_loop import ShardHistory
from nats_identify.schedule.grants import HoldRecord
from nats_identify.schedule.model import Operator, ScheduleAction, ScheduleEvent
from nats_identify.schedule.pause import Paused
from nats_identify.schedule.plain import Replied
from nats_identify.schedule.state import Snapshot


@dataclass(frozen=True, slots=True)
class LeaseHeader:
    """The part of an entry that is the lease; `Ledger` explains the fields."""

    prefix: str
    leader: str | None
    instance: str
    term: int
    sequence: int
    lease_ns: int
    lineage: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """The leader, the rest of the day's budget, and the last grants of each bucket: all that a successor needs.

    Attributes:
        leader: the replica's name for people; None when there is no leader. ``instance``: random for each process.
        term: one higher for each leader. ``sequence``: one higher for each write.
        lineage: names the write that began it, where there was no ledger or an untrusted one. Within one lineage the
            age is enough to compare two copies; a copy from before a loss may be of any age.
        lease_ns: a standby that has seen no write for this time may take over.
        max_concurrency, total, remaining, reset_in_ns: today's limits; None where they are unknown. ``remaining`` is
            below zero where more was spent than the total of today allows.
        static_day: what is known of a day of static limits, as ages: ``total`` and ``remaining`` are settings then.
            None: they are Discord's.
        crash_loops: what was granted lately to shards that may loop, as ages.
        full_hold_ns: how long a grant of its leader may matter; None in the ledger of a leader that did not write it.
        replied: plain requests that have had their reply, and for how long to know it; None: as above.
        margin_ns: the margin as tuned; None in the ledger of a leader that did not write it.
        paused: an operator's pause, with what is left of it; None: there is none.
    """

    prefix: str
    leader: str | None
    instance: str
    term: int
    sequence: int
    lease_ns: int
    max_concurrency: int | None = None
    total: int | None = None
    remaining: int | None = None
    reset_in_ns: int | None = None
    grants: tuple[HoldRecord, ...] = ()
    lineage: str = ""
    crash_loops: tuple[ShardHistory, ...] = ()
    margin_ns: int | None = None
    static_day: StaticDay | None = None
    full_hold_ns: int | None = None
    replied: tuple[Replied, ...] | None = None
    paused: Paused | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The leader's state in this entry."""
        return Snapshot(
            max_concurrency=self.max_concurrency,
            total=self.total,
            remaining=self.remaining,
            reset_in_ns=self.reset_in_ns,
            grants=self.grants,
            crash_loops=self.crash_loops,
            margin_ns=self.margin_ns,
            static_day=self.static_day,
            full_hold_ns=self.full_hold_ns,
            replied=self.replied,
            paused=self.paused,
        )

    @property
    def age(self) -> tuple[int, int]:
        """The order of ledgers, whatever their revisions: a restored copy may come back at a higher one."""
        return (self.term, self.sequence)


def entry(header: LeaseHeader, snapshot: Snapshot) -> Ledger:
    """Return the ledger entry of this header and this state."""
    return Ledger(
        prefix=header.prefix,
        leader=header.leader,
        instance=header.instance,
        term=header.term,
        sequence=header.sequence,
        lease_ns=header.lease_ns,
        lineage=header.lineage,
        max_concurrency=snapshot.max_concurrency,
        total=snapshot.total,
        remaining=snapshot.remaining,
        reset_in_ns=snapshot.reset_in_ns,
        grants=snapshot.grants,
        crash_loops=snapshot.crash_loops,
        margin_ns=snapshot.margin_ns,
        static_day=snapshot.static_day,
        full_hold_ns=snapshot.full_hold_ns,
        replied=snapshot.replied,
        paused=snapshot.paused,
    )


def full_hold_ns_of(ledger: Ledger, confirmed_hold_ns: int) -> int:
    """How long any grant of this entry may matter; ``confirmed_hold_ns`` is window and margin."""
    holds_ns = [max(record.hold_ns, record.grant.use_within_ns + confirmed_hold_ns) for record in ledger.grants]
    return max(holds_ns, default=0) if ledger.full_hold_ns is None else max(ledger.full_hold_ns, *holds_ns, 0)


# --- events of the edge


@dataclass(frozen=True, slots=True)
class LedgerRead:
    """The answer to `Read`, from the stream's leader.

    ``ledger`` is None where there is none; ``never_written``: there has never been one. ``written_on`` is
    the revision that it was written on by compare-and-set, as the stream has kept it: a copy that was restored by hand
    has none.
    """

    ledger: Ledger | None
    revision: int
    never_written: bool = False
    written_on: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerUnreadable:
    """`Read` got no answer in time."""


@dataclass(frozen=True, slots=True)
class LedgerSeen:
    """The watch delivered this: a hint, perhaps late."""

    ledger: Ledger
    revision: int


@dataclass(frozen=True, slots=True)
class Written:
    """The last `Write` was accepted, and is the newest there is."""

    revision: int


@dataclass(frozen=True, slots=True)
class WriteUnsettled:
    """The last `Write` was refused, or its outcome is unknown: both are settled by reading.

    ``is_refused``: the server will not store it as things are (a limit, a full disk). Until an operator changes
    that, each write is refused, so it is repeated after a pause. A revision that was not the newest is no such refusal.
    """

    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class TrafficReceived:
    """The connection that carries the requests has just carried a message of ours."""


@dataclass(frozen=True, slots=True)
class TrafficReturned:
    """The connection that carries the requests was lost, and is there again; others may still be coming back."""


@dataclass(frozen=True, slots=True)
class Handover:
    """An operator has the leader give the lead up."""

    operator: Operator


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop: make no further grant, and release the lock."""


ReplicaEvent = (
    ScheduleEvent
    | LedgerRead
    | LedgerUnreadable
    | LedgerSeen
    | Written
    | WriteUnsettled
    | TrafficReceived
    | TrafficReturned
    | Handover
    | Stop
)

# --- actions for the edge


@dataclass(frozen=True, slots=True)
class Read:
    """Read the ledger from the stream's leader."""


@dataclass(frozen=True, slots=True)
class Write:
    """Write the ledger by compare-and-set on ``revision``. One at a time."""

    ledger: Ledger
    revision: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """No write is pending and the lock is released: the process may end."""


ReplicaAction = ScheduleAction | Read | Write | Stopped
