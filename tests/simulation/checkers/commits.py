"""Checks how replicas use the ledger: written before said, one write at a time, terms that rise. It judges no grant."""

from collections import Counter
from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger, LedgerRead, ReplicaEvent, TrafficReceived, Write, WriteUnsettled, Written
from nats_identify.schedule import model
from nats_identify.schedule.model import MS
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


READ_MAX_NS = 1100 * MS
"""A candidate looks whether it is deaf before it reads; the read may take so long."""

BLANKETS_MAX = 40
"""Records that hold every bucket: each takeover that trusts nothing leaves one, until its hold is over."""


class Commits:
    """The promises about the ledger.

    ``commit``: a grant is in the ledger before anybody hears of it. ``same grant``: every copy is identical.
    ``one write``: no second write before the first has an outcome. ``settle``: an unknown outcome is settled by
    reading before anything else is written. ``lease``: nothing is said after a leader's own lease.
    ``deaf``: who hears nothing for a lease does not lead.
    ``terms``: a successor's term is higher, a writer's sequence goes up by one. ``bounded``: the ledger holds
    about one grant for each bucket.
    """

    def __init__(self) -> None:
        self._committed: set[str] = set()
        self._bodies: dict[str, tuple[object, ...]] = {}
        self._under_way: dict[str, tuple[Ledger, int]] = {}  # by instance: the write, and when it was sent
        self._unsettled: dict[str, Ledger] = {}
        self._repeats: dict[str, Ledger] = {}  # by instance: what may be written once more, to settle it
        self._heard_ns: dict[str, int] = {}
        self._lease_until_ns: dict[str, int] = {}
        self._leaders: dict[int, str] = {}
        self._lost_until_ns = -1
        self._sent: list[Ledger] = []  # since the last loss
        self._sent_before_a_loss: set[Ledger] = set()

    def told(self, coordinator: "Coordinator", event: ReplicaEvent, now_ns: int) -> None:
        """Keep count of what each replica may know of its writes."""
        kind = type(event)
        name = coordinator.name
        if kind is Written:
            _, sent_at_ns = self._under_way.pop(name)
            self._lease_until_ns[name] = sent_at_ns + coordinator.settings.lease_ns
        elif kind is WriteUnsettled:
            self._unsettled[name], _ = self._under_way.pop(name)
            self._repeats[name] = self._unsettled[name]
        elif kind is TrafficReceived:
            self._heard_ns[name] = now_ns
        elif kind is LedgerRead and name in self._unsettled:
            assert isinstance(event, LedgerRead)
            ours, found = self._unsettled.pop(name), event.ledger
            if found is not None and (found.instance, found.age) == (ours.instance, ours.age):
                self._lease_until_ns[name] = now_ns + coordinator.settings.lease_ns  # at most

    def writes(self, coordinator: "Coordinator", write: Write, now_ns: int) -> None:
        """A replica sends a write."""
        name = coordinator.name
        if name in self._under_way:
            raise Violation("one write", coordinator.engine.now_ns, f"{name} writes while it writes")
        if name in self._unsettled:
            raise Violation(
                "settle", coordinator.engine.now_ns, f"{name} writes before it knows what became of the last"
            )
        self._under_way[name] = write.ledger, now_ns
        self._sent.append(write.ledger)
        is_repeated = self._repeats.pop(name, None) == write.ledger
        deaf_ns = now_ns - self._heard_ns.get(name, 0)
        if (
            write.ledger.leader is not None
            and not is_repeated
            and deaf_ns > coordinator.settings.lease_ns + READ_MAX_NS
        ):
            what = f"{name} leads, and has heard nothing for {deaf_ns / MS:.0f} ms"
            raise Violation("deaf", coordinator.engine.now_ns, what)

    def speaks(self, coordinator: "Coordinator", now_ns: int) -> None:
        """A replica says something to a requester, or to whoever listens."""
        if now_ns > self._lease_until_ns.get(coordinator.name, 0):
            raise Violation("lease", coordinator.engine.now_ns, f"{coordinator.name} speaks after its lease")

    def granted(self, grant: model.Granted) -> None:
        """A replica sends a grant, or a copy of one."""
        if grant.grant_id not in self._committed:
            raise Violation("commit", 0, f"{grant.grant_id} is told before it is in the ledger")
        body = (grant.shard_id, grant.bucket, grant.request_id, grant.renewal, grant.use_within_ns)
        if self._bodies.setdefault(grant.grant_id, body) != body:
            raise Violation("same grant", 0, f"{grant.grant_id} was {self._bodies[grant.grant_id]}, is now {body}")

    def applied(self, ledger: Ledger, before: Ledger | None, now_ns: int) -> None:
        """The stream has stored an entry."""
        self._committed.update(record.grant.grant_id for record in ledger.grants)
        if ledger in self._sent_before_a_loss:
            self._leaders.clear()  # a late write, on a number that has come again: it undoes what was written since
        leads = self._leaders.setdefault(ledger.term, ledger.instance)
        if leads != ledger.instance and now_ns <= self._lost_until_ns:
            self._leaders[ledger.term] = ledger.instance  # see `lost`
        elif leads != ledger.instance:
            raise Violation("terms", 0, f"{ledger.instance} and {leads} write in term {ledger.term}")
        if before is not None and now_ns > self._lost_until_ns:
            is_same = ledger.instance == before.instance
            if ledger.age <= before.age or (not is_same and ledger.term == before.term):
                raise Violation(
                    "terms", 0, f"{ledger.age} by {ledger.instance} after {before.age} by {before.instance}"
                )
        counts = Counter(
            (record.grant.max_concurrency, record.grant.bucket) for record in ledger.grants if record.grant.request_id
        )
        for (number, bucket), count in counts.items():
            if count > 1:
                raise Violation("one turn", 0, f"{count} live grants in bucket {bucket} of {number}")
        if len(ledger.grants) - sum(counts.values()) > BLANKETS_MAX:
            raise Violation("bounded", 0, f"{len(ledger.grants)} records in the ledger")

    def lost(self, until_ns: int) -> None:
        """What was in the ledger is gone: terms may be used again by those who do not know.

        Revisions too: who led before may still write on a number that has come again, until its lease is over. Nobody
        who took over meanwhile has granted anything by then: whoever trusts nothing holds everything first.
        """
        self._leaders.clear()
        self._lost_until_ns = until_ns
        self._sent_before_a_loss.update(self._sent)
        self._sent.clear()
