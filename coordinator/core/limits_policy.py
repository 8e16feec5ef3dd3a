"""When to fetch Discord's limits, and which response to accept. Nothing is fetched or kept here.

A response counts only for a leader that has led, in one term, since before the fetch; and, after a takeover
without a trusted ledger, only if the fetch began when every unknown grant must have been used or lapsed.
"""

from nats_identify.schedule.model import SECOND

FIGURE_EVERY_NS = 300 * SECOND
"""The time between two fetches; `GET /gateway/bot` is not to be cached for long."""

SOON_NS = 30 * SECOND
"""The time where little or nothing of the day is left: shards then wait for higher limits."""


class LimitsPolicy:
    """When one replica fetches Discord's limits.

    Args:
        is_static: the limits are settings: nothing is fetched.

    Attributes:
        due_at_ns: when to fetch next; None: no fetch is due.
    """

    def __init__(self, *, is_static: bool = False) -> None:
        self._is_static = is_static
        self.due_at_ns: int | None = None
        self._believed_from_ns = 0
        self._latest_ns = 0  # when it was last due, or received
        self._asked: tuple[int, int] | None = None  # in which term, and when
        self._knew_limits = True  # at the last takeover

    def take_over(self, *, knows_limits: bool) -> None:
        """Contest the lock; ``knows_limits``: no unknown leader's grants are missing from what is left of the day."""
        self._knew_limits = knows_limits

    def become_leader(self, now_ns: int, longest_hold_ns: int) -> None:
        """Become leader: until every unknown grant is over, a fetch may not show what an unknown leader granted.

        The wait of an earlier lead goes on: a ledger that began after it may know of none of those grants.
        """
        wait_ns = 0 if self._knew_limits else longest_hold_ns
        self._believed_from_ns = max(self._believed_from_ns, now_ns + wait_ns)
        self.due_at_ns = None if self._is_static else self._believed_from_ns

    def fetch_soon(self, now_ns: int) -> None:
        """A fetch was wanted outside of the lease: fetch at once if the next write renews it."""
        self.due_at_ns = None if self._is_static else now_ns

    def fetch_started(self, term: int, now_ns: int) -> None:
        """Record that a fetch starts now."""
        self._asked = (term, now_ns)

    def is_due(self, now_ns: int, *, is_low: bool) -> bool:
        """Whether to fetch now; then the next time is an interval away, a short one if little of the day is left."""
        if self.due_at_ns is None:
            return False
        if is_low:
            self.due_at_ns = min(self.due_at_ns, max(self._latest_ns + SOON_NS, self._believed_from_ns))
        if now_ns < self.due_at_ns:
            return False
        self._latest_ns, self.due_at_ns = now_ns, now_ns + FIGURE_EVERY_NS
        return True

    def believes(self, term: int, now_ns: int) -> bool:
        """Whether the response just received counts for the leader of this term."""
        asked, self._asked = self._asked, None
        if asked is None or asked[0] != term:
            return False
        is_believed = asked[1] >= self._believed_from_ns
        self._latest_ns = now_ns
        self.due_at_ns = now_ns + FIGURE_EVERY_NS if is_believed else self._believed_from_ns
        return is_believed
