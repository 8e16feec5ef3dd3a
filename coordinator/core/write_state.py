"""The write in flight, and its outcome by a later read. Nothing is written or decided here."""

from dataclasses import dataclass

from coordinator.core.ledger import Ledger, LedgerRead, Write
from nats_identify.schedule.grants import Hold


@dataclass(frozen=True, slots=True)
class Pending:
    """One write whose outcome is not known yet.

    Attributes:
        base: what it was made from.
        holds: the holds whose grants it commits.
        sent_at_ns: the lease counts from here.
    """

    write: Write
    base: Ledger | None
    holds: tuple[Hold, ...]
    sent_at_ns: int

    def has_landed(self, read: LedgerRead) -> bool:
        """Whether this write is what was read."""
        return _identity(read.ledger) == _identity(self.write.ledger)

    def is_where_it_was_made(self, read: LedgerRead) -> bool:
        """Whether it has landed and was never put back: the stream keeps what each entry was written on."""
        return self.has_landed(read) and read.written_on == self.write.revision

    def may_be_written_again(self, read: LedgerRead) -> bool:
        """Whether the ledger has not changed since the write was made."""
        return read.revision == self.write.revision and _identity(read.ledger) == _identity(self.base)


def _identity(ledger: Ledger | None) -> tuple[str, int, int] | None:
    return None if ledger is None else (ledger.instance, *ledger.age)
