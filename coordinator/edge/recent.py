"""What happened lately in this process: its last events, counts for each minute, changes of the leader. It is bounded.

It decides nothing, stores nothing beyond the process, and reads no clock. Adding an event costs two appends at most.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

EVENTS_PER_NAME: Final = 200
"""Events of one name that are kept: a crowd that queues must not push out the one rejected IDENTIFY."""

EVENTS_SHOWN: Final = 600
"""The newest of these that a page gets at once: about 100 kB."""

MINUTES_KEPT: Final = 60
LEADERS_KEPT: Final = 20
MINUTE_MS: Final = 60_000

EventFields = Mapping[str, str | int | None]


class RecordedEvent(NamedTuple):
    """One event; ``number`` counts all events of this process, ``at_ms`` is Unix time in milliseconds."""

    number: int
    at_ms: int
    name: str
    fields: EventFields


class LeaderChange(NamedTuple):
    """When this process first saw that leader; ``leader`` None: the lead was given up."""

    at_ms: int
    leader: str | None
    term: int


class Recent:
    """The recent past of one process. Names of events come from this program alone, so their number is bounded."""

    def __init__(self) -> None:
        self._by_name: dict[str, deque[RecordedEvent]] = {}
        self._minutes: deque[tuple[int, dict[str, int]]] = deque(maxlen=MINUTES_KEPT)
        self._leaders: deque[LeaderChange] = deque(maxlen=LEADERS_KEPT)
        self.newest = 0

    def add(self, name: str, fields: EventFields, at_ms: int) -> None:
        """Keep an event that was published. ``fields`` must not change afterwards."""
        self.newest += 1
        events = self._by_name.get(name)
        if events is None:
            events = self._by_name[name] = deque(maxlen=EVENTS_PER_NAME)
        events.append(RecordedEvent(self.newest, at_ms, name, fields))
        minute = at_ms - at_ms % MINUTE_MS
        if not self._minutes or self._minutes[-1][0] < minute:  # a clock set back counts into the newest minute
            self._minutes.append((minute, {}))
        counts = self._minutes[-1][1]
        counts[name] = counts.get(name, 0) + 1

    def observe_leader(self, leader: str | None, term: int, at_ms: int) -> None:
        """Take note of who leads by the ledger; an unchanged leader and term are no change."""
        if term and (not self._leaders or (leader, term) != self._leaders[-1][1:]):
            self._leaders.append(LeaderChange(at_ms, leader, term))

    def after(self, number: int) -> list[RecordedEvent]:
        """Return the events after this one in their order, the newest `EVENTS_SHOWN` at most."""
        if number >= self.newest:
            return []
        found = sorted(event for events in self._by_name.values() for event in events if event.number > number)
        return found[-EVENTS_SHOWN:]

    @property
    def minutes(self) -> list[tuple[int, dict[str, int]]]:
        """Each of the last minutes with an event, in Unix milliseconds, and how many events of each name it had."""
        return list(self._minutes)

    @property
    def leaders(self) -> list[LeaderChange]:
        """The last changes of the leader that were seen, in their order."""
        return list(self._leaders)
