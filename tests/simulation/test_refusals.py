"""A stream that refuses every write for a while, in a calm history: how often it is asked, and what follows."""

from dataclasses import replace
from typing import Any

import pytest

from nats_identify.schedule.model import SECOND, Limits
from tests.simulation import patience
from tests.simulation.checkers.pace import PAUSE_MAX_NS
from tests.simulation.dice import draw
from tests.simulation.plan import Mix, Shape
from tests.simulation.store import FAIR
from tests.simulation.traffic import CALM
from tests.simulation.world import World

BEGINS_NS = 40 * SECOND
LASTS_NS = 30 * SECOND


def calm(seed):
    plan = draw(seed, Shape.ORDINARY)
    habits = replace(plan.habits, connect_max_ns=SECOND // 100, slow=0.0, declines=0.0, withdraws=0.0)
    discord = replace(plan.discord, fails=0.0, nonsense=0.0, total=100_000, remaining=100_000)
    calm_ways: dict[str, Any] = {
        "discord": discord,
        "weather": CALM,
        "stream": FAIR,
        "faults": (),
        "stall": 0.0,
        "mix": Mix(),
        "cancel_mean_ns": 0,
        "dies_after_grant": 0.0,
    }
    # All ask Discord or none does: one that can ask spends no settings of another, and waits for a figure of its own.
    kind = plan.replicas[0].variants[0][2]
    static = None if kind is None else Limits(kind.max_concurrency, 100_000, 100_000)
    replicas = tuple(
        replace(replica, variants=tuple((timing, lease_ns, static) for timing, lease_ns, _ in replica.variants))
        for replica in plan.replicas
    )
    return replace(plan, habits=habits, start_mean_ns=0, plain_pods=(), replicas=replicas, **calm_ways)


@pytest.mark.parametrize("seed", range(12))
def test_refused_writes_are_few_and_turns_are_granted_within_two_seconds_of_the_cure(seed):
    plan = calm(seed)
    with patience.short_days(plan):
        world = World(plan)
        world.start()
        world.engine.run(BEGINS_NS)
        before = world.witness.grants
        world.stream.grants_most = -1
        world.stream.refuses_until_ns = BEGINS_NS + LASTS_NS
        world.engine.run(BEGINS_NS + LASTS_NS)
        during, refused = world.witness.grants, world.witness.pace.refused
        terms = {c.replica.term for c in world.coordinators.values()}
        world.engine.run(BEGINS_NS + LASTS_NS + 2 * SECOND)
    leases_ns = [c.settings.lease_ns for c in world.coordinators.values()]
    pauses = sum(LASTS_NS // min(lease_ns // 3, PAUSE_MAX_NS) for lease_ns in leases_ns)
    assert before > 0
    assert during <= before + plan.discord.max_concurrency  # what had been written when it began
    assert refused <= pauses + 5 * len(leases_ns)
    assert max(terms) - min(terms) <= 1
    assert world.witness.grants > during
