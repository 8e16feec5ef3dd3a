"""The statistics of the benchmark: percentiles, and who was up when. It measures nothing and prints nothing."""

import math
from collections.abc import Iterable, Sequence

from nats_identify.clock import NS_PER_S
from nats_identify.testing.events import BecameReady, Disconnected, GatewayEvent

Step = tuple[float, int]
"""Seconds since the start, and how many shards were up from then on."""


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that at least ``percent`` % of the values do not exceed; None where there are none.

    Raises:
        ValueError: ``percent`` is not in 0 … 100.
    """
    if not 0 <= percent <= 100:  # noqa: PLR2004  # per cent
        message = f"{percent} % of the values; give 0 to 100"
        raise ValueError(message)
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else None


def ratio(value: float | None, base: float | None) -> float | None:
    """Return value / base; None where one of them is not known or the base is 0."""
    return None if value is None or not base else value / base


def up_steps(events: Iterable[GatewayEvent], since_ns: int) -> list[Step]:
    """Return when the number of shards with a live session changed.

    Args:
        events: of one gateway, oldest first.
        since_ns: the start, on the gateway's clock.
    """
    shard_of: dict[int, int] = {}  # by connection: one shard may have two sessions for a moment
    steps: list[Step] = []
    for event in events:
        match event:
            case BecameReady():
                shard_of[event.connection] = event.shard_id
            case Disconnected() if event.connection in shard_of:
                del shard_of[event.connection]
            case _:
                continue
        steps.append(((event.at_ns - since_ns) / NS_PER_S, len(set(shard_of.values()))))
    return steps


def up_since_s(steps: Sequence[Step], count: int) -> float | None:
    """Return when at least ``count`` shards were up and stayed up until the end; None if they were not at the end."""
    since_s: float | None = None
    for at_s, up in steps:
        if up < count:
            since_s = None
        elif since_s is None:
            since_s = at_s
    return since_s


def up_at_end(steps: Sequence[Step]) -> int:
    """Return how many shards are up at the end."""
    return steps[-1][1] if steps else 0
