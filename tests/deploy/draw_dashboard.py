"""Draws the dashboard's panels from a running Prometheus, by their own queries: a picture without Grafana.

`python -m tests.deploy.draw_dashboard http://127.0.0.1:9090 SECONDS picture.png` needs matplotlib, which `make bench`
installs. Layout, titles, queries and names of series are the dashboard's; colours and fonts are not Grafana's.
"""

import json
import re
import sys
import time
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

from matplotlib import pyplot
from matplotlib.axes import Axes
from PIL import Image

from tests.deploy.rendering import DEPLOY

Panel = dict[str, Any]
Series = tuple[str, list[float], list[float]]

FILE: Final = DEPLOY / "components/monitoring/nats-identify.json"
VARIABLES: Final = {"$namespace": "nats-identify", "$prefix": ".*"}
WIDTH: Final = 24
"""Columns of a Grafana dashboard."""

SERIES_MAX: Final = 14
"""Names in one legend; a panel may have more series."""


def fetched(url: str, expression: str, seconds: float) -> list[tuple[dict[str, str], list[tuple[float, str]]]]:
    """Ask Prometheus for a range that ends now."""
    now = time.time()
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    asked = urlencode({"query": expression, "start": now - seconds, "end": now, "step": max(1.0, seconds / 300)})
    with urlopen(f"{url}/api/v1/query_range?{asked}") as page:  # noqa: S310  # the caller's own Prometheus
        return [(found["metric"], found["values"]) for found in json.load(page)["data"]["result"]]


def series_of(url: str, panel: Panel, seconds: float) -> list[Series]:
    """Return the series of a panel, named as its legend does."""
    drawn = []
    for target in panel["targets"]:
        for labels, values in fetched(url, target["expr"], seconds):
            name = target["legendFormat"]
            for label in re.findall(r"\{\{(\w+)\}\}", name):
                name = name.replace(f"{{{{{label}}}}}", labels.get(label, ""))
            numbers = [float(value) for _, value in values]
            drawn.append((name, [moment - time.time() for moment, _ in values], numbers))
    return drawn


def shown(value: float, unit: str) -> str:
    """Write a number as a stat panel does."""
    if unit != "s":
        return f"{value:g}"
    return "unknown" if value < 0 else f"{value / 3600:.1f} h" if value >= 3600 else f"{value:.3g} s"


def draw_stat(axes: Axes, panel: Panel, drawn: list[Series]) -> None:
    """Draw the newest value of each series on the colour of its threshold."""
    defaults = panel["fieldConfig"]["defaults"]
    axes.set_xticks([])
    axes.set_yticks([])
    for number, (name, _, values) in enumerate(drawn):
        steps = [
            step for step in defaults["thresholds"]["steps"] if step["value"] is None or step["value"] <= values[-1]
        ]
        left, width = number / len(drawn), 1 / len(drawn)
        axes.axvspan(left, left + width, color=steps[-1]["color"], alpha=0.65)
        axes.text(
            left + width / 2,
            0.55,
            shown(values[-1], defaults["unit"]),
            ha="center",
            va="center",
            fontsize=12 - len(drawn),
        )
        axes.text(left + width / 2, 0.12, name.replace(".identify", ""), ha="center", fontsize=6)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def draw_lines(axes: Axes, drawn: list[Series]) -> None:
    """Draw each series over the minutes before now."""
    for name, moments, values in drawn:
        axes.plot([moment / 60 for moment in moments], values, linewidth=1, label=name)
    axes.grid(visible=True, alpha=0.25)
    axes.tick_params(labelsize=6)
    axes.set_xlabel("minutes", fontsize=6)
    handles, names = axes.get_legend_handles_labels()
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(0.0, bottom), top * (1.15 + 0.07 * min(len(names), SERIES_MAX)))  # the legend is above the lines
    if names:
        axes.legend(handles[:SERIES_MAX], names[:SERIES_MAX], fontsize=5, ncols=2, loc="upper left", framealpha=0.6)


def main(url: str, seconds: str, picture: str) -> None:
    """Draw all panels into one picture."""
    panels = json.loads(FILE.read_text())["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = pyplot.figure(figsize=(12, height * 0.3), dpi=80)
    for panel in panels:
        at = panel["gridPos"]
        box = (
            at["x"] / WIDTH + 0.025,
            1 - (at["y"] + at["h"]) / height + 0.014,
            at["w"] / WIDTH - 0.035,
            at["h"] / height - 0.03,
        )
        axes = figure.add_axes(box)
        axes.set_title(panel["title"], fontsize=8, loc="left")
        drawn = series_of(url, panel, float(seconds))
        if panel["type"] == "stat":
            draw_stat(axes, panel, drawn)
        else:
            draw_lines(axes, drawn)
    figure.savefig(picture)
    with Image.open(picture) as image:  # a quarter of the size, in 64 colours
        image.convert("RGB").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
