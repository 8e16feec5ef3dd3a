"""What is measured: each scenario is one function with its sentence. `ALL` has them in the order of the table."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.contestants import Contestant
from benchmarks.progress import Progress
from benchmarks.results import Outcome


@dataclass(frozen=True, slots=True)
class Bench:
    """What a scenario gets.

    Attributes:
        contestants: who takes part.
        progress: where it says how far it is.
        is_full: `make bench-full`: larger crowds, more repetitions.
    """

    contestants: Sequence[Contestant]
    progress: Progress
    is_full: bool = False


Scenario = Callable[[Bench], Awaitable[Sequence[Outcome]]]
