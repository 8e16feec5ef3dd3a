"""Tells from the queue's events whether shards were served in the order in which they asked. It hears nothing itself.

A request's age is what the shard itself counts and the grant repeats: one that reached the coordinator late, with its
connection, keeps the place that it had asked for. Events leave after their commit, so their times are that much late.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

BLUR_S: Final = 0.25
"""Requests that are closer than this may be told in either order: as long as a commit may take on a busy machine."""


@dataclass(frozen=True, slots=True)
class Served:
    """One request that was granted.

    Attributes:
        asked_s: when its shard began to ask.
        queued_s: when it was told to wait; None where its bucket was open: it passed nobody by.
        granted_s: when it was granted.
    """

    shard_id: int
    bucket: int
    asked_s: float
    queued_s: float | None
    granted_s: float


def served(events: list[tuple[str, dict[str, Any]]]) -> list[Served]:
    """Read the events' names and facts; return who was granted, in that order."""
    queued: dict[str, float] = {}
    found = []
    for name, facts in events:
        if name == "queued":
            queued.setdefault(facts["request_id"], _at_s(facts))
        elif name == "granted":
            granted_s, wait_s = _at_s(facts), facts["waited_ms"] / 1000
            waited_since_s = queued.get(facts["request_id"])
            found.append(Served(facts["shard_id"], facts["bucket"], granted_s - wait_s, waited_since_s, granted_s))
    return found


def passed_by(line: list[Served]) -> list[tuple[int, int]]:
    """Return who was served before whom although that one waited at that time, and had asked earlier."""
    return [
        (first.shard_id, later.shard_id)
        for number, first in enumerate(line)
        for later in line[number + 1 :]
        if first.bucket == later.bucket
        and first.queued_s is not None
        and later.queued_s is not None
        and later.queued_s < first.granted_s - BLUR_S
        and later.asked_s < first.asked_s - BLUR_S
    ]


def _at_s(facts: dict[str, Any]) -> float:
    return datetime.fromisoformat(facts["at"]).timestamp()
