"""Checks the arithmetic of the day's budget from one entry of the ledger to the next. It knows no Discord."""

from typing import TYPE_CHECKING

from coordinator.core.ledger import GrantRecord, Ledger, ReplicaEvent, Write
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


class Charges:
    """``charge``: every new grant costs one, every grant proven unused gives one back, and nothing else counts.

    A grant that leaves the ledger unanswered before its hold is over was declined or met 503: it gives one back.
    A figure of Discord, the end of a day and a lost ledger begin the count anew.
    """

    def __init__(self) -> None:
        self._figures: dict[str, int] = {}
        self._is_lost = False
        self._losses = 0
        self._made: dict[tuple[str, int, int], tuple[int, int]] = {}  # by entry: when, and after how many figures

    def told(self, coordinator: "Coordinator", event: ReplicaEvent) -> None:
        """Count the figures that a replica was told."""
        if type(event) is model.Figure:
            self._figures[coordinator.name] = self._figures.get(coordinator.name, 0) + 1

    def writes(self, write: Write, now_ns: int) -> None:
        """A replica sends a write."""
        ledger = write.ledger
        key = (ledger.instance, ledger.term, ledger.sequence)
        self._made.setdefault(key, (now_ns, self._figures.get(ledger.instance, 0)))

    def applied(self, ledger: Ledger, before: Ledger | None) -> None:
        """The stream has stored an entry."""
        was_lost, self._is_lost = self._is_lost, False
        if was_lost:
            return
        made = self._made.get((ledger.instance, ledger.term, ledger.sequence))
        if made is None or before is None or before.remaining is None or ledger.remaining is None:
            return
        if before.total != ledger.total:
            return
        if before.instance == ledger.instance:
            made_before = self._made.get((before.instance, before.term, before.sequence))
            if made_before is None or made_before[1] != made[1]:
                return
            elapsed_ns = made[0] - made_before[0]
        elif made[1] or self._losses:
            return  # it was told figures before it led, or remembers what the ledger has lost
        else:
            elapsed_ns = 0  # seen at some time since
        if _has_new_day(ledger, before):
            return
        self._compare(ledger, before, elapsed_ns)

    def lost(self) -> None:
        """What was in the ledger is gone."""
        self._made.clear()
        self._is_lost = True
        self._losses += 1

    def _compare(self, ledger: Ledger, before: Ledger, elapsed_ns: int) -> None:
        assert before.remaining is not None
        assert ledger.remaining is not None
        assert ledger.total is not None
        here = {record.grant_id for record in ledger.grants}
        known = {record.grant_id for record in before.grants}
        new = sum(1 for record in ledger.grants if record.grant_id not in known and record.request_id)
        gone = [r for r in before.grants if r.grant_id not in here and r.outcome is None and r.request_id]
        sure = 0 if before.instance != ledger.instance else sum(1 for r in gone if _was_given_back(r, elapsed_ns))
        most = len(gone)
        least_left = before.remaining - new + sure
        most_left = before.remaining - new + most
        if ledger.remaining < min(least_left, ledger.total) or ledger.remaining > most_left:
            expected = f"{least_left}" if least_left == most_left else f"{least_left} to {most_left}"
            what = (
                f"{before.remaining} left, {new} new, {sure} to {most} given back: {ledger.remaining}, not {expected}"
            )
            raise Violation("charge", 0, f"{ledger.instance} {ledger.age}: {what}")


def _was_given_back(record: GrantRecord, elapsed_ns: int) -> bool:
    """Whether nothing else can explain that it is gone; a confirmed hold lasts a second at least."""
    return record.hold_ns > elapsed_ns + 2 * MS and elapsed_ns < SECOND


def _has_new_day(ledger: Ledger, before: Ledger) -> bool:
    if before.reset_in_ns is None:
        return False
    return ledger.reset_in_ns is None or ledger.reset_in_ns > before.reset_in_ns + 30 * SECOND
