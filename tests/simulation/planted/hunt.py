"""Lets the simulation look for each planted fault, seed after seed, and writes down what it took. It plants by text."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.simulation.plan import Shape, shape_of
from tests.simulation.planted.commands import COMMANDING
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.limits import LOOPING, TUNING
from tests.simulation.planted.others import CHARGING, COMMITS, HOLDING
from tests.simulation.planted.outcomes import PROVING
from tests.simulation.planted.patching import planted
from tests.simulation.planted.rules import RULES
from tests.simulation.planted.truth import TRUTH
from tests.simulation.planted.waiting import QUEUEING, REQUESTING
from tests.simulation.run import run

CATALOGUE: tuple[Planted, ...] = (
    *RULES,
    *COMMITS,
    *HOLDING,
    *PROVING,
    *CHARGING,
    *QUEUEING,
    *REQUESTING,
    *LOOPING,
    *TUNING,
    *TRUTH,
    *COMMANDING,
)
"""Every fault there is."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one planted fault.

    Attributes:
        checker: who saw it; None where nobody did.
        seed: in which history; ``tried``: the how manieth it was.
        is_clean_without: the same history breaks no promise where nothing is planted.
    """

    fault: Planted
    checker: str | None
    seed: int | None
    tried: int
    is_clean_without: bool = True


def hunt(fault: Planted, seeds: Iterable[int]) -> Found:
    """Look for this fault in these histories, until one breaks a promise."""
    tried = 0
    for seed in seeds:
        tried += 1
        with planted(*fault.edits):
            violation = run(seed, fault.shape).violation
        if violation is not None:
            return Found(fault, violation.checker, seed, tried, is_clean_without=_is_clean(seed, fault))
    return Found(fault, None, None, tried)


def _is_clean(seed: int, fault: Planted) -> bool:
    return run(seed, fault.shape).violation is None


def short_first(seeds: Iterable[int]) -> list[int]:
    """Put the focused histories before the ordinary ones and the long days: most faults are found in a second."""
    return sorted(seeds, key=lambda seed: (shape_of(seed) is Shape.ORDINARY, shape_of(seed) is Shape.DAYS))


def hunt_all(seeds: Iterable[int], say: Callable[[str], None], only: str = "") -> list[Found]:
    """Look for every fault."""
    found, seeds = [], short_first(seeds)
    for fault in CATALOGUE:
        if only in fault.name:
            found.append(hunt(fault, seeds))
            say(row(found[-1]))
    return found


def row(found: Found) -> str:
    """One line of the table."""
    rule = "" if found.fault.rule is None else str(found.fault.rule)
    if found.checker is None:
        return f"| {rule} | {found.fault.name} | not found | - | {found.tried} |"
    shape = f" {found.fault.shape}" if found.fault.shape else ""
    return f"| {rule} | {found.fault.name} | {found.checker} | {found.seed}{shape} | {found.tried} |"
