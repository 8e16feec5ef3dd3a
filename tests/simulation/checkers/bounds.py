"""Checks that a replica keeps nothing that it does not need. It knows no field of it: it counts what can be reached."""

import gc
from collections import deque
from typing import TYPE_CHECKING

from nats_identify.schedule.requests import ENDED_MAX
from nats_identify.schedule.state import EARLY_CONFIRMS_MAX
from nats_identify.schedule.timers import SPARE_MAX
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator

SPARE = 90
"""A replica that has heard of nobody has about fifteen; what the ledger holds, and what is granted, comes to that."""

REMEMBERED_EACH = 5
"""A request that has ended is remembered by its name; if it was granted, READY may come: with its facts. A plain one
is named to a successor."""


def check_bounds(coordinator: "Coordinator", requests: int, grants: int) -> None:
    """``bounded``: with nobody waiting, nothing is left but what is remembered of those who came.

    Args:
        coordinator: which.
        requests: how many it has received; each is remembered, `REMEMBERED_MAX` at most.
        grants: how many it has received an answer to; of each that it knows no more the answer is kept, `STASHED_MAX`
            at most.

    The heap of alarms may hold `SPARE_MAX` that were replaced.
    """
    most = SPARE + SPARE_MAX + REMEMBERED_EACH * min(requests, ENDED_MAX) + min(grants, EARLY_CONFIRMS_MAX)
    count = items(coordinator.replica)
    if count > most:
        came = f"{requests} requests and answers to {grants} grants"
        what = f"{coordinator.name} keeps {count} items after {came}; {most} at most"
        raise Violation("bounded", coordinator.engine.now_ns, what)


def items(root: object) -> int:
    """How many entries all containers hold that can be reached from this object."""
    seen: set[int] = set()
    todo: list[object] = [root]
    count = 0
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type) or type(thing).__name__ in _NOT_STATE:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict | list | set | deque):
            count += len(thing)
        todo.extend(gc.get_referents(thing))
    return count


_NOT_STATE = {"module", "function", "builtin_function_or_method", "code", "cell"}
