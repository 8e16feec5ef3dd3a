"""Checks whom a leader grants: in order, and only who is there to take it. It keeps its own list of who asked.

The promise: of those in one bucket whose newest renewal is fresh, the first of the highest priority is granted;
first is who has asked for the longest, by what the leader was told. Who declined, could not be reached or has
just been granted is passed over until it renews.
"""

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from coordinator.core.ledger import GrantRecord, Ledger, LedgerRead, LedgerSeen, ReplicaEvent, Write
from coordinator.core.replica import Role
from nats_identify.schedule.model import (
    DAY,
    MS,
    SECOND,
    Answer,
    Ask,
    Cancel,
    NudgeUndeliverable,
    Outcome,
    Undeliverable,
)
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


def _blocks(record: GrantRecord, bucket: int, number: int) -> bool:
    step = gcd(record.max_concurrency, number)
    return record.hold_ns > 0 and bucket % step == record.shard_id % step


SILENCE_NS = 12 * SECOND
"""After it a coordinator may have forgotten an asking, and taken it for a new one."""


@dataclass(slots=True)
class Known:
    """What one coordinator was told of one asking, by its own clock."""

    shard_id: int
    priority: int
    is_certain: bool  # a well-formed managed asking, which no coordinator may have refused
    renewal: int
    heard_at_ns: int  # the newest renewal, for certain
    perhaps_heard_at_ns: int  # that of an asking which had been forgotten may be an older one
    last_at_ns: int
    first_at_ns: int  # the earliest and the latest that it can be said to have asked
    latest_first_ns: int
    is_away: bool = False  # perhaps: a coordinator may pass it over
    has_declined: bool = False  # for certain: a coordinator must pass it over


