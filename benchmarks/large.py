"""Follows a crowd from outside: starts its process, and adds up what it reports, phase by phase."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Final

from benchmarks.crowd import Line, Order
from benchmarks.figures import percentile
from benchmarks.programs import Program, Programs
from benchmarks.results import Value
from nats_identify.clock import NS_PER_S, now_ns

STALLS_AFTER_S: Final = 60.0
"""A phase that takes longer is given up, and said to be."""


class StalledError(Exception):
    """The crowd did not reach what a phase waits for."""


class Followed:
    """A crowd's process, and all that it has reported.

    Attributes:
        program: its process.
        lines: what it has reported, oldest first.
    """

    def __init__(self) -> None:
        self.program: Program | None = None
        self.lines: list[Line] = []
        self._changed = asyncio.Event()

    def on_line(self, text: str) -> None:
        """Take in one report."""
        self.lines.append(Line(**json.loads(text)))
        self._changed.set()

    @property
    def newest(self) -> Line:
        """How it stands."""
        return self.lines[-1] if self.lines else Line()

    def since(self, at_ns: int) -> list[Line]:
        """Return the reports since then."""
        return [line for line in self.lines if line.at_ns > at_ns]

    async def until(
        self,
        condition: Callable[[], bool],
        show: Callable[[Line], None] | None = None,
        *,
        within_s: float = STALLS_AFTER_S,
    ) -> int:
        """Wait for a condition on the reports; return when it was met, on our clock.

        Raises:
            StalledError: it was not, within ``within_s`` seconds, or the process ended before.
        """
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    if self.program is not None and self.program.ended.done():
                        raise StalledError(f"the crowd's process ended: {self.program.last_words}")
                    self._changed.clear()
                    await self._wait_or_look()
                    if show is not None:
                        show(self.newest)
        except TimeoutError:
            declined = sum(line.declined for line in self.lines)
            newest = self.newest
            message = (
                f"given up after {within_s:g} s: {newest.answered:,} answered, {newest.grants:,} granted in time,"
                f" {newest.waiting:,} wait, {declined:,} grants came too late to be used"
            )
            raise StalledError(message) from None
        return now_ns()

    async def _wait_or_look(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self._changed.wait()
        except TimeoutError:
            return


@asynccontextmanager
async def follow(order: Order) -> AsyncIterator[Followed]:
    """Run a crowd during this block."""
    followed = Followed()
    async with Programs() as programs:
        command = (sys.executable, "-m", "benchmarks.crowd", json.dumps(asdict(order)))
        followed.program = await programs.start(*command, on_line=followed.on_line)
        yield followed


def latencies(lines: list[Line]) -> dict[str, Value]:
    """Return how late the grants of these reports were, and how fast idle buckets answered beside them."""
    late_ms = [late for line in lines for late in line.late_ms]
    probes_ms = [probe for line in lines for probe in line.probes_ms]
    return {
        "grants": len(late_ms),
        "late p50 ms": percentile(late_ms, 50),
        "late p99 ms": percentile(late_ms, 99),
        "late max ms": percentile(late_ms, 100),
        "idle bucket p50 ms": percentile(probes_ms, 50),
        "idle bucket p99 ms": percentile(probes_ms, 99),
    }


def seconds(from_ns: int, to_ns: int) -> float:
    """Return the seconds between two instants."""
    return (to_ns - from_ns) / NS_PER_S
