"""What the tiny cluster must never do. It knows what was sent and stored, and nothing of how."""

from dataclasses import dataclass, field

from coordinator.core.ledger import Ledger
from nats_identify.schedule.model import SECOND, Granted
from tests.simulation.violation import Violation


@dataclass(slots=True)
class Judge:
    """The promises, each with a name.

    ``window``: two IDENTIFYs are a window apart. ``budget``: no more of them than the day has. ``twice``: a request is
    used once. ``commit``: a grant is in the ledger before it leaves. ``same grant``: each copy is identical.
    ``lease``: nothing is said after a leader's own lease. ``two leaders``: who grants is who wrote last.
    ``terms``: terms and sequences rise. ``one turn``: one live grant in the bucket. ``charge``: the day has paid for
    every turn that is live or was used, and for no more than were granted. A lost ledger ends what it alone can show.
    The cluster itself says ``starts``, ``one write``, ``settle`` and ``sleeps``.
    """

    window_ns: int
    total: int
    last_ns: int | None = None
    used: dict[str, str] = field(default_factory=dict)  # by request
    committed: dict[str, None] = field(default_factory=dict)  # in an order of its own, whatever the hash seed
    written: dict[str, None] = field(default_factory=dict)
    bodies: dict[str, tuple[object, ...]] = field(default_factory=dict)
    is_lost: bool = False

    def identify(self, request_id: str, grant_id: str, now_ns: int) -> None:
        """Discord receives an IDENTIFY."""
        if request_id in self.used:
            raise Violation("twice", now_ns, f"{request_id} by {grant_id}, after {self.used[request_id]}")
        self.used[request_id] = grant_id
        if self.last_ns is not None and now_ns - self.last_ns < self.window_ns:
            gap = f"{(now_ns - self.last_ns) / SECOND:.3f} s after the last one"
            raise Violation("window", now_ns, f"{request_id} identifies {gap}")
        if len(self.used) > self.total and not self.is_lost:
            raise Violation("budget", now_ns, f"{len(self.used)} of {self.total}")
        self.last_ns = now_ns

    def speaks(self, name: str, lease_until_ns: int, now_ns: int) -> None:
        """A replica says something to a shard."""
        if now_ns > lease_until_ns:
            raise Violation("lease", now_ns, f"{name} speaks after its lease")

    def grants(self, grant: Granted, instance: str, ledger: Ledger | None, lease_until_ns: int, now_ns: int) -> None:
        """A grant, or a copy of one, leaves a replica."""
        if grant.grant_id not in self.committed:
            raise Violation("commit", now_ns, f"{grant.grant_id} leaves before it is in the ledger")
        body = (grant.shard_id, grant.bucket, grant.request_id, grant.renewal, grant.use_within_ns)
        if self.bodies.setdefault(grant.grant_id, body) != body:
            raise Violation("same grant", now_ns, f"{grant.grant_id} was {self.bodies[grant.grant_id]}, is {body}")
        is_within = now_ns < lease_until_ns  # at its very end the next one may begin
        if ledger is not None and ledger.instance != instance and is_within and not self.is_lost:
            raise Violation("two leaders", now_ns, f"{instance} grants, and {ledger.instance} leads")

    def sends(self, entry: Ledger) -> None:
        """A replica sends an entry."""
        self.written.update((record.grant.grant_id, None) for record in entry.grants if record.grant.request_id)

    def applied(self, entry: Ledger, before: Ledger | None, now_ns: int) -> None:
        """The stream has stored an entry."""
        self.committed.update((record.grant.grant_id, None) for record in entry.grants)
        live = {r.grant.grant_id for r in entry.grants if r.grant.request_id and r.outcome is None}
        if len(live) > 1:
            raise Violation("one turn", now_ns, f"{len(live)} live grants")
        if self.is_lost:
            return
        if before is not None:
            is_same = entry.instance == before.instance
            if entry.age <= before.age or (not is_same and entry.term == before.term):
                raise Violation("terms", now_ns, f"{entry.instance} {entry.age} after {before.instance} {before.age}")
        if entry.remaining is not None:
            spent, owed = self.total - entry.remaining, live | set(self.used.values())
            if not len(owed) <= spent <= len(self.written):
                what = f"{spent} spent; {len(owed)} used or live, {len(self.written)} granted"
                raise Violation("charge", now_ns, what)
