"""A rate that is not exceeded: so much at once, so much a second. It never waits."""

from nats_identify.clock import NS_PER_S, Clock


class Allowance:
    """A token bucket.

    Args:
        per_second: what is allowed each second in the long run.
        at_once: what is allowed at once after a quiet time.
        clock: nanoseconds that only grow.
    """

    def __init__(self, per_second: int, at_once: int, clock: Clock) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._left = float(at_once)
        self._counted_at_ns = clock()

    def take(self) -> bool:
        """Take one, and return True; False where none is left."""
        now_ns = self._clock()
        gained = (now_ns - self._counted_at_ns) * self._per_second / NS_PER_S
        self._left, self._counted_at_ns = min(self._left + gained, float(self._at_once)), now_ns
        if self._left < 1:
            return False
        self._left -= 1
        return True