class Order:
    """The promises to those who wait.

    ``order``: nobody is overtaken without a reason. ``fresh``: nobody is granted who may be gone.
    ``idle``: no bucket stands open while somebody waits for it who is there.
    """

    def __init__(self) -> None:
        self._askings: dict[str, dict[str, Known]] = {}
        self._requests: dict[str, tuple[str, int]] = {}  # by grant: the request, and the renewal that it echoes
        self._seen: dict[str, set[str]] = {}  # by coordinator: the grants in its last write
        self._ended: dict[str, set[str]] = {}  # by coordinator: the requests withdrawn or identified
        self._written: dict[str, Ledger] = {}
        self._withdrawn: dict[str, set[str]] = {}
        self._standing: set[tuple[str, str]] = set()  # by coordinator and grant: known, and not yet declined
        self._met: set[tuple[str, str]] = set()

    @property
    def requests(self) -> int:
        """How many different askings any one coordinator has heard of, at most."""
        heard = [self._askings[name].keys() | self._ended.get(name, set()) for name in self._askings]
        return max((len(ids) for ids in heard), default=0)

    def told(self, coordinator: "Coordinator", event: ReplicaEvent, now_ns: int) -> None:
        """Keep the list."""
        kind = type(event)
        askings = self._askings.setdefault(coordinator.name, {})
        if kind is Ask:
            assert isinstance(event, Ask)
            if event.request_id not in self._ended.get(coordinator.name, ()):
                self._asked(askings, event, now_ns)
        elif kind is Cancel:
            assert isinstance(event, Cancel)
            self._end(coordinator.name, event.request_id)
            self._withdrawn.setdefault(coordinator.name, set()).add(event.request_id)
        elif kind is Answer:
            assert isinstance(event, Answer)
            self._answered(coordinator.name, askings, event)
        elif kind is Undeliverable:
            assert isinstance(event, Undeliverable)
            self._is_away(askings, self._requests.get(event.grant_id, ("", 0))[0])
        elif kind is NudgeUndeliverable:
            assert isinstance(event, NudgeUndeliverable)
            self._is_away(askings, event.request_id)
        elif kind is LedgerSeen or kind is LedgerRead:
            assert isinstance(event, LedgerSeen | LedgerRead)
            self._read(coordinator.name, event.ledger)

    def _read(self, name: str, ledger: Ledger | None) -> None:
        askings = self._askings[name]
        for record in ledger.grants if ledger is not None else ():
            known = askings.get(record.request_id)
            if (name, record.grant_id) not in self._met:
                self._met.add((name, record.grant_id))
                self._standing.add((name, record.grant_id))
            if record.outcome is not None:
                self._end(name, record.request_id)
            elif known is not None and known.renewal <= record.renewal:
                known.is_away = True  # its turn may have come to nothing

    def writes(self, coordinator: "Coordinator", write: Write, now_ns: int) -> None:
        """A replica writes: whoever is newly granted in it has just been chosen."""
        if self._written.get(coordinator.name) is write.ledger:
            return  # the same once more, to settle it
        self._written[coordinator.name] = write.ledger
        seen = self._seen.get(coordinator.name, set())
        self._seen[coordinator.name] = {record.grant_id for record in write.ledger.grants}
        taken = {record.request_id for record in write.ledger.grants if record.outcome is None}
        for record in write.ledger.grants:
            if record.grant_id in self._requests:
                continue
            self._requests[record.grant_id] = record.request_id, record.renewal
            if record.grant_id not in seen and record.request_id:
                self._chosen(coordinator, record, taken, write.ledger.max_concurrency or 1, now_ns)
        if coordinator.replica.role is Role.LEADER and write.ledger.leader is not None:
            self._look_for_idle_buckets(coordinator, write.ledger, now_ns)
        self._read(coordinator.name, write.ledger)

    def _look_for_idle_buckets(self, coordinator: "Coordinator", ledger: Ledger, now_ns: int) -> None:
        """A leader that writes has just granted all that it could; whoever is left out had no bucket or no budget."""
        number, fresh_ns = ledger.max_concurrency, coordinator.settings.timing.fresh_ns
        if number is None or ledger.remaining is None:
            return
        taken = {record.request_id for record in ledger.grants}
        for request_id, known in self._askings[coordinator.name].items():
            kept_back = coordinator.settings.reserve if known.priority < 1 else 0
            if not known.is_certain or known.is_away or request_id in taken or ledger.remaining <= kept_back:
                continue
            if now_ns - known.heard_at_ns > fresh_ns - MS:
                continue
            bucket = known.shard_id % number
            if not any(_blocks(record, bucket, number) for record in ledger.grants):
                what = f"bucket {bucket} of {coordinator.name} is open, and {request_id} waits"
                raise Violation("idle", coordinator.engine.now_ns, what)

    # --- the list

    @staticmethod
    def _asked(askings: dict[str, Known], ask: Ask, now_ns: int) -> None:
        first_at_ns = now_ns - ask.waited_ns
        known = askings.get(ask.request_id)
        if ask.is_copy and known is not None:
            return
        if known is None:
            is_certain = ask.managed and ask.max_concurrency is not None
            heard_at_ns = now_ns if not ask.is_copy else ask.heard_at_ns or -DAY
            askings[ask.request_id] = Known(
                *(ask.shard_id, ask.priority, is_certain, ask.renewal, heard_at_ns, heard_at_ns, now_ns),
                *(first_at_ns, first_at_ns),
            )
            return
        known.first_at_ns = min(known.first_at_ns, first_at_ns)
        known.latest_first_ns = max(known.latest_first_ns, first_at_ns)
        may_be_forgotten = now_ns - known.last_at_ns > SILENCE_NS - SECOND
        if ask.renewal >= known.renewal:
            known.last_at_ns = now_ns
        if ask.renewal > known.renewal or may_be_forgotten:
            known.perhaps_heard_at_ns, known.has_declined = now_ns, False
        if ask.renewal > known.renewal:
            known.renewal, known.heard_at_ns, known.is_away = ask.renewal, now_ns, False
            known.is_certain = ask.managed and ask.max_concurrency is not None

    def _answered(self, name: str, askings: dict[str, Known], answer: Answer) -> None:
        request_id, echoed = self._requests.get(answer.grant_id, ("", 0))
        if answer.outcome is Outcome.DECLINED:
            self._is_away(askings, request_id)
            known = askings.get(request_id)
            is_known = (name, answer.grant_id) in self._standing  # otherwise nobody there knows whose answer it is
            if is_known and known is not None and known.renewal <= echoed:
                known.has_declined = True
            self._standing.discard((name, answer.grant_id))
        else:
            self._end(name, request_id)

    def _end(self, name: str, request_id: str) -> None:
        self._askings[name].pop(request_id, None)
        self._ended.setdefault(name, set()).add(request_id)

    @staticmethod
    def _is_away(askings: dict[str, Known], request_id: str) -> None:
        if request_id in askings:
            askings[request_id].is_away = True

    # --- the judgement

    def _chosen(
        self, coordinator: "Coordinator", record: GrantRecord, taken: set[str], number: int, now_ns: int
    ) -> None:
        askings = self._askings[coordinator.name]
        mine = askings.get(record.request_id)
        at_ns, fresh_ns = coordinator.engine.now_ns, coordinator.settings.timing.fresh_ns
        if mine is None:
            if record.request_id in self._withdrawn.get(coordinator.name, ()):
                raise Violation("fresh", at_ns, f"{record.request_id} is granted by {coordinator.name}, but withdrawn")
            return  # an answer ended it here; whoever has not seen the grant does not know whose answer it was
        if mine.is_certain and (mine.has_declined or now_ns - mine.perhaps_heard_at_ns > fresh_ns):
            heard = (
                "older than its decline"
                if mine.has_declined
                else f"{(now_ns - mine.perhaps_heard_at_ns) / MS:.0f} ms old"
            )
            raise Violation(
                "fresh", at_ns, f"{record.request_id} is granted by {coordinator.name}, its renewal {heard}"
            )
        for request_id, other in askings.items():
            if other.shard_id % number != record.bucket or request_id == record.request_id:
                continue
            if (
                not other.is_certain
                or other.is_away
                or request_id in taken
                or now_ns - other.heard_at_ns > fresh_ns - MS
            ):
                continue
            is_before = other.latest_first_ns + 2 * MS < mine.first_at_ns
            if other.priority > mine.priority or (other.priority == mine.priority and is_before):
                waits = f"{request_id} has waited for {(now_ns - other.first_at_ns) / SECOND:.3f} s"
                says = f"{record.request_id} ({(now_ns - mine.first_at_ns) / SECOND:.3f} s) is granted by"
                raise Violation("order", at_ns, f"{waits}, {says} {coordinator.name} before it")
