"""The read of the ledger by one replica: under way, or when it is due. Nothing is read or decided here.

| state   | starts  | answered                          | not answered                     | a write is unsettled |
|---------|---------|-----------------------------------|----------------------------------|----------------------|
| ReadDue | Reading |                                   |                                  | ReadDue              |
| Reading |         | ReadDue, a third of a lease later | ReadDue, `RETRY_NS` from now     |                      |
"""

from dataclasses import dataclass

from nats_identify.schedule.model import MS

RETRY_NS = 250 * MS
"""The pause before an unanswered read is repeated: a ledger that comes back is read well within a second."""


@dataclass(frozen=True, slots=True)
class ReadDue:
    """No read is under way.

    Attributes:
        at_ns: when to read at the latest.
        is_retry: the last read had no answer: there is no read before ``at_ns``, not even where the lease is over.
    """

    at_ns: int = 0
    is_retry: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """A read is under way since ``started_at_ns``; after its answer the next one is due at ``next_at_ns``."""

    started_at_ns: int
    next_at_ns: int


ReadState = ReadDue | Reading
