"""What each coordinator was told of each request, in a list of its own, for the judges of order. It judges nothing."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger, LedgerRead, LedgerSeen, ReplicaEvent
from nats_identify.schedule.model import (
    DAY,
    MS,
    SECOND,
    Cancel,
    Confirmation,
    Kick,
    NudgeUndeliverable,
    Outcome,
    RequestReceived,
    Undeliverable,
)
from tests.simulation.checkers.attention import Ear
from tests.view import has_ended, knows_grant

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator

SILENCE_NS = 12 * SECOND
"""After it a coordinator may have forgotten a request, and taken it for a new one."""


@dataclass(slots=True)
class Known:
    """What one coordinator was told of one request, by its own clock."""

    shard_id: int
    priority: int
    is_certain: bool  # a well-formed managed request, which no coordinator may have refused
    renewal: int
    heard_at_ns: int  # the newest renewal, for certain
    perhaps_heard_at_ns: int  # that of a request which had been forgotten may be an older one
    last_at_ns: int
    first_at_ns: int  # the earliest and the latest that it can be said to have asked
    latest_first_ns: int
    source: str = ""
    asked_us: int = 0
    first_told_at_ns: int = 0  # when this coordinator was told of it, by another or by itself
    is_copy: bool = False  # another coordinator told of it, and where it stood there
    is_away: bool = False  # perhaps: a coordinator may pass it over
    has_declined: bool = False  # for certain: a coordinator must pass it over
    is_over: bool = False  # perhaps: it may have been told that the request has ended
    goes_before: set[str] = field(default_factory=set)  # promised ones, that a sibling asked later stands before

    def is_silent(self, now_ns: int) -> bool:
        """Whether it has been silent for so long that it may have been given up."""
        return now_ns - self.last_at_ns > SILENCE_NS - SECOND

    def is_before(self, other: "Known") -> bool:
        """Whether it stands before the other one, whatever a coordinator was told first.

        Of one process exactly; of two, where the estimates leave no doubt.
        """
        if self.priority != other.priority:
            return self.priority > other.priority
        if self.source and self.source == other.source:
            return self.asked_us < other.asked_us
        return self.latest_first_ns + 2 * MS < other.first_at_ns


class Requests:
    """Who has asked whom for what, and who has ended."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Known]] = {}
        self._of_source: dict[tuple[str, str], dict[str, Known]] = {}  # the same, by coordinator and source
        self._requests: dict[str, tuple[str, int]] = {}  # by grant: the request, and the renewal that it echoes
        self._ended: dict[str, set[str]] = {}  # by coordinator: the requests withdrawn or identified
        self._withdrawn: dict[str, set[str]] = {}
        self._newest: dict[str, Ledger] = {}  # by coordinator: the last entry that it wrote or took over
        self._served: dict[tuple[str, str], int] = {}  # by coordinator and request: the renewal last granted
        self._standing: set[tuple[str, str]] = set()  # by coordinator and grant: known, and not yet declined
        self._met: set[tuple[str, str]] = set()
        self._perhaps_over: set[tuple[str, str]] = set()  # those of whom it heard nothing but a hint that they are
        self._overtaken: set[tuple[str, str]] = set()  # an answer came before its grant was seen

    def of(self, name: str) -> dict[str, Known]:
        """Return whom this coordinator knows to wait."""
        return self._known.setdefault(name, {})

    def is_withdrawn(self, name: str, request_id: str) -> bool:
        """Whether this coordinator was told that the request is withdrawn."""
        return request_id in self._withdrawn.get(name, ())

    def may_be_forgotten(self, name: str, request_id: str, now_ns: int) -> bool:
        """Whether this coordinator may have given up the request since it was last heard of."""
        known = self.of(name).get(request_id)
        return known is not None and known.is_silent(now_ns)

    def count(self, name: str) -> int:
        """How many different requests this coordinator has heard of."""
        return len(self.of(name).keys() | self._ended.get(name, set()))

    def is_new(self, grant_id: str, request_id: str, renewal: int) -> bool:
        """Whether nobody has written this grant before."""
        is_new = grant_id not in self._requests
        self._requests.setdefault(grant_id, (request_id, renewal))
        return is_new

    def told(self, coordinator: "Coordinator", event: ReplicaEvent, now_ns: int, ear: Ear) -> None:
        """Keep the list; ``ear`` has those that this coordinator has told that they are next."""
        kind, name = type(event), coordinator.name
        requests = self.of(name)
        if kind is RequestReceived:
            assert isinstance(event, RequestReceived)
            if event.request_id not in self._ended.get(name, ()):
                self._requested(name, event, now_ns, ear)
        elif kind is Cancel:
            assert isinstance(event, Cancel)
            self._end(name, event.request_id)
            self._withdrawn.setdefault(name, set()).add(event.request_id)
        elif kind is Kick:
            assert isinstance(event, Kick)
            if has_ended(coordinator.replica.schedule, event.request_id):  # not if it is granted, or the leader refused
                self._end(name, event.request_id)
        elif kind is Confirmation:
            assert isinstance(event, Confirmation)
            self._answered(coordinator, requests, event)
        elif kind is Undeliverable:
            assert isinstance(event, Undeliverable)
            _is_away(requests, self._requests.get(event.grant_id, ("", 0))[0])
        elif kind is NudgeUndeliverable:
            assert isinstance(event, NudgeUndeliverable)
            _is_away(requests, event.request_id)
        elif kind is LedgerSeen or kind is LedgerRead:
            assert isinstance(event, LedgerSeen | LedgerRead)
            self.read(name, event.ledger, is_sure=kind is LedgerRead)

    def _requested(self, name: str, event: RequestReceived, now_ns: int, ear: Ear) -> None:
        requests = self.of(name)
        is_new = event.request_id not in requests
        _asked(requests, event, now_ns)
        if is_new and event.source:
            siblings = self._of_source.setdefault((name, event.source), {})
            siblings[event.request_id] = requests[event.request_id]
        if (name, event.request_id) in self._perhaps_over:  # a late message of one that was identified
            _is_perhaps_over(requests[event.request_id])
        self._placed(name, requests[event.request_id], ear)
        if event.renewal <= self._served.get((name, event.request_id), -1):
            _is_away(requests, event.request_id)

    def read(self, name: str, ledger: Ledger | None, *, is_sure: bool = True) -> None:
        """This coordinator knows what stands in the ledger; a hint is not listened to while it writes."""
        if ledger is not None and self._is_taken_over(name, ledger):
            self._newest[name] = ledger
            self.writes(name, ledger, is_sure=is_sure)

    def committed(self, name: str, ledger: Ledger) -> None:
        """This coordinator knows that its own entry is the ledger."""
        self._newest[name] = ledger

    def _is_taken_over(self, name: str, ledger: Ledger) -> bool:
        """Whether it is newer than all before, or the newest again: an older copy, or another of this age, is not."""
        newest = self._newest.get(name)
        if newest is None or ledger.age > newest.age:
            return True
        return ledger.age == newest.age and (ledger.instance, ledger.lineage) == (newest.instance, newest.lineage)

    def writes(self, name: str, ledger: Ledger, *, is_sure: bool = True) -> None:
        """This coordinator has put these grants into a ledger, or takes them over from one."""
        requests = self.of(name)
        for record in ledger.grants:
            known = requests.get(record.grant.request_id)
            self._served[name, record.grant.request_id] = record.grant.renewal
            if is_sure and (name, record.grant.grant_id) not in self._met:
                self._met.add((name, record.grant.grant_id))
                self._standing.add((name, record.grant.grant_id))
            if record.outcome is not None or (name, record.grant.grant_id) in self._overtaken:
                self._over(name, record.grant.request_id, is_sure=is_sure)
            elif known is not None and known.renewal <= record.grant.renewal:
                known.is_away = True  # its turn may have come to nothing

    def _placed(self, name: str, mine: Known, ear: Ear) -> None:
        """One asked before it in its process stands no later than it; it may stand behind those that were promised.

        It stands before those that a sibling asked after it stands before, even if that one leaves.
        """
        for other in self._of_source[name, mine.source].values() if mine.source else ():
            earlier, later = (mine, other) if mine.asked_us < other.asked_us else (other, mine)
            earlier.first_at_ns = min(earlier.first_at_ns, later.first_at_ns)
            if earlier is mine is not later:
                mine.goes_before |= later.goes_before
                promised = ear.promised_at_ns.items()
                mine.goes_before |= {one for one, (at_ns, _) in promised if later.first_told_at_ns <= at_ns}
        requests = self.of(name)
        for request_id in ear.perhaps_promised:
            promised_one = requests.get(request_id)
            if promised_one is not None and promised_one is not mine and promised_one.priority == mine.priority:
                mine.latest_first_ns = max(mine.latest_first_ns, promised_one.latest_first_ns + MS)

    def _answered(self, coordinator: "Coordinator", requests: dict[str, Known], answer: Confirmation) -> None:
        name = coordinator.name
        request_id, echoed = self._requests.get(answer.grant_id, ("", 0))
        if answer.outcome is Outcome.DECLINED:
            _is_away(requests, request_id)
            known = requests.get(request_id)
            is_known = (name, answer.grant_id) in self._standing  # otherwise nobody there knows whose answer it is
            if is_known and known is not None and known.renewal <= echoed:
                known.has_declined = True
            self._standing.discard((name, answer.grant_id))
        else:  # nobody there knows whose answer it is, before the ledger tells
            is_sure = knows_grant(coordinator.replica.schedule, answer.grant_id)
            if not is_sure and (name, answer.grant_id) not in self._met:  # of one whose hold is over it stays unknown
                self._overtaken.add((name, answer.grant_id))
            self._over(name, request_id, is_sure=is_sure)

    def _over(self, name: str, request_id: str, *, is_sure: bool) -> None:
        known = self.of(name).get(request_id)
        if is_sure:
            self._end(name, request_id)
        elif known is not None:
            _is_perhaps_over(known)
        else:
            self._perhaps_over.add((name, request_id))

    def _end(self, name: str, request_id: str) -> None:
        known = self.of(name).pop(request_id, None)
        if known is not None and known.source:
            del self._of_source[name, known.source][request_id]
        self._ended.setdefault(name, set()).add(request_id)


