"""Checks that a write which the stream refuses is not repeated faster than a lease needs. It judges no content."""

from typing import TYPE_CHECKING, Final

from coordinator.core.ledger import LedgerRead, ReplicaEvent, WriteUnsettled, Written
from nats_identify.schedule.model import MS, SECOND
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator

FIRST_PAUSE_NS: Final = 250 * MS
PAUSE_MAX_NS: Final = SECOND


class Pace:
    """``pace``: between a refusal and the next write lie a quarter of a second at first, twice as much each time.

    Never more is demanded than a third of the lease, or a second.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._refusals: dict[str, int] = {}  # by instance, since a write of its own was last done
        self._next_ns: dict[str, int] = {}

    def told(self, coordinator: "Coordinator", event: ReplicaEvent, now_ns: int) -> None:
        """Keep count of the refusals that each replica was told of."""
        kind, name = type(event), coordinator.name
        if kind is WriteUnsettled:
            assert isinstance(event, WriteUnsettled)
            if event.is_refused:
                self.refused += 1
                self._refusals[name] = count = self._refusals.get(name, 0) + 1
                max_ns = min(coordinator.settings.lease_ns // 3, PAUSE_MAX_NS)
                self._next_ns[name] = now_ns + min(max_ns, FIRST_PAUSE_NS << min(count - 1, 8))
        elif kind is Written:
            self._forget(name)
        elif kind is LedgerRead:
            assert isinstance(event, LedgerRead)
            if event.ledger is not None and event.ledger.instance == name:  # it was done after all
                self._forget(name)

    def writes(self, coordinator: "Coordinator", now_ns: int) -> None:
        """A replica sends a write."""
        early_ns = self._next_ns.get(coordinator.name, 0) - now_ns
        if early_ns > 0:
            what = f"{coordinator.name} repeats a refused write {early_ns / MS:.0f} ms too early"
            raise Violation("pace", coordinator.engine.now_ns, what)

    def _forget(self, name: str) -> None:
        self._refusals.pop(name, None)
        self._next_ns.pop(name, None)
