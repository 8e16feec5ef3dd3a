"""What a planted fault is. It plants nothing."""

from dataclasses import dataclass

from tests.simulation.plan import Shape
from tests.simulation.planted.patching import Edit


@dataclass(frozen=True, slots=True)
class Planted:
    """One fault.

    Attributes:
        name: what is wrong, for people.
        edits: how the product is changed.
        rule: the rule of docs/simulation.md that it takes away, or none.
        shape: the one shape of history that it can be seen in, or none: then each seed's own.
    """

    name: str
    edits: tuple[Edit, ...]
    rule: int | None = None
    shape: Shape | None = None
