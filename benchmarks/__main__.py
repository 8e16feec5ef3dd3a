"""Measures what the README claims and draws it: `make bench`. It asserts nothing.

python -m benchmarks [--runs 5]
"""

import argparse
import asyncio
from pathlib import Path
from statistics import median

from benchmarks.idle_latency import measure, p99

PLOT = Path(__file__).parent / "idle_latency.svg"


def draw(grants: list[float], updates: list[float], title: str) -> None:
    """Draw both as the share that took at most so long."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # the extra `bench`, only where it is drawn

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in (("bare KV update", updates), ("request to grant, idle bucket", grants)):
        ordered = sorted(values)
        axes.plot(ordered, [100 * (rank + 1) / len(ordered) for rank in range(len(ordered))], label=name)
    axes.set(xscale="log", xlabel="milliseconds", ylabel="% took at most so long", title=title)
    axes.axhline(99, color="grey", linewidth=0.5)
    axes.legend()
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description="An idle bucket against a bare KV update, run by run.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--buckets", type=int, default=1000)
    options = parser.parse_args()
    grants: list[float] = []
    updates: list[float] = []
    ratios: list[float] = []
    for run in range(options.runs):
        one, bare = asyncio.run(measure(options.buckets, 1))
        ratios.append(p99(one) / p99(bare))
        print(f"run {run + 1}: p99 {p99(one):.2f} ms, bare {p99(bare):.2f} ms, ratio {ratios[-1]:.2f}", flush=True)
        grants += one
        updates += bare
    print(f"ratio of the p99s: median {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    draw(grants, updates, f"{options.runs} x {options.buckets} idle buckets, one after the other, sync always")
    print(f"drawn: {PLOT.relative_to(Path.cwd()) if PLOT.is_relative_to(Path.cwd()) else PLOT}")


if __name__ == "__main__":
    main()
