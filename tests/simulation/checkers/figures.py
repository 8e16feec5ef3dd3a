"""Checks which of Discord's figures a leader believes, and how much of them. It knows no day and no charge."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.ledger import ReplicaEvent, Write
from nats_identify.schedule.grants import HoldRecord
from nats_identify.schedule.model import (
    MS,
    Confirmation,
    LimitsFetched,
    LimitsFetchStarted,
    Outcome,
    Refused,
    Release,
    Reply,
    Undeliverable,
)
from tests.simulation.violation import Violation
from tests.view import remaining_of

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


@dataclass(slots=True)
class Asked:
    """One question to Discord: in which term, and the turns that its answer may not show."""

    term: int
    uncounted: set[str]
    at_ns: int


@dataclass(slots=True)
class Desk:
    """What one coordinator has written and was told, by its own clock."""

    records: tuple[HoldRecord, ...] = ()
    written_at_ns: int = 0
    used_at_ns: dict[str, int] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)
    asked: Asked | None = None
    believes_from_ns: int = 0  # it led and trusted nothing: turns that it does not know of have been used by then


class Figures:
    """``figure``: one asked for in another term is not believed; less is left than it says, by every turn that it may
    not show: unanswered when it was asked for, or used less than a window before, or granted since. Who leads and
    trusts nothing believes none that it asked for before any turn that it cannot know must have been used.
    """

    def __init__(self) -> None:
        self._desks: dict[str, Desk] = {}
        self._made_by: dict[str, str] = {}  # by grant: its id does not tell

    def _desk(self, name: str) -> Desk:
        desk = self._desks.get(name)
        if desk is None:
            desk = self._desks[name] = Desk()
        return desk

    def told(self, coordinator: "Coordinator", event: ReplicaEvent, now_ns: int) -> None:
        """A coordinator is told something."""
        desk = self._desk(coordinator.name)
        kind = type(event)
        if kind is LimitsFetchStarted:
            window_ns = coordinator.settings.timing.window_ns
            used_since_ns = now_ns - window_ns + MS
            uncounted = {
                record.grant.grant_id
                for record in desk.records
                if _is_unanswered(desk, record, now_ns)
                or (
                    self._is_of(coordinator, record.grant.grant_id)
                    and desk.used_at_ns.get(record.grant.grant_id, 0) > used_since_ns
                    and not _is_over(desk, record, now_ns)  # told late: it was used a window ago by then
                )
            }
            desk.asked = Asked(coordinator.replica.term, uncounted, now_ns)
        elif kind is Confirmation:
            assert isinstance(event, Confirmation)
            if event.outcome is Outcome.DECLINED:
                desk.unused.add(event.grant_id)
            else:
                is_over = any(r.grant.grant_id == event.grant_id and _is_over(desk, r, now_ns) for r in desk.records)
                desk.used_at_ns.setdefault(event.grant_id, 0 if is_over else now_ns)  # 0: a window ago and longer
        elif kind is Undeliverable or kind is Release:
            assert isinstance(event, Undeliverable | Release)
            desk.unused.add(event.grant_id)

    def writes(self, coordinator: "Coordinator", write: Write, now_ns: int) -> None:
        """A coordinator writes: what it grants now, no figure that is under way shows."""
        desk = self._desk(coordinator.name)
        if desk.records is write.ledger.grants:
            return  # the same once more: its holds count from the first
        for record in write.ledger.grants:
            self._made_by.setdefault(record.grant.grant_id, coordinator.name)
        before = {record.grant.grant_id for record in desk.records}
        desk.records, desk.written_at_ns = write.ledger.grants, now_ns
        if desk.asked is not None:
            granted = {r.grant.grant_id for r in desk.records if r.grant.grant_id not in before and r.outcome is None}
            desk.asked.uncounted |= {name for name in granted if self._is_of(coordinator, name)}

    def sends(self, coordinator: "Coordinator", reply: Reply) -> None:
        """A coordinator refuses: where it had granted to a plain requester, that grant was never sent."""
        desk, refused = self._desk(coordinator.name), reply.body
        if type(refused) is not Refused:
            return
        for record in desk.records:
            if (
                not record.grant.managed
                and record.grant.request_id == refused.request_id
                and self._is_of(coordinator, record.grant.grant_id)
            ):
                desk.unused.add(record.grant.grant_id)

    def leads(self, coordinator: "Coordinator", must_hold_ns: int, now_ns: int) -> None:
        """A coordinator begins to lead and trusts nothing."""
        self._desks.setdefault(coordinator.name, Desk()).believes_from_ns = now_ns + must_hold_ns

    def believed(self, coordinator: "Coordinator", figure: LimitsFetched) -> None:
        """A leader takes Discord's answer."""
        desk, at_ns = self._desks[coordinator.name], coordinator.engine.now_ns
        asked, desk.asked = desk.asked, None
        if asked is None or asked.term != coordinator.replica.term:
            raise Violation("figure", at_ns, f"{coordinator.name} believes what was asked for in another term")
        if asked.at_ns + MS < desk.believes_from_ns:
            early_ms = (desk.believes_from_ns - asked.at_ns) // MS
            raise Violation("figure", at_ns, f"{coordinator.name} believes what it asked for {early_ms} ms too early")
        said, left = figure.limits.remaining, remaining_of(coordinator.replica.schedule)
        if said is None or left is None:
            return
        most = said - len(asked.uncounted)
        if left > most:
            what = f"{coordinator.name} has {left} left; Discord says {said}, {len(asked.uncounted)} of them in the air"
            raise Violation("figure", at_ns, what)

    def _is_of(self, coordinator: "Coordinator", grant_id: str) -> bool:
        """Whether this one granted it: of another's turn it may have read the answer before it heard it."""
        return self._made_by.get(grant_id) == coordinator.name


def _is_unanswered(desk: Desk, record: HoldRecord, now_ns: int) -> bool:
    """For certain: its hold is not over by any count, and nobody has said what became of it."""
    if not record.grant.request_id or record.outcome is not None or record.grant.grant_id in desk.unused:
        return False
    return record.grant.grant_id not in desk.used_at_ns and not _is_over(desk, record, now_ns)


def _is_over(desk: Desk, record: HoldRecord, now_ns: int) -> bool:
    """Whether its hold is over, or nearly so."""
    return record.hold_ns - (now_ns - desk.written_at_ns) <= MS
