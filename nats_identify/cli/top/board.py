"""What the screen knows: the last status, and what the events since then say. It draws nothing and asks no clock."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nats_identify.operator_wire import FullStatus

EVENTS_KEPT: Final = 100
GRANTS_KEPT: Final = 10_000
SHARDS_KEPT: Final = 100_000
"""Bounds of what events may fill: every client of the server may send one."""

LEFT_OUT: Final = frozenset({"queued", "cancelled"})
"""Events that are not listed, as on the page at first: a client in a loop would push out all others by them."""

RATE_OVER_S: Final = 60.0

GRANT_OPEN_S: Final = 75.0
"""A grant is taken as open for this long at most: the largest IDENTIFY_USE_WITHIN, 60 s, and some windows. A plain
requester confirms nothing, and a hold that runs out has no event."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, as it was received."""

    name: str
    fields: Mapping[str, Any]


class Board:
    """Keeps the figures of the screen.

    Args:
        now_s: of a monotonic clock, now.

    Attributes:
        status: the last answer of a coordinator; None: there was none.
        trouble: why the last question was not answered, for people; empty: it was.
        events: the last ones but those of `LEFT_OUT`, the newest last.
        identified, ready: shards of this start that have sent IDENTIFY, and that Discord has accepted.
    """

    def __init__(self, now_s: float) -> None:
        self.status: FullStatus | None = None
        self.trouble = ""
        self.events: deque[Happened] = deque(maxlen=EVENTS_KEPT)
        self.identified: set[int] = set()
        self.ready: set[int] = set()
        self._granted_at_s: dict[int, float] = {}
        self._grants_s: deque[float] = deque(maxlen=GRANTS_KEPT)
        self._began_s = now_s
        self._answered_s = now_s
        self._is_over = True

    def answered(self, status: FullStatus, now_s: float) -> None:
        """Take a status. A start is over when nothing waits and no grant is open."""
        self.status, self.trouble, self._answered_s = status, "", now_s
        is_open = any(now_s - at_s < GRANT_OPEN_S for at_s in self._granted_at_s.values())
        if status.waiting == 0 and not is_open:
            self._is_over = True

    def failed(self, trouble: str) -> None:
        """Take the reason why there was no status; the last one stays."""
        self.trouble = trouble

    def happened(self, name: str, fields: Mapping[str, Any], now_s: float) -> None:
        """Take an event."""
        if name not in LEFT_OUT:
            self.events.append(Happened(name, fields))
        if name == "granted":
            self._grants_s.append(now_s)
        shard_id = fields.get("shard_id")
        if type(shard_id) is not int:
            return
        if name in {"queued", "granted"} and self._is_over:
            self._is_over = False
            self.identified, self.ready, self._granted_at_s = set(), set(), {}
        match name:
            case "granted" if len(self._granted_at_s) < SHARDS_KEPT:
                self._granted_at_s[shard_id] = now_s
            case "identified" | "ready":
                self._granted_at_s.pop(shard_id, None)
                if len(self.identified) < SHARDS_KEPT:
                    self.identified.add(shard_id)
                if name == "ready" and shard_id in self.identified:
                    self.ready.add(shard_id)
            case "declined" | "released" | "undeliverable" | "expired" | "cancelled":
                self._granted_at_s.pop(shard_id, None)
            case "rejected":
                self.identified.discard(shard_id)
                self.ready.discard(shard_id)

    def rate(self, now_s: float) -> tuple[int, float]:
        """Return the grants of the last minute, and the seconds that were seen of it."""
        while self._grants_s and now_s - self._grants_s[0] > RATE_OVER_S:
            self._grants_s.popleft()
        return len(self._grants_s), min(RATE_OVER_S, now_s - self._began_s)

    def age_s(self, now_s: float) -> float:
        """Return how old the status is: its durations have gone on since."""
        return max(0.0, now_s - self._answered_s)

    def identified_of(self, bucket: int) -> int:
        """Return how many shards of a bucket have identified in this start."""
        buckets = (self.status.max_concurrency if self.status else None) or 1
        return sum(1 for shard_id in self.identified if shard_id % buckets == bucket)
