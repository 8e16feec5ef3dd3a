"""Checks whom a leader grants: in order, only who is there to take it, and nobody before one who was not asked."""

from math import gcd
from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger, ReplicaEvent, Write, Written
from nats_identify.schedule.grants import HoldRecord
from nats_identify.schedule.model import MS, SECOND, RequestReceived
from tests.simulation.checkers.attention import Attention, step_ns
from tests.simulation.checkers.loops import is_held_back
from tests.simulation.checkers.requests import SILENCE_NS, Known, Requests
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator

STEPS_SPARE = 4
"""So many steps more than the doubling takes may pass before a bucket of the dead is granted to the living."""


class Order:
    """The promises to those who wait.

    ``order``: of those in one bucket whose newest renewal is fresh, the first of the highest priority is granted;
    first is who has asked for the longest, by what the leader was told, and of one process exactly as it asked.
    ``promised``: one that was told that it is next, and its turn near, is not overtaken by an equal of another
    process that the leader heard of later; but such a one goes before those that its process asked after it.
    ``overtaken``: one before it whose renewal is stale was told of its turn, and had a step to answer.
    ``fresh``: nobody is granted who may be gone, or who declined and has not renewed.
    ``idle``: no bucket stands open while somebody waits for it who is there and whom no pause covers, but for the
    steps that are given to those before.
    """

    def __init__(self, *, is_judging: bool = True) -> None:
        self._is_judging = is_judging  # not among clients that break the contract: what they asked is anybody's guess
        self.requests = Requests()
        self.attention = Attention()
        self._written: dict[str, Ledger] = {}
        self._idle_since_ns: dict[str, dict[str, int]] = {}  # by coordinator and request

    def told(self, coordinator: "Coordinator", event: ReplicaEvent, now_ns: int) -> None:
        """A replica was told something."""
        self.attention.told(coordinator, event, now_ns)
        if type(event) is RequestReceived and self.requests.may_be_forgotten(
            coordinator.name, event.request_id, now_ns
        ):
            self.attention.of(coordinator.name).promised_at_ns.pop(event.request_id, None)  # it may have left the line
        if type(event) is Written and coordinator.name in self._written:
            self.requests.committed(coordinator.name, self._written[coordinator.name])
        self.requests.told(coordinator, event, now_ns, self.attention.of(coordinator.name))

    def writes(self, coordinator: "Coordinator", write: Write, now_ns: int) -> None:
        """A replica writes: whoever is newly granted in it has just been chosen."""
        name, ledger = coordinator.name, write.ledger
        self.attention.writes(coordinator, write, now_ns)
        if self._written.get(name) is ledger:
            return  # the same once more, to settle it
        self._written[name] = ledger
        taken = {record.grant.request_id for record in ledger.grants if record.outcome is None}
        for record in ledger.grants:
            is_new = self.requests.is_new(record.grant.grant_id, record.grant.request_id, record.grant.renewal)
            if is_new and record.grant.request_id and self._is_judging:
                self._chosen(coordinator, record, taken, ledger.max_concurrency or 1, now_ns)
        if coordinator.replica.is_leader and ledger.leader is not None and self._is_judging:
            self._look_for_idle_buckets(coordinator, ledger, now_ns)
        self.requests.writes(name, ledger)

    # --- the one who was chosen

    def _chosen(
        self, coordinator: "Coordinator", record: HoldRecord, taken: set[str], number: int, now_ns: int
    ) -> None:
        requests = self.requests.of(coordinator.name)
        mine = requests.get(record.grant.request_id)
        self._demand_promises_kept(coordinator, record, taken, number, now_ns)
        self.attention.of(coordinator.name).promised_at_ns.pop(record.grant.request_id, None)
        self.attention.of(coordinator.name).perhaps_promised.discard(record.grant.request_id)
        if mine is None:
            if self.requests.is_withdrawn(coordinator.name, record.grant.request_id):
                self._blame("fresh", coordinator, record, "but withdrawn")
            return  # an answer ended it here; whoever has not seen the grant does not know whose answer it was
        fresh_ns = coordinator.settings.timing.fresh_ns
        if mine.is_certain and mine.has_declined:
            self._blame("fresh", coordinator, record, "its renewal older than its decline")
        if mine.is_certain and now_ns - mine.perhaps_heard_at_ns > fresh_ns:
            old_ms = (now_ns - mine.perhaps_heard_at_ns) / MS
            self._blame("fresh", coordinator, record, f"its renewal {old_ms:.0f} ms old")
        for request_id, other in requests.items():
            if (
                other.shard_id % number != record.grant.bucket
                or request_id == record.grant.request_id
                or request_id in taken
            ):
                continue
            if not other.is_certain or other.is_away or not other.is_before(mine):
                continue
            if is_held_back(coordinator, request_id, now_ns):
                continue
            if self._was_promised(coordinator, record.grant.request_id, mine, other, number):
                continue
            waits = f"before {request_id}, which has waited for {(now_ns - other.first_at_ns) / SECOND:.3f} s"
            if now_ns - other.heard_at_ns <= fresh_ns - MS:
                self._blame("order", coordinator, record, waits)
            if self._was_not_asked(coordinator, request_id, other, now_ns):
                self._blame("overtaken", coordinator, record, f"{waits}, and was not asked whether it is there")

    def _demand_promises_kept(
        self, coordinator: "Coordinator", record: HoldRecord, taken: set[str], number: int, now_ns: int
    ) -> None:
        requests = self.requests.of(coordinator.name)
        mine = requests.get(record.grant.request_id)
        fresh_ns = coordinator.settings.timing.fresh_ns
        for request_id, other in requests.items():
            if mine is None or other.shard_id % number != record.grant.bucket or request_id == record.grant.request_id:
                continue
            if request_id in taken or not other.is_certain or other.is_away or other.priority != mine.priority:
                continue
            if now_ns - other.heard_at_ns > fresh_ns - MS or is_held_back(coordinator, request_id, now_ns):
                continue
            if self._was_promised(coordinator, request_id, other, mine, number) and not mine.is_copy:
                self._blame("promised", coordinator, record, f"before {request_id}, which was told that it is next")

    def _was_promised(
        self, coordinator: "Coordinator", request_id: str, mine: Known, other: Known, number: int
    ) -> bool:
        """Whether it was told that it is next, before this leader was told of the other one, of another process."""
        ear = self.attention.of(coordinator.name)
        at_ns, of_number = ear.promised_at_ns.get(request_id, (-1, None))
        is_kept = at_ns >= max(ear.since_ns, 0) and of_number == number and mine.priority == other.priority
        is_later = other.first_told_at_ns > at_ns and (not mine.source or mine.source != other.source)
        return is_kept and is_later and request_id not in other.goes_before

    def _was_not_asked(self, coordinator: "Coordinator", request_id: str, other: Known, now_ns: int) -> bool:
        """Whether it stands in the line for certain, and nobody waited for its answer."""
        if now_ns - other.last_at_ns > SILENCE_NS - SECOND:
            return False  # it may have been given up
        ear = self.attention.of(coordinator.name)
        told_at_ns = ear.told_at_ns.get(request_id, -1)
        is_recent = now_ns - max(told_at_ns, ear.slow_ns) < step_ns(coordinator)
        is_long_ago = now_ns - told_at_ns >= coordinator.settings.timing.nudge_lead_ns
        return told_at_ns < ear.since_ns or (is_recent and not is_long_ago)

    @staticmethod
    def _blame(checker: str, coordinator: "Coordinator", record: HoldRecord, why: str) -> None:
        what = f"{record.grant.request_id} is granted by {coordinator.name}, {why}"
        raise Violation(checker, coordinator.engine.now_ns, what)

    # --- those who were not

    def _look_for_idle_buckets(self, coordinator: "Coordinator", ledger: Ledger, now_ns: int) -> None:
        """A leader that writes has just granted all that it could; whoever is left out had no bucket or no budget."""
        number, fresh_ns, name = ledger.max_concurrency, coordinator.settings.timing.fresh_ns, coordinator.name
        ear = self.attention.of(name)
        was_idle, is_idle = self._idle_since_ns.pop(name, {}), dict[str, int]()
        is_foreign = ledger.static_day is not None and coordinator.settings.static is None  # settings of others
        if number is None or ledger.remaining is None or is_foreign or ear.is_settling or now_ns < ear.quiet_until_ns:
            return
        self._idle_since_ns[name] = is_idle
        taken = {record.grant.request_id for record in ledger.grants}
        for request_id, known in self.requests.of(name).items():
            if ledger.paused is not None and ledger.paused.covers(known.priority):
                continue
            kept_back = coordinator.settings.reserve if known.priority < 1 else 0
            if not known.is_certain or known.is_away or request_id in taken or ledger.remaining <= kept_back:
                continue
            if now_ns - known.heard_at_ns > fresh_ns - MS:
                continue
            bucket = known.shard_id % number
            if is_held_back(coordinator, request_id, now_ns):
                continue
            if any(_blocks(record, bucket, number) for record in ledger.grants):
                continue
            since_ns = is_idle[request_id] = was_idle.get(request_id, now_ns)
            if now_ns - since_ns >= self._given_ns(coordinator, known, taken, number, now_ns):
                what = f"bucket {bucket} of {name} is open, and {request_id} waits"
                raise Violation("idle", coordinator.engine.now_ns, what)

    def _given_ns(self, coordinator: "Coordinator", known: Known, taken: set[str], number: int, now_ns: int) -> int:
        """How long the bucket may be open: those before may be asked first, twice as many each time."""
        bucket, before = known.shard_id % number, 0
        for request_id, other in self.requests.of(coordinator.name).items():
            if other is not known and other.shard_id % number == bucket and request_id not in taken:
                before += not known.is_before(other)
        if before == 0:
            return 0
        asked_ns = (before.bit_length() + STEPS_SPARE) * step_ns(coordinator) + 50 * MS
        ear = self.attention.of(coordinator.name)
        return asked_ns if now_ns - ear.perhaps_ns > asked_ns else now_ns  # it began to ask anew not long ago


def _blocks(record: HoldRecord, bucket: int, number: int) -> bool:
    step = gcd(record.grant.max_concurrency, number)
    return record.hold_ns > 0 and bucket % step == record.grant.shard_id % step
