"""A program on a machine: a clock of its own; it can be paused, and killed. It does nothing by itself."""

from collections.abc import Callable
from typing import Final

from tests.simulation.engine import Engine

DRIFT_MAX_PPM: Final = 200
"""No clock runs faster or slower than real time by more than 0.02 %: four times what NTP calls a bad crystal.

Two clocks differ by twice as much; over use_within, window and margin that is a few milliseconds, which the
latency to Discord that a plan draws leaves free of the margin.
"""

_PPM: Final = 1_000_000


class Clock:
    """Nanoseconds that only grow, from an offset and at a rate of their own."""

    def __init__(self, engine: Engine, *, offset_ns: int, drift_ppm: int) -> None:
        self._engine = engine
        self._offset_ns = offset_ns
        self._rate = _PPM + drift_ppm

    def __call__(self) -> int:
        """Read the clock."""
        return self._offset_ns + self._engine.now_ns * self._rate // _PPM

    def real_ns(self, local_ns: int) -> int:
        """The first real instant at which this clock shows that."""
        return -(-(local_ns - self._offset_ns) * _PPM // self._rate)


class Process:
    """One life of a program, from its start to its end; a restart is another `Process`."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.is_alive = True
        self.is_paused = False
        drift_ppm = engine.between(-DRIFT_MAX_PPM, DRIFT_MAX_PPM)
        self.clock = Clock(engine, offset_ns=engine.between(10**12, 10**15), drift_ppm=drift_ppm)
        self._mailbox: list[tuple[Callable[..., None], tuple[object, ...]]] = []

    def meet(self, call: Callable[..., None], *args: object) -> None:
        """Something reaches this process: now, when it runs again, or never."""
        if not self.is_alive:
            return
        if self.is_paused:
            self._mailbox.append((call, args))
        else:
            call(*args)

    def pause(self) -> None:
        """Stop the process, not its clock: a suspended laptop, a full disk, a debugger."""
        self.is_paused = True

    def resume(self) -> None:
        """Run again; whatever arrived meanwhile is met in its order."""
        if not self.is_alive or not self.is_paused:
            return
        self.is_paused = False
        waiting, self._mailbox = self._mailbox, []
        for index, (call, args) in enumerate(waiting):
            if self.is_paused:  # paused again on the way
                self._mailbox = waiting[index:] + self._mailbox
                return
            self.meet(call, *args)

    def kill(self) -> None:
        """End without a word: SIGKILL, power, out of memory."""
        self.is_alive = False
        self._mailbox.clear()