def _asked(requests: dict[str, Known], ask: RequestReceived, now_ns: int) -> None:
    received_at_ns = ask.first_at_ns(now_ns)
    first_at_ns = received_at_ns - ask.waited_ns
    place_ns = first_at_ns if ask.place_at_ns is None else ask.place_at_ns
    known = requests.get(ask.request_id)
    if ask.is_copy and known is not None:
        return
    if known is None:
        is_certain = ask.managed and ask.max_concurrency is not None
        heard_at_ns = ask.number_at_ns(now_ns) if not ask.is_copy else ask.renewed_at_ns or -DAY
        requests[ask.request_id] = Known(
            *(ask.shard_id, ask.priority, is_certain, ask.renewal, heard_at_ns, heard_at_ns, now_ns),
            *(min(first_at_ns, place_ns), max(first_at_ns, place_ns), ask.source, ask.asked_us, now_ns, ask.is_copy),
        )
        return
    known.first_at_ns = min(known.first_at_ns, first_at_ns)
    known.latest_first_ns = max(known.latest_first_ns, first_at_ns)
    may_be_forgotten = known.is_silent(now_ns)
    if ask.renewal >= known.renewal:
        known.last_at_ns = now_ns
    if ask.renewal > known.renewal or may_be_forgotten:
        known.perhaps_heard_at_ns, known.has_declined = ask.number_at_ns(now_ns), False
    if ask.renewal > known.renewal:
        known.renewal, known.heard_at_ns, known.is_away = ask.renewal, ask.number_at_ns(now_ns), False
        known.is_certain = ask.managed and ask.max_concurrency is not None and not known.is_over


def _is_perhaps_over(known: Known) -> None:
    known.is_over, known.is_certain, known.is_away = True, False, True


def _is_away(requests: dict[str, Known], request_id: str) -> None:
    if request_id in requests:
        requests[request_id].is_away = True
