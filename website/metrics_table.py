"""Writes the table of metrics into docs/operate/metrics-and-events.md: ``python -m website.metrics_table``."""

import re
import sys
from typing import Final

from coordinator.edge.metrics import Metrics
from website.stage import ROOT

PAGE: Final = ROOT / "docs/operate/metrics-and-events.md"
BLOCK: Final = re.compile(r"(<!-- metrics: [^\n]*-->\n)(.*?)(<!-- end of metrics -->)", re.DOTALL)


def table() -> str:
    """Return the table, from the help texts of the metrics themselves."""
    families = [family for family in Metrics().registry.collect() if family.name.startswith("identify_")]
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {family.documentation} |"
        for family in families
    ]
    return "\n".join(["", "| metric | type | what it is |", "|---|---|---|", *rows, "", ""])


def text() -> str:
    """Return the page with the present table."""
    return BLOCK.sub(lambda found: found[1] + table() + found[3], PAGE.read_text(encoding="utf-8"))


def main() -> None:
    """Write the page."""
    PAGE.write_text(text(), encoding="utf-8")
    print(PAGE.relative_to(ROOT), file=sys.stderr)  # noqa: T201  # a program's answer


if __name__ == "__main__":
    main()
