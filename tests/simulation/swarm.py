"""Runs many histories one after the other and says how it goes. It judges none, and stops at no violation."""

import gc
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.run import Report, run

GC_THRESHOLD = 50_000
"""A history is one great web of objects until its end: looking through it each 700 objects finds nothing."""

NS_PER_HOUR = 3_600 * 10**9


@dataclass(slots=True)
class Tally:
    """What many histories came to."""

    seeds: int = 0
    virtual_ns: int = 0
    core_events: int = 0
    grants: int = 0
    identifies: int = 0
    suffered: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[Report] = field(default_factory=list)
    excused: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0  # of this process, whatever else the machine does

    def add(self, report: Report) -> None:
        """Count one more."""
        self.seeds += 1
        self.virtual_ns += report.virtual_ns
        self.core_events += report.core_events
        self.grants += report.grants
        self.identifies += report.identifies
        self.suffered += report.suffered
        self.faults += report.faults
        self.excused += report.is_excused
        if report.violation is not None:
            self.failed.append(report)

    def line(self) -> str:
        """One line for whoever watches."""
        faults, each = sum(self.faults.values()), max(1, self.seeds)
        a_second = self.core_events / max(self.cpu_s, 1e-9)
        return (
            f"{self.seeds} seeds, {self.virtual_ns / NS_PER_HOUR:.1f} virtual hours,"
            f" {self.grants} grants ({self.grants / each:.0f} a seed), {self.identifies} identifies,"
            f" {faults} faults ({faults / each:.0f} a seed), {self.suffered} messages and calls spoilt,"
            f" {a_second:,.0f} core events a second of CPU time, {self.seconds:.0f} s,"
            f" {len(self.failed)} violations, {self.excused} excused"
        )


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def swarm(seeds: Iterable[int], tally: Tally, *, max_s: float | None = None, say_every_s: float = 10.0) -> None:
    """Run these seeds, as many as the time allows, count them, and print how it goes."""
    gc.set_threshold(GC_THRESHOLD)
    began_s = said_s = time.monotonic()
    began_cpu_s = time.process_time()
    for seed in seeds:
        report = run(seed)
        tally.add(report)
        tally.seconds, tally.cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        if report.violation is not None:
            say(f"VIOLATION {report.violation}\n  replay: {report.command}")
        if time.monotonic() - said_s > say_every_s:
            said_s = time.monotonic()
            say(tally.line())
        if max_s is not None and tally.seconds > max_s:
            break
    say(tally.line())
    for what, count in sorted(tally.faults.items()):
        say(f"  {count:8}  {what}")
