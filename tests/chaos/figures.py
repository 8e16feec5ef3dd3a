"""Collects what a chaos test measured and prints it with the median and the worst. It demands nothing."""

import os
import statistics
from typing import Final

REPETITIONS: Final = int(os.environ.get("CHAOS_REPETITIONS", "3"))
"""How often a measured fault is repeated: 20 for the figures in docs/failures.md."""


class Figures:
    """One quantity, repeated; every value is shown, so that nothing hides behind a median."""

    def __init__(self, what: str, unit: str = "ms"):
        self.what = what
        self.unit = unit
        self.values: list[float] = []

    def add(self, value: float):
        self.values.append(value)

    @property
    def worst(self):
        return max(self.values)

    def __str__(self):
        listed = " ".join(f"{value:.0f}" for value in self.values)
        median = statistics.median(self.values)
        spread = f"median {median:.0f}, max {self.worst:.0f} {self.unit}"
        return f"{self.what}, {len(self.values)} x: {spread}\n    {listed}"


def show(title: str, *figures: Figures):
    print(f"\n{title}")
    for each in figures:
        print(f"  {each}")
