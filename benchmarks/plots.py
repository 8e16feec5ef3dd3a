"""Draws the results. It measures nothing, and computes nothing but what a picture needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.contestants import DISCORD_JS, DISCORD_PY, HIKARI, OURS, OURS_ALONE, OURS_IN_A_BOT, TWILIGHT
from benchmarks.results import Outcome, Results, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = {
    OURS: "#0b6e4f",
    OURS_IN_A_BOT: "#5ab88f",
    OURS_ALONE: "#9bd3b9",
    DISCORD_PY: "#3b5bdb",
    HIKARI: "#c2255c",
    DISCORD_JS: "#e67700",
    TWILIGHT: "#7048e8",
}
IDEAL: Final = "#868e96"
STARTS: Final = ("cold-start-16", "cold-start-64")
MILLISECONDS: Final = tuple(step * 10**power for power in range(-2, 5) for step in (1, 2, 5))
"""Ticks of the axis of waits."""

VIOLATIONS_IN: Final = ("cold-start-16", "two-processes", "killed", "spent-day")


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw the picture of the whole run as SVG and PNG; return the files.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # the extra `bench`, only where it is drawn

    outcomes = {outcome.name: outcome for outcome in results.outcomes}
    figure = Figure(figsize=(11, 8), layout="constrained")
    grid = figure.subplots(2, 2)
    for axes, name in zip(grid[0], STARTS, strict=True):
        if name in outcomes:
            _draw_start(axes, outcomes[name])
    _draw_violations(grid[1][0], [outcomes[name] for name in VIOLATIONS_IN if name in outcomes])
    if "idle-bucket" in outcomes:
        _draw_waits(grid[1][1], outcomes["idle-bucket"])
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        if not axes.has_data():
            axes.set_visible(False)
    shown = grid[0][0] if grid[0][0].has_data() else grid[0][1]
    figure.legend(*shown.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    files = [folder / "benchmarks.svg", folder / "benchmarks.png"]
    figure.savefig(files[0], metadata={"Date": None})
    figure.savefig(files[1], dpi=110)
    return files


def _draw_start(axes: "Axes", outcome: Outcome) -> None:
    """Draw how many shards were up, as a staircase for each contestant."""
    for row in outcome.rows:
        points = [(0.0, 0.0), *row.series]
        axes.step(*zip(*points, strict=True), where="post", label=row.who, **_style(row))
    axes.set(title=outcome.title, xlabel="seconds since the first IDENTIFY", ylabel="shards up")
    axes.set_ylim(bottom=0)


def _draw_violations(axes: "Axes", outcomes: Sequence[Outcome]) -> None:
    """Draw how many IDENTIFYs Discord refused, as a group of bars for each scenario."""
    names = [name for name in COLOURS if any(row.who == name for outcome in outcomes for row in outcome.rows)]
    width = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        for place, outcome in enumerate(outcomes):
            count = next((row.figures.get("violations") for row in outcome.rows if row.who == name), None)
            if isinstance(count, int):
                x = place + (number - len(names) / 2 + 0.5) * width
                axes.bar(x, count, width, color=COLOURS.get(name, IDEAL))
                axes.text(x, count, str(count), ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(outcomes)), [outcome.name for outcome in outcomes])
    axes.locator_params(axis="y", integer=True)
    axes.set(title="IDENTIFYs that Discord refused", ylabel="IDENTIFYs")


def _draw_waits(axes: "Axes", outcome: Outcome) -> None:
    """Draw which share of the requests took at most each time."""
    for row in outcome.rows:
        if row.series:
            axes.plot(*zip(*row.series, strict=True), label=row.who, color=COLOURS.get(row.who, IDEAL))
    axes.set(xscale="log", xlabel="milliseconds", ylabel="% took at most this long", title=outcome.title)
    shortest, longest = axes.get_xlim()
    shown = [tick for tick in MILLISECONDS if shortest <= tick <= longest]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
    axes.axhline(99, color=IDEAL, linewidth=0.5)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _style(row: Row) -> dict[str, object]:
    """Return colour, width and layer of a contestant's line: the queue of this project is thick, and on top."""
    ours = {OURS_ALONE: 2, OURS_IN_A_BOT: 3, OURS: 4}
    width = 2.2 if row.who in ours else 1.3
    return {"color": COLOURS.get(row.who, IDEAL), "linewidth": width, "zorder": ours.get(row.who, 1)}
