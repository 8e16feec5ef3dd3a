"""A pause: which requests are not granted, and until when. Nothing is granted here, and no clock is read."""

from typing import NamedTuple


class Paused(NamedTuple):
    """The pause in force.

    Attributes:
        below_priority: requests of a lower priority are not granted; None: none is.
        ends_ns: when it ends by itself, by this clock; None: it does not. In the ledger it is what is left.
        by, why: of the operator, for people.
    """

    below_priority: int | None
    ends_ns: int | None
    by: str = ""
    why: str = ""

    def covers(self, priority: int) -> bool:
        """Whether a request of this priority is not granted."""
        return self.below_priority is None or priority < self.below_priority

    def with_time_left(self, now_ns: int) -> "Paused":
        """Return it as the ledger records it."""
        return self if self.ends_ns is None else self._replace(ends_ns=max(0, self.ends_ns - now_ns))

    def from_time_left(self, now_ns: int) -> "Paused":
        """Read it back: it counts from now, so that it never ends earlier than its leader's."""
        return self if self.ends_ns is None else self._replace(ends_ns=now_ns + self.ends_ns)
