"""Decide when to look for coordinators after NATS has reported that none is connected. It neither sends nor waits.

Unanswered requests back off to a minute. One small message of the whole process to `info`, every second or two, finds
a coordinator that is connected again, and then all requests of the process renew. Meanwhile it costs NATS one message
for each process, and coordinators nothing.
"""

from collections.abc import Callable

from nats_identify.clock import NS_PER_S

PROBE_NS = 2 * NS_PER_S
"""The longest pause between two probes; each is half of it at the least, so that a fleet does not probe in step.

A coordinator that has just started grants nothing for a full hold, 10.2 s by default. The shards are back before.
"""

PROBE_MAX_NS = 60 * NS_PER_S
"""The pause doubles up to this while probes are answered and requests are not."""


class Absence:
    """Whether NATS reports that no coordinator is connected, and when to probe.

    Args:
        jitter: a random number from 0 to 1 at each call.

    Attributes:
        probe_at_ns: when the next probe is sent, None while none is needed.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.probe_at_ns: int | None = None
        self._jitter = jitter
        self._pause_ns = PROBE_NS

    def no_responders(self, now_ns: int) -> None:
        """NATS replied 503 to a request or a probe."""
        if self.probe_at_ns is None:
            self._schedule(now_ns)

    def is_due(self, now_ns: int) -> bool:
        """Whether to send a probe now; the next one is scheduled."""
        if self.probe_at_ns is None or now_ns < self.probe_at_ns:
            return False
        self._schedule(now_ns)
        return True

    def probe_answered(self) -> bool:
        """A coordinator replied to a probe; return whether that ends an absence: all requests renew."""
        if self.probe_at_ns is None:
            return False
        self.probe_at_ns = None
        self._pause_ns = min(2 * self._pause_ns, PROBE_MAX_NS)
        return True

    def request_answered(self) -> bool:
        """A coordinator replied to a request; return whether that ends an absence: all requests renew."""
        is_over, self.probe_at_ns = self.probe_at_ns is not None, None
        self._pause_ns = PROBE_NS
        return is_over

    def _schedule(self, now_ns: int) -> None:
        self.probe_at_ns = now_ns + self._pause_ns // 2 + int(self._pause_ns // 2 * self._jitter())
