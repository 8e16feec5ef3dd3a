"""The schedule's timers: a heap of instants. It keeps no state of what they are for, and never reads a clock."""

import heapq
from enum import IntEnum
from typing import NamedTuple

from nats_identify.schedule.model import SECOND


class TimerKind(IntEnum):
    """What a timer is for."""

    HOLD = 0
    REQUEST = 1
    BUCKET = 2
    BUDGET = 3
    ALL = 4
    PAUSE = 5


LOOK_MAX_NS = 600 * SECOND
"""The longest time between two looks at a request, however long it may wait."""

SPARE_MAX = 1_000
"""The heap is built anew when more than half of it, and more than this, was replaced or dropped."""


class Timer(NamedTuple):
    """Look at ``key`` at ``at_ns``; the caller decides whether there is still something to do."""

    at_ns: int
    kind: TimerKind
    key: str | int


class Timers:
    """The instants at which something may be due. One too many is harmless; each key has at most one."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._set: dict[TimerKind, dict[str | int, int]] = {kind: {} for kind in TimerKind}
        self._count = 0  # of the keys in all of these

    def at(self, at_ns: int, kind: TimerKind, key: str | int = 0) -> None:
        """Look at ``key`` no later than ``at_ns``; an earlier timer for it stands."""
        timers = self._set[kind]
        standing = timers.get(key)
        if standing is None or at_ns < standing:
            self._count += standing is None
            timers[key] = at_ns
            heapq.heappush(self._heap, Timer(at_ns, kind, key))
            self._tidy()

    def drop(self, kind: TimerKind, key: str | int) -> None:
        """Remove the timer of ``key``, so that what has ended uses no memory, however far off its timer was."""
        if self._set[kind].pop(key, None) is not None:
            self._count -= 1
            self._tidy()

    def next_ns(self) -> int | None:
        """The earliest timer, or None."""
        while self._heap and self._replaced(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0].at_ns if self._heap else None

    def pop_due(self, now_ns: int) -> Timer | None:
        """Remove one timer that is due and return it, or None."""
        heap = self._heap
        while heap and heap[0].at_ns <= now_ns:
            timer = heapq.heappop(heap)
            if not self._replaced(timer):
                del self._set[timer.kind][timer.key]
                self._count -= 1
                return timer
        return None

    def _tidy(self) -> None:
        if len(self._heap) > 2 * self._count + SPARE_MAX:
            timers = [(kind, key, at_ns) for kind, keys in self._set.items() for key, at_ns in keys.items()]
            self._heap = [Timer(at_ns, kind, key) for kind, key, at_ns in timers]
            heapq.heapify(self._heap)

    def _replaced(self, timer: Timer) -> bool:
        return self._set[timer.kind].get(timer.key) != timer.at_ns
