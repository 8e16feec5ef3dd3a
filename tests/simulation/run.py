"""Runs one history from its plan to its end: storms, then healing, then a demand for progress. It prints nothing."""

import traceback
from collections import Counter
from dataclasses import dataclass, field

from nats_identify.schedule.model import SECOND
from tests.simulation import patience
from tests.simulation.checkers.bounds import check_bounds
from tests.simulation.checkers.identifies import ExcusedError
from tests.simulation.dice import draw
from tests.simulation.plan import Plan, Shape, shape_of
from tests.simulation.shards import Pod
from tests.simulation.violation import Violation
from tests.simulation.world import World
from tests.view import is_day_spent

BOUNDS_EVERY = 8
"""One history of so many lives on until all is quiet, to see what is kept."""

QUIET_NS = 200 * SECOND
"""Every request has been given up for lost by then: three of the slowest renewals are missed."""


@dataclass(slots=True)
class Report:
    """What became of one history."""

    seed: int
    shape: Shape
    violation: Violation | None = None
    virtual_ns: int = 0
    core_events: int = 0
    grants: int = 0
    identifies: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    suffered: int = 0  # messages and calls that the weather lost, doubled or delayed
    digest: int = 0
    lines: list[str] | None = None
    is_excused: bool = False  # it ended where the design promises nothing

    @property
    def command(self) -> str:
        """What replays it."""
        shape = "" if self.shape is shape_of(self.seed) else f" --shape {self.shape}"
        return f"python -m tests.simulation --seed {self.seed}{shape}"


def run(seed: int, shape: Shape | None = None, *, keep_lines: bool = False) -> Report:
    """Run the history of this seed, in its own shape or another; a broken promise ends it."""
    shape = shape_of(seed) if shape is None else shape
    plan = draw(seed, shape)
    with patience.short_days(plan):
        world = World(plan, keep_lines=keep_lines)
        report = Report(seed, shape)
        try:
            _live(world, plan)
        except ExcusedError:
            report.is_excused = True
        except Violation as violation:
            violation.at_ns = world.engine.now_ns
            report.violation = violation
        except Exception as error:  # whatever the core raises is a finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({where.filename.rpartition('/')[2]}:{where.lineno})"
            report.violation = Violation("raises", world.engine.now_ns, what)
    _fill(report, world)
    return report


def _counts_the_day_as_spent(world: World, plan: Plan) -> bool:
    """Whether settings lead where Discord's figure was lost: only the end of the day opens that again."""
    kinds = {static is None for replica in plan.replicas for _, _, static in replica.variants}
    leaders = [c for c in world.coordinators.values() if c.is_leading and c.settings.static is not None]
    closed = [is_day_spent(c.replica.schedule) for c in leaders]
    return len(kinds) > 1 and bool(closed) and all(closed)


def _live(world: World, plan: Plan) -> None:
    world.start()
    world.engine.run(plan.duration_ns)
    world.heal()
    demand_ns = world.engine.now_ns + patience.patience_ns(world)
    while (waiting := _waiting(world)) and world.engine.now_ns < demand_ns:
        world.engine.run(world.engine.now_ns + SECOND)
    if waiting and not _counts_the_day_as_spent(world, plan):
        raise Violation("ends", world.engine.now_ns, f"still waiting long after all is well: {', '.join(waiting[:5])}")

    if plan.seed % BOUNDS_EVERY == 1:
        world.engine.run(world.engine.now_ns + 2 * plan.hold_max_ns + QUIET_NS)
        for coordinator in world.coordinators.values():
            answered = world.witness.declines.answered(coordinator.name)
            check_bounds(coordinator, world.witness.order.requests.count(coordinator.name), answered)


def _waiting(world: World) -> list[str]:
    return [name for pod in world.pods.values() if isinstance(pod, Pod) and pod.is_alive for name in pod.entries]


def _fill(report: Report, world: World) -> None:
    report.virtual_ns = world.engine.now_ns
    report.core_events = world.engine.core_events
    report.grants = world.witness.grants
    report.identifies = world.witness.identifies.count
    report.faults = world.chaos.counts
    report.suffered = world.traffic.suffered + world.stream.suffered
    report.digest = world.witness.digest
    report.lines = world.engine.lines
