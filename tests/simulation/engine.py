"""Virtual time: a heap of calls in integer nanoseconds. It knows nothing of what it calls, and never waits."""

import heapq
import random
from collections.abc import Callable
from typing import Any

from nats_identify.schedule.model import MS, SECOND


class Engine:
    """The only clock and the only source of chance of one history.

    Attributes:
        now_ns: real time; every process reads it through a clock of its own.
        core_events: how often a state machine of the product was told something.
        lines: the transcript, or None where nobody reads it.
    """

    def __init__(self, seed: int, *, keep_lines: bool = False) -> None:
        self.now_ns = 0
        self.random = random.Random(seed)
        self.core_events = 0
        self.lines: list[str] | None = [] if keep_lines else None
        self._heap: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._pushed = 0

    def at(self, at_ns: int, call: Callable[..., object], *args: object) -> None:
        """Call this at that time; two at one instant are called in the order they were asked for."""
        self._pushed += 1
        heapq.heappush(self._heap, (max(at_ns, self.now_ns), self._pushed, call, args))

    def after(self, delay_ns: int, call: Callable[..., object], *args: object) -> None:
        """Call this so much later."""
        self._pushed += 1
        heapq.heappush(self._heap, (self.now_ns + delay_ns, self._pushed, call, args))

    def run(self, until_ns: int) -> None:
        """Let time pass until this instant."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until_ns:
            self.now_ns, _, call, args = pop(heap)
            call(*args)
        self.now_ns = until_ns

    # --- chance

    def chance(self, probability: float) -> bool:
        """Whether it happens this time."""
        return probability > 0 and self.random.random() < probability

    def between(self, least_ns: int, max_ns: int) -> int:
        """Any duration from the first to the second."""
        return least_ns + int(self.random.random() * (max_ns - least_ns + 1))

    def about(self, mean_ns: int) -> int:
        """A duration with a long tail, five times its mean at most."""
        return min(int(self.random.expovariate(1.0) * mean_ns), 5 * mean_ns)

    # --- the transcript

    def note(self, who: str, what: str) -> None:
        """Write a line of the transcript; ask `lines` first where the text is dear."""
        if self.lines is not None:
            self.lines.append(f"{self.now_ns / SECOND:12.6f}  {who:<12} {what}")


def ms(duration_ns: int) -> str:
    """A duration for people."""
    return f"{duration_ns / MS:.1f} ms"
