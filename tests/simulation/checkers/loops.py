"""Checks that a shard that comes back again and again waits longer each time. It knows the settings, and no guard."""

from collections import deque
from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger
from tests.simulation.violation import Violation
from tests.view import is_deferred

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator
    from tests.simulation.plan import CrashLoop


class Loops:
    """The promise of the crash-loop guard.

    ``loops``: in a period a shard identifies no more often than it may, and then once after each wait, twice as long
    each time; and nobody is held back who was not granted so often.
    """

    def __init__(self, crash_loop: "CrashLoop | None", use_within_ns: int) -> None:
        self._plan = crash_loop
        self._use_within_ns = use_within_ns
        self._sent: dict[int, deque[int]] = {}
        self._granted: dict[int, set[str]] = {}
        self._forgotten: set[str] = set()

    def writes(self, ledger: Ledger) -> None:
        """A replica sends a write: it counts what it grants from here on."""
        if self._plan is not None:
            for record in ledger.grants:
                self._granted.setdefault(record.grant.shard_id, set()).add(record.grant.grant_id)

    def sent(self, shard_id: int, grant_id: str, now_ns: int) -> None:
        """A shard writes IDENTIFY."""
        if self._plan is None or grant_id in self._forgotten:
            return
        span_ns = self._plan.period_ns - self._use_within_ns  # their turns were granted within a period, then
        sent = self._sent.setdefault(shard_id, deque())
        sent.append(now_ns)
        while sent[0] <= now_ns - span_ns:
            sent.popleft()
        waits = (self._plan.period_ns // self._plan.first_wait_ns + 1).bit_length() - 1
        if len(sent) > self._plan.grants + waits:
            what = f"shard {shard_id} identified {len(sent)} times in {span_ns / 1e9:.0f} s"
            raise Violation("loops", now_ns, what)

    def pardoned(self, shard_id: int) -> None:
        """A coordinator was told to forget its grants, those that are not used yet among them."""
        self._sent.pop(shard_id, None)
        self._forgotten |= self._granted.get(shard_id, set())

    def held_back(self, shard_id: int, now_ns: int) -> None:
        """A leader says that this shard crash-loops."""
        granted = len(self._granted.get(shard_id, ()))
        if self._plan is None or granted < self._plan.grants:
            raise Violation("loops", now_ns, f"shard {shard_id} is held back after {granted} grants")


def is_held_back(coordinator: "Coordinator", request_id: str, now_ns: int) -> bool:
    """Whether this coordinator lets a request wait on account of its shard: `Loops` judges whether it should."""
    return is_deferred(coordinator.replica.schedule, request_id, now_ns)
