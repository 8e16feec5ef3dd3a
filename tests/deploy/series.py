"""Reads PromQL just far enough to name the series and labels in it, and says which the program does not export."""

import re
from typing import Final

from coordinator.edge.metrics import Metrics

TARGET_LABELS: Final = {"namespace", "pod", "container", "job", "instance", "prefix"}
"""What Prometheus adds to every series of a pod, and what the program does."""

_WORDS: Final = {"and", "or", "on", "by", "unless"}
_LABELS: Final = r"\{[^}]*\}"
_GROUPED: Final = r"\b(?:by|on) \(([^)]*)\)"


def exported() -> dict[str, set[str]]:
    """Return the names of all series under /metrics, each with its own labels."""
    metrics = Metrics("identify", "0.1.0")
    own = {metric._name: set(metric._labelnames) for metric in vars(metrics).values() if hasattr(metric, "_labelnames")}
    series: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}.get(
            family.type, ("",)
        )
        labels = own.get(family.name) or set(getattr(family, "_labelnames", ()))  # of a collector's own family
        if family.type == "info":
            labels = labels.union(*(sample.labels for sample in family.samples))
        for suffix in suffixes:
            series[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return series


def unknown(expression: str) -> list[str]:
    """Return what an expression asks for that is not exported: a series, a label of one, a label to group by."""
    known = exported()
    bare = re.sub(r'"[^"]*"', '""', expression)
    ungrouped = re.sub(_GROUPED, "", bare)
    names = re.findall(r"\b[a-z_]+\b(?!\s*\()", re.sub(rf"{_LABELS}|\[[^\]]*\]", "", ungrouped))
    names = [name for name in names if name not in _WORDS]
    wrong = [name for name in names if name not in known]
    for name, listed in re.findall(rf"\b([a-z_]+)({_LABELS})", ungrouped):
        labels = re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", listed)
        wrong += [f"{name}{{{label}}}" for label in labels if label not in known.get(name, set()) | TARGET_LABELS]
    grouped = {label for listed in re.findall(_GROUPED, bare) for label in listed.split(", ")}
    there = TARGET_LABELS.union(*(known.get(name, set()) for name in names))
    return wrong + sorted(f"by ({label})" for label in grouped - there)
