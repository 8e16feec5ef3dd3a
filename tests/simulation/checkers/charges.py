"""Checks the arithmetic of the day's budget, and what frees a turn, from one entry to the next. It knows no Discord."""

from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger, ReplicaEvent, Write
from nats_identify.schedule.grants import HoldRecord
from nats_identify.schedule.model import MS, SECOND, Confirmation, LimitsFetched, Outcome, Release, Undeliverable
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


class Charges:
    """The promises about a granted turn.

    ``charge``: every new grant costs one, every grant that was proven unused, or never sent by the leader that made it,
    gives one back, and nothing else counts; another total of settings changes what is left by the difference. A figure
    of Discord, the end of a day and a lost ledger begin the count anew.
    ``freed``: a turn that nobody answered leaves the ledger before its time only on proof: a decline, a 503, an
    operator's word, or that nobody was ever told of it.
    """

    def __init__(self, day_ns: int) -> None:
        self._day_ns = day_ns
        self._charged_at_ns = 0
        self._figures: dict[str, int] = {}
        self._static: set[str] = set()
        self._proofs: dict[str, set[str]] = {}  # by instance: the grants that it was told were not used
        self._published: set[str] = set()
        self._is_lost = False
        self._losses = 0
        self._led_by: dict[str, tuple[str, int]] = {}  # by grant: whose entry was the first to have it, in which term
        self._last_sent: dict[str, Ledger] = {}  # by instance
        self._made: dict[tuple[str, int, int], tuple[int, int]] = {}  # by entry: when, and after how many figures

    def told(self, coordinator: "Coordinator", event: ReplicaEvent) -> None:
        """Count the figures that a replica was told, and keep the proofs."""
        kind = type(event)
        if coordinator.settings.static is not None:
            self._static.add(coordinator.name)
        if kind is LimitsFetched:
            self._figures[coordinator.name] = self._figures.get(coordinator.name, 0) + 1
        elif kind in {Undeliverable, Release} or (kind is Confirmation and event.outcome is Outcome.DECLINED):  # type: ignore[union-attr]  # by its kind
            assert isinstance(event, Undeliverable | Confirmation | Release)
            self._proofs.setdefault(coordinator.name, set()).add(event.grant_id)

    def is_static(self, instance: str) -> bool:
        """Whether this replica has settings, and cannot ask Discord."""
        return instance in self._static

    def granted(self, grant_id: str) -> None:
        """A requester is told of this grant."""
        self._published.add(grant_id)

    def writes(self, write: Write, now_ns: int) -> None:
        """A replica sends a write."""
        ledger = write.ledger
        if self._last_sent.get(ledger.instance) == ledger:
            return  # sent once more to settle it: it was made before
        self._last_sent[ledger.instance] = ledger
        key = (ledger.instance, ledger.term, ledger.sequence)
        self._made.setdefault(key, (now_ns, self._figures.get(ledger.instance, 0)))

    def applied(self, ledger: Ledger, before: Ledger | None, at_ns: int) -> None:
        """The stream has stored an entry."""
        charged_at_ns = self._charged_at_ns
        for record in ledger.grants:
            self._led_by.setdefault(record.grant.grant_id, (ledger.instance, ledger.term))
        known = {record.grant.grant_id for record in before.grants} if before is not None else set()
        if any(record.grant.grant_id not in known and record.grant.request_id for record in ledger.grants):
            self._charged_at_ns = at_ns
        was_lost, self._is_lost = self._is_lost, False
        made = self._made.get((ledger.instance, ledger.term, ledger.sequence))
        if was_lost or made is None or before is None:
            return
        elapsed_ns: int | None = None  # where another wrote before: seen at some time since
        if before.instance == ledger.instance:
            made_before = self._made.get((before.instance, before.term, before.sequence))
            if made_before is None:
                return
            elapsed_ns = made[0] - made_before[0]
            self._look_for_freed(ledger, before, elapsed_ns)
            has_figure = made_before[1] != made[1]
        else:
            has_figure = made[1] > 0  # told before it led
        if ledger.term != before.term and self._losses:
            has_figure = True  # it remembers what the ledger lost
        is_static = ledger.instance in self._static  # to the others a new day comes with a figure
        has_settings = is_static or ledger.static_day is not None  # one that can ask keeps them for those that cannot
        has_new_day = has_settings and _has_new_day(ledger, before)
        if is_static and before.reset_in_ns is None and at_ns - charged_at_ns >= self._day_ns:
            has_new_day = True  # nobody knew when the last one began: it has ended a whole day after its last turn
        may_differ = is_static and before.static_day is not None
        if not has_figure and (before.total == ledger.total or may_differ) and not has_new_day:
            self._compare(ledger, before, elapsed_ns)

    def lost(self) -> None:
        """What was in the ledger is gone."""
        self._made.clear()
        self._is_lost = True
        self._losses += 1

    def _look_for_freed(self, ledger: Ledger, before: Ledger, elapsed_ns: int) -> None:
        proofs = self._proofs.get(ledger.instance, ())
        for record in _gone(ledger, before):
            is_proven = record.grant.grant_id in proofs or record.grant.grant_id not in self._published
            if _is_early(record, elapsed_ns) and not is_proven:
                early_ms = record.hold_ns / MS
                what = f"{record.grant.grant_id} is freed {early_ms:.0f} ms early, and nobody told {ledger.instance}"
                raise Violation("freed", 0, what)

    def _compare(self, ledger: Ledger, before: Ledger, elapsed_ns: int | None) -> None:
        if before.remaining is None or ledger.remaining is None or ledger.total is None:
            return
        known = {record.grant.grant_id for record in before.grants}
        new = sum(1 for record in ledger.grants if record.grant.grant_id not in known and record.grant.request_id)
        proofs = self._proofs.get(ledger.instance, ())
        gone = _gone(ledger, before)
        back = [record for record in gone if record.grant.grant_id in proofs]
        sure = sum(1 for record in back if elapsed_ns is not None and _is_early(record, elapsed_ns))
        if elapsed_ns is not None and ledger.term == before.term:
            never_sent = [r for r in gone if r.grant.grant_id not in self._published and r.grant.grant_id not in proofs]
            sure += sum(
                1 for record in never_sent if self._led_by.get(record.grant.grant_id) == (ledger.instance, ledger.term)
            )
        perhaps = sum(
            1 for record in gone if record.grant.grant_id in proofs or record.grant.grant_id not in self._published
        )
        begun = before.remaining + ledger.total - (before.total or ledger.total)
        least_left, most_left = begun - new + sure, begun - new + perhaps
        if ledger.remaining < min(least_left, ledger.total) or ledger.remaining > most_left:
            expected = f"{least_left}" if least_left == most_left else f"{least_left} to {most_left}"
            given = f"{sure} to {perhaps} given back"
            what = f"{begun} left, {new} new, {given}: {ledger.remaining}, not {expected}"
            raise Violation("charge", 0, f"{ledger.instance} {ledger.age}: {what}")


def _gone(ledger: Ledger, before: Ledger) -> list[HoldRecord]:
    """The turns that were unanswered, and are not there any more."""
    here = {record.grant.grant_id for record in ledger.grants}
    return [r for r in before.grants if r.grant.grant_id not in here and r.outcome is None and r.grant.request_id]


def _is_early(record: HoldRecord, elapsed_ns: int) -> bool:
    """Whether its hold cannot be over; one confirmed since then lasts a second at least."""
    return record.hold_ns > elapsed_ns + 2 * MS and elapsed_ns < SECOND


def _has_new_day(ledger: Ledger, before: Ledger) -> bool:
    if before.reset_in_ns is None:
        return False
    return ledger.reset_in_ns is None or ledger.reset_in_ns > before.reset_in_ns
