"""Says one trouble with the ledger at once, then seldom, and once when it is over. It mends nothing."""

from typing import Final

from coordinator.edge.log import Log
from nats_identify.clock import NS_PER_S, Clock
from nats_identify.printable import printable

SAY_EVERY_NS: Final = 30 * NS_PER_S
"""A trouble that stays is logged so often."""


class Trouble:
    """What stands in the way of one thing that the coordinator must do.

    Args:
        what: what cannot be done, for the log and /readyz.
        over: the log line for its end.
        clock: the replica's time.
        log: told of the trouble, its reason, and what to do.

    Attributes:
        reason: why it cannot be done and what to do, or None where it can.
    """

    def __init__(self, what: str, over: str, clock: Clock, log: Log) -> None:
        self.reason: str | None = None
        self._what = what
        self._over = over
        self._clock = clock
        self._log = log
        self._since_ns: int | None = None
        self._said_at_ns: int | None = None
        self._has_been_said = False

    @property
    def lasts_s(self) -> float:
        """How long it has lasted, in seconds; 0 where there is none."""
        return 0.0 if self._since_ns is None else (self._clock() - self._since_ns) / NS_PER_S

    def met(self, error: str, do: str, *, since_ns: int | None = None) -> None:
        """It was met just now: ``error`` in the server's words, what to ``do``, and since when if not since now."""
        now_ns = self._clock()
        self._since_ns = self._since_ns or since_ns or now_ns
        self.reason = f"{self._what}: {printable(error)}; {do}"
        if self._said_at_ns is None or now_ns - self._said_at_ns >= SAY_EVERY_NS:
            self._said_at_ns, self._has_been_said = now_ns, True
            self._log.error(self._what, error=error, do=do, lasts_s=round(self.lasts_s, 1))

    def ended(self) -> None:
        """What could not be done has been done."""
        if self._since_ns is not None and self._has_been_said:
            self._log.warning(self._over, after_s=round(self.lasts_s, 1))
        self.reason = self._since_ns = None
        self._has_been_said = False
