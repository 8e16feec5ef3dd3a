"""When to ask Discord for its figures, and which answer to believe. It neither asks nor keeps the figures.

An answer counts only for a leader that has led, in one term, since before it asked; and, after a blind
takeover, only if it was asked for when every grant that nobody here knows of must have been used or lapsed.
"""

from nats_identify.schedule.model import SECOND

FIGURE_EVERY_NS = 300 * SECOND
"""Discord's figure is corrected so often; `GET /gateway/bot` is not to be cached for long."""

SOON_NS = 30 * SECOND
"""And so often where little of the day is left, or nothing: higher limits are then news that shards wait for."""


class LimitsPolicy:
    """One replica's dealings with Discord's figures.

    Attributes:
        due_at_ns: when to ask next; None while there is nobody to ask or to tell.
    """

    def __init__(self) -> None:
        self.due_at_ns: int | None = None
        self._believed_from_ns = 0
        self._latest_ns = 0  # when it was last wanted, or came
        self._asked: tuple[int, int] | None = None  # in which term, and when

    def become_leader(self, now_ns: int, wait_ns: int) -> None:
        """A lead begins: what is asked for within ``wait_ns`` may miss what an unknown leader granted."""
        self._believed_from_ns = self.due_at_ns = now_ns + wait_ns

    def fetch_started(self, term: int, now_ns: int) -> None:
        """Discord is being asked from now on."""
        self._asked = (term, now_ns)

    def is_due(self, now_ns: int, *, is_low: bool) -> bool:
        """Whether to ask now; then the next time is an interval away, a short one if little of the day is left."""
        if self.due_at_ns is None:
            return False
        if is_low:
            self.due_at_ns = min(self.due_at_ns, max(self._latest_ns + SOON_NS, self._believed_from_ns))
        if now_ns < self.due_at_ns:
            return False
        self._latest_ns, self.due_at_ns = now_ns, now_ns + FIGURE_EVERY_NS
        return True

    def believes(self, term: int, now_ns: int) -> bool:
        """Whether the answer that has just come counts for the leader of this term."""
        asked, self._asked = self._asked, None
        if asked is None or asked[0] != term:
            return False
        is_believed = asked[1] >= self._believed_from_ns
        self._latest_ns = now_ns
        self.due_at_ns = now_ns + FIGURE_EVERY_NS if is_believed else self._believed_from_ns
        return is_believed
