"""Logs one trouble with the ledger at once, then each 30 s, and once when it is over. It repairs nothing."""

from coordinator.edge.log import Log
from nats_identify import trouble
from nats_identify.clock import NS_PER_S, Clock
from nats_identify.printable import printable


class Trouble:
    """The reason why one task of the coordinator fails.

    Args:
        what: what cannot be done, for the log and /readyz.
        over: the log line for its end.
        clock: the replica's time.
        log: for the trouble, its reason, and what to do.

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
        self._lines = trouble.Trouble()

    @property
    def lasts_s(self) -> float:
        """How long it has lasted, in seconds; 0 where there is none."""
        return 0.0 if self._since_ns is None else (self._clock() - self._since_ns) / NS_PER_S

    def met(self, error: str, do: str, *, since_ns: int | None = None) -> None:
        """It was met just now: ``error`` in the server's words, what to ``do``, and since when if not since now."""
        now_ns = self._clock()
        self._since_ns = self._since_ns or since_ns or now_ns
        self.reason = f"{self._what}: {printable(error)}; {do}"
        if self._lines.note(now_ns) is not None:
            self._log.error(self._what, error=error, do=do, lasts_s=round(self.lasts_s, 1))

    def ended(self) -> None:
        """What could not be done has been done."""
        if self._lines.over(self._clock()) is not None:
            self._log.warning(self._over, after_s=round(self.lasts_s, 1))
        self.reason = self._since_ns = None
