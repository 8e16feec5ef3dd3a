"""Discord's API failing for an hour of virtual time: whole replicas of the simulation, and the product's own pace."""

from dataclasses import replace
from itertools import pairwise

import pytest

from coordinator.core.limits_policy import SOON_NS
from nats_identify.discord.backoff import BACK_OFF_MAX_NS, TOKEN_REFUSED_NS, Backoff, FetchResult
from nats_identify.schedule.model import SECOND, Limits, Reason
from tests.simulation.dice import draw
from tests.simulation.discord import Told
from tests.simulation.plan import Mix, Shape
from tests.simulation.store import FAIR
from tests.simulation.traffic import CALM
from tests.simulation.world import World

HOUR = 3_600 * SECOND
STEPS = 5
"""After 2, 4, 8, 16 and 32 s the back-off is as long as it gets."""


TROUBLES = {
    "429, wait 7 s": (Told(FetchResult.RATE_LIMITED, None, 7 * SECOND), 7 * SECOND),
    "429, wait 10 minutes": (Told(FetchResult.RATE_LIMITED, None, 600 * SECOND), 600 * SECOND),
    "5xx, nonsense, a cut connection": (Told(FetchResult.UNAVAILABLE), BACK_OFF_MAX_NS),
    "401": (Told(FetchResult.TOKEN_REFUSED), TOKEN_REFUSED_NS),
    "max_concurrency 0, believed by the edge": (Told(FetchResult.OK, Limits(0, 1_000, 1_000)), SOON_NS),
}


def calm_world(seed):
    """A quiet cluster of three with a token, a small bot, and nothing that fails by itself."""
    plan = next(plan for s in range(seed, seed + 500) if not (plan := draw(s, Shape.ORDINARY)).is_static)
    replicas = tuple(replace(plan.replicas[0], name=name) for name in "abc")
    timings = [variant for variant in plan.replicas[0].variants if variant[2] is None][:1] * 3
    replicas = tuple(replace(replica, variants=tuple(timings)) for replica in replicas)
    discord = replace(plan.discord, fails=0.0, nonsense=0.0, answer_max_ns=200_000_000)
    plan = replace(
        plan,
        replicas=replicas,
        discord=discord,
        weather=CALM,
        stream=FAIR,
        faults=(),
        stall=0.0,
        dies_after_grant=0.0,
        plain_pods=(),
        operator_mean_ns=0,
        mix=Mix(),
        pods=((0, 1, 2), (3, 4, 5)),
        habits=replace(plan.habits, withdraws=0.0, declines=0.0, broken=0.0, rejected=0.0, slow=0.0),
    )
    return World(plan)


@pytest.mark.parametrize("name", TROUBLES)
def test_an_hour_without_discord_grants_nothing_and_ends_with_the_next_question(name):
    trouble, longest_ns = TROUBLES[name]
    world = calm_world(7)
    world.discord.trouble = trouble
    world.start()
    world.engine.run(HOUR)
    asked = list(world.discord.asked_at_ns)
    assert world.witness.grants == 0
    assert world.witness.identifies.count == 0
    leader = next(coordinator for coordinator in world.coordinators.values() if coordinator.is_leading)
    assert leader.replica.schedule.state.budget.closed_for(10) is Reason.LIMITS_UNKNOWN
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    # Only a back-off of our own begins shorter, and is less up to half of it.
    steps, share = (STEPS, 2) if trouble.answer is FetchResult.UNAVAILABLE else (0, 1)
    assert sum(gap_ns < longest_ns // share for gap_ns in gaps) <= steps
    assert len(asked) <= HOUR * share // longest_ns + steps + 1
    world.discord.trouble = None
    mended_ns = world.engine.now_ns
    while not world.witness.grants:
        world.engine.run(world.engine.now_ns + SECOND)
        assert world.engine.now_ns - mended_ns <= longest_ns + 2 * SECOND
    again = [at_ns for at_ns in world.discord.asked_at_ns if at_ns > mended_ns]
    print(
        f"\n{name}: {len(asked)} questions in an hour, the last {gaps[-1] / SECOND:.0f} s apart; mended by {len(again)}"
    )
    assert len(again) == 1


def test_whatever_happens_two_questions_are_a_second_apart_and_a_retry_after_is_honoured():
    backoff = Backoff()
    for answer in [*FetchResult, *[FetchResult.UNAVAILABLE] * 100, *FetchResult]:
        for jitter in (0.0, 0.5, 1.0):
            wait_ns = backoff.answered(answer, jitter=jitter, retry_after_ns=0)
            assert SECOND <= wait_ns <= BACK_OFF_MAX_NS
    assert backoff.answered(FetchResult.RATE_LIMITED, jitter=1.0, retry_after_ns=3_600 * SECOND) == 3_600 * SECOND
    assert [backoff.answered(FetchResult.UNAVAILABLE, jitter=0.0) // SECOND for _ in range(8)] == [
        2,
        4,
        8,
        16,
        32,
        60,
        60,
        60,
    ]
    backoff.answered(FetchResult.OK, jitter=0.0)
    assert backoff.answered(FetchResult.UNAVAILABLE, jitter=0.0) == 2 * SECOND
