"""What Discord makes of an IDENTIFY, and how its shard reports that. It knows no queue.

READY leaves Discord after the IDENTIFY has arrived there, and not before; it may take long, come twice, or never come.
Its dice are its own, so that a history stays what it was in everything else.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nats_identify.schedule.model import MS, SECOND, Outcome

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.traffic import Line

KEPT_MAX: Final = 8
"""Reply subjects of earlier grants that a process reports to once more."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How Discord answers the IDENTIFYs of one process, and what goes wrong on the way.

    Attributes:
        never: how often the connection is lost before READY.
        slow: how often READY takes seconds, as that of a large bot does; ``quick``: how often a millisecond at most.
        rejected: how often Discord answers Invalid Session, for reasons of its own.
        repeated: how often the shard reports once more, up to half a minute later.
        stray: how often it reports to the reply subject of an earlier grant as well.
    """

    never: float = 0.05
    slow: float = 0.15
    quick: float = 0.2
    rejected: float = 0.0
    repeated: float = 0.1
    stray: float = 0.05


class Outcomes:
    """The outcomes of one process."""

    def __init__(self, process: "Process", line: "Line", seed: int, answers: Answers) -> None:
        self._process = process
        self._line = line
        self._answers = answers
        self._random = random.Random(f"outcomes-{seed}-{process.name}")
        self._earlier: list[str] = []

    def of(self, answer_to: str) -> Callable[[], None]:
        """Return what happens when Discord has the IDENTIFY of the grant with this reply subject."""
        return lambda: self._process.engine.after(self._way_ns(), self._process.meet, self._report, answer_to)

    def _way_ns(self) -> int:
        """From the arrival of IDENTIFY to the shard's report."""
        throw = self._random.random()
        if throw < self._answers.quick:
            return self._random.randrange(MS)
        is_slow = throw > 1 - self._answers.slow
        return self._random.randrange(SECOND, 12 * SECOND) if is_slow else self._random.randrange(MS, SECOND)

    def _report(self, answer_to: str) -> None:
        dice, answers, process = self._random, self._answers, self._process
        if not answer_to or dice.random() < answers.never:
            return
        outcome = Outcome.REJECTED if dice.random() < answers.rejected else Outcome.READY
        self._line.publish(answer_to, outcome)
        if dice.random() < answers.repeated:
            again_ns = dice.randrange(30 * SECOND)
            process.engine.after(again_ns, process.meet, self._line.publish, answer_to, outcome)
        if self._earlier and dice.random() < answers.stray:
            self._line.publish(dice.choice(self._earlier), outcome)
        self._earlier.append(answer_to)
        del self._earlier[:-KEPT_MAX]
