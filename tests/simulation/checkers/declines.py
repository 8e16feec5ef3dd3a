"""Checks that who was told of a decline keeps no turn shut for it. It knows no hold."""

from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger, ReplicaEvent
from nats_identify.schedule.model import MS, Confirmation, Outcome
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


class Declines:
    """``declined``: a replica that was told that another's grant was declined, and nothing else of it before, never
    writes it as unanswered.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], Outcome] = {}  # by replica and grant: the first answer
        self._written: dict[str, Ledger] = {}
        self._granted_by: dict[str, str] = {}  # by grant: the replica that wrote it first

    def told(self, coordinator: "Coordinator", event: ReplicaEvent) -> None:
        """A replica is about to be told something."""
        if type(event) is Confirmation:
            self._told.setdefault((coordinator.name, event.grant_id), event.outcome)

    def answered(self, name: str) -> int:
        """To how many grants this replica was told an answer."""
        return sum(1 for told, _ in self._told if told == name)

    def writes(self, coordinator: "Coordinator", ledger: Ledger) -> None:
        """A replica sends a write."""
        if self._written.get(coordinator.name) is ledger:
            return  # the same once more, to settle it
        self._written[coordinator.name] = ledger
        for record in ledger.grants:
            first = self._told.get((coordinator.name, record.grant.grant_id))
            granted_by = self._granted_by.setdefault(record.grant.grant_id, coordinator.name)
            is_own = granted_by == coordinator.name  # perhaps its commit was not settled yet
            if first is Outcome.DECLINED and record.outcome is None and record.hold_ns > MS and not is_own:
                what = f"{coordinator.name} knows that {record.grant.grant_id} was declined, and holds its bucket"
                raise Violation("declined", coordinator.engine.now_ns, what)
