"""When a leader could last count on being heard, and whom it has told of its turn since. It judges nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger, LedgerRead, ReplicaEvent, TrafficReturned, Write, WriteUnsettled, Written
from nats_identify.schedule.model import Queued, Reason

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


@dataclass(slots=True)
class Ear:
    """One coordinator's dealings with its shards, by its own clock.

    Attributes:
        since_ns: what it said before may have been lost: it began to lead, a commit was lost, its traffic came back.
        slow_ns: a commit was slow: what it said right before, and what was answered, may have been so too.
        perhaps_ns: the same, where it may have thought so or could do nothing meanwhile.
        quiet_until_ns: it grants nobody before.
        told_at_ns: when it last told whom that a turn is near.
        promised_at_ns: when it last told whom, for a bucket of which number, that it is next and its turn is near.
        perhaps_promised: those, and others that may have left the queue since, without a word to this judge.
        is_settling: its last write had no outcome; the next may repeat it, and grants nobody then.
    """

    since_ns: int = 0
    slow_ns: int = 0
    perhaps_ns: int = 0
    quiet_until_ns: int = 0
    told_at_ns: dict[str, int] = field(default_factory=dict)
    promised_at_ns: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    perhaps_promised: set[str] = field(default_factory=set)
    is_settling: bool = False
    term: int = 0
    written_at_ns: int = 0
    write: Write | None = None
    number: int | None = None


class Attention:
    """The ears of all coordinators."""

    def __init__(self) -> None:
        self._ears: dict[str, Ear] = {}

    def of(self, name: str) -> Ear:
        """Return what is known of this one."""
        ear = self._ears.get(name)
        if ear is None:
            ear = self._ears[name] = Ear()
        return ear

    def told(self, coordinator: "Coordinator", event: ReplicaEvent, now_ns: int) -> None:
        """A coordinator was told something."""
        kind, ear = type(event), self.of(coordinator.name)
        if kind is WriteUnsettled:
            ear.since_ns = ear.perhaps_ns = now_ns
            ear.is_settling = True
        elif kind is TrafficReturned:
            ear.since_ns = ear.perhaps_ns = now_ns
            ear.quiet_until_ns = now_ns + coordinator.settings.timing.nudge_lead_ns // 2
        elif kind is Written:
            if ear.is_settling:
                ear.perhaps_ns = now_ns
            ear.is_settling = False
            _written(coordinator, ear, now_ns)
        elif kind is LedgerRead:
            assert isinstance(event, LedgerRead)
            ear.perhaps_ns = now_ns  # it may have settled a write
            if event.ledger is not None and ear.write is not None and _is(event.ledger, ear.write.ledger):
                _written(coordinator, ear, now_ns)

    def writes(self, coordinator: "Coordinator", write: Write, now_ns: int) -> None:
        """A coordinator sends a write."""
        ear = self.of(coordinator.name)
        ear.write, ear.written_at_ns = write, now_ns
        if write.ledger.max_concurrency != ear.number:  # its queues are new ones: it asks from the first on again
            ear.number, ear.perhaps_ns = write.ledger.max_concurrency, now_ns

    def nudged(self, coordinator: "Coordinator", request_ids: Sequence[str], now_ns: int) -> None:
        """A leader tells these, unasked, that their turn is near."""
        for request_id in request_ids:
            self.of(coordinator.name).told_at_ns[request_id] = now_ns

    def promised(self, coordinator: "Coordinator", queued: Queued, now_ns: int) -> None:
        """A leader tells this one that it is the first, and when its turn is."""
        lead_ns = coordinator.settings.timing.nudge_lead_ns
        is_near = queued.nudge or (queued.reason is Reason.WINDOW and (queued.eta_ns or 0) <= lead_ns)
        if queued.position == 1 and is_near:
            promised = now_ns, queued.max_concurrency
            ear = self.of(coordinator.name)
            ear.perhaps_promised.add(queued.request_id)
            if ear.promised_at_ns.get(queued.request_id, (-1, None))[0] < ear.since_ns:
                ear.promised_at_ns[queued.request_id] = promised

    def resumed(self, coordinator: "Coordinator") -> None:
        """A coordinator runs again after a pause, in which it could tell nobody."""
        self.of(coordinator.name).perhaps_ns = coordinator.clock()


def _written(coordinator: "Coordinator", ear: Ear, now_ns: int) -> None:
    if ear.write is None:
        return
    is_slow = now_ns - ear.written_at_ns > step_ns(coordinator)
    if is_slow:
        ear.slow_ns = ear.perhaps_ns = now_ns
    if ear.write.ledger.term != ear.term:
        ear.since_ns = ear.perhaps_ns = now_ns
    ear.term, ear.write = ear.write.ledger.term, None


def _is(found: Ledger, ours: Ledger) -> bool:
    return (found.instance, found.age) == (ours.instance, ours.age)


def step_ns(coordinator: "Coordinator") -> int:
    """How long a shard that was told may take to answer: a tenth of the lead."""
    return coordinator.settings.timing.nudge_lead_ns // 10
