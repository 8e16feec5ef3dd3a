"""The write of one replica: none, one in flight, or one whose outcome is unknown. Nothing is written or decided here.

| state     | sent     | accepted | refused, or no outcome | read: not done | read: done, too late | stepped down |
|-----------|----------|----------|------------------------|----------------|----------------------|--------------|
| Idle      | InFlight |          |                        |                |                      |              |
| InFlight  |          | Idle     | Unsettled              |                |                      | Idle         |
| Unsettled |          | Idle     | Unsettled              | InFlight       | InFlight             | Idle         |

No read is begun while a write is in flight. *Not done* sends the same entry again; *done, too late* sends the entry
after it, which decides who leads.
"""

from dataclasses import dataclass

from coordinator.core.ledger import Ledger, LedgerRead, Write
from coordinator.core.read_state import RETRY_NS
from nats_identify.schedule.grants import Hold
from nats_identify.schedule.model import SECOND

REFUSED_MAX_NS = SECOND
"""The longest pause before a refused write is repeated. A third of the lease, the interval of the heartbeat, is used
instead where that is shorter. The first pause is `RETRY_NS`, and each further one is twice as long: shards are granted
again within 2 s after the cause is removed."""


@dataclass(frozen=True, slots=True)
class Idle:
    """No write is under way.

    Attributes:
        next_at_ns: a leader writes then at the latest. ``refusals``: refused writes since one was last accepted.
    """

    next_at_ns: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """One write whose outcome is not known yet.

    Attributes:
        base: what it was made from.
        holds: the holds whose grants it commits.
        sent_at_ns: the lease counts from here.
        next_at_ns, refusals: as in `Idle`; the next write is after this one.
    """

    write: Write
    base: Ledger | None
    holds: tuple[Hold, ...]
    sent_at_ns: int
    next_at_ns: int
    refusals: int

    def has_landed(self, read: LedgerRead) -> bool:
        """Whether this write is what was read."""
        return _identity(read.ledger) == _identity(self.write.ledger)

    def is_where_it_was_made(self, read: LedgerRead) -> bool:
        """Whether it has landed and was never put back: the stream keeps what each entry was written on."""
        return self.has_landed(read) and read.written_on == self.write.revision

    def may_be_written_again(self, read: LedgerRead) -> bool:
        """Whether the ledger has not changed since the write was made."""
        return read.revision == self.write.revision and _identity(read.ledger) == _identity(self.base)

    def unsettled(self, *, is_refused: bool) -> "Unsettled":
        """The write was refused, or got no outcome in time."""
        return Unsettled(
            write=self.write,
            base=self.base,
            holds=self.holds,
            sent_at_ns=self.sent_at_ns,
            next_at_ns=self.next_at_ns,
            refusals=self.refusals + is_refused,
        )

    def sent_again(self, now_ns: int) -> "InFlight":
        """The same bytes once more; the lease counts from ``now_ns``."""
        return InFlight(
            write=self.write,
            base=self.base,
            holds=self.holds,
            sent_at_ns=now_ns,
            next_at_ns=self.next_at_ns,
            refusals=self.refusals,
        )


class InFlight(Pending):
    """The write was sent, and its outcome is awaited."""

    __slots__ = ()


class Unsettled(Pending):
    """It is unknown whether the write was done: the ledger is read."""

    __slots__ = ()


WriteState = Idle | InFlight | Unsettled


def refused_pause_ns(refusals: int, lease_ns: int) -> int:
    """How long to wait before the read after which the same bytes are written again: longer after each refusal."""
    return min(lease_ns // 3, REFUSED_MAX_NS, RETRY_NS << min(refusals, 8))


def _identity(ledger: Ledger | None) -> tuple[str, int, int] | None:
    return None if ledger is None else (ledger.instance, *ledger.age)
