"""How long a history may take to end once all is well, and how long its days are. It ends nothing itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from nats_identify.client.requester import RENEW_MAX_NS
from nats_identify.schedule import budget, crash_loop
from nats_identify.schedule.model import SECOND

if TYPE_CHECKING:
    from tests.simulation.plan import Plan
    from tests.simulation.world import World

LAST_MESSAGES_NS: Final = 60 * SECOND
"""What was late when all became well has arrived by then, and what it caused has been undone."""

WAITS_MAX: Final = 7
"""A shard that loops through a whole history has been held back no more often."""

LAST_COMMANDS_NS: Final = 30 * SECOND
"""A pause that was late is resumed, and a request that is kicked asks anew, at the end of its line."""

NEW_FIGURE_NS: Final = 320 * SECOND
"""A leader asks Discord this often at the least."""


@contextmanager
def short_days(plan: "Plan") -> Iterator[None]:
    """Let the product's day be as long as the plan's, and its waits as short: they are constants."""
    first_wait_ns = plan.crash_loop.first_wait_ns if plan.crash_loop else crash_loop.FIRST_WAIT_NS
    day_least_ns = plan.day_ns - plan.day_ns // 1000
    with (
        patch.object(budget, "DAY", plan.day_ns),
        patch.object(budget, "_DAY_MIN_NS", day_least_ns),
        patch.object(crash_loop, "FIRST_WAIT_NS", first_wait_ns),
    ):
        yield


LAST_BACKOFF_NS: Final = RENEW_MAX_NS
"""A request that was never answered, since its replies were lost, renews once more after this at the latest."""


def patience_ns(world: "World") -> int:
    """Return how long everybody who waits may still have to wait, at the very most."""
    plan = world.plan
    waiting = sum(len(shard_ids) for shard_ids in plan.pods) * 3
    in_one_bucket = -(-waiting // min(plan.discord.max_concurrency, world.discord.max_concurrency)) + 2
    turn_ns = plan.hold_max_ns + 2 * SECOND
    patience_ns = (
        LAST_MESSAGES_NS + LAST_BACKOFF_NS + 4 * plan.lease_max_ns + 2 * plan.hold_max_ns + in_one_bucket * turn_ns
    )
    if plan.is_tight and plan.is_static:
        patience_ns += plan.day_ns * 6 // 5 * (1 + waiting // max(1, plan.discord.total - 3))
    if not plan.is_static or plan.mix.are_kinds_mixed:
        patience_ns += NEW_FIGURE_NS
    if plan.operator_mean_ns:
        patience_ns += plan.weather.late_max_ns + LAST_COMMANDS_NS + in_one_bucket * turn_ns
    if plan.crash_loop is not None:
        patience_ns += plan.crash_loop.first_wait_ns << WAITS_MAX
    return patience_ns
