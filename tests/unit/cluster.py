"""A few replicas and one ledger on a desk: time and faults by hand. It asserts only what must always hold."""

from typing import Any

from coordinator.core.ledger import (
    Ledger,
    LedgerRead,
    LedgerSeen,
    LedgerUnreadable,
    Read,
    Stopped,
    TrafficReceived,
    Write,
    WriteUnsettled,
    Written,
)
from coordinator.core.replica import Replica, Role
from coordinator.core.settings import Settings
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Limits, Timing
from tests.invariants import check_replica
from tests.view import buckets_of, view_of


class Cluster:
    """Replicas that hear everything, and a key with compare-and-set.

    ``hold_writes`` keeps writes from arriving; ``lose_acks`` does them and loses the answer. ``hold_reads`` keeps the
    answers of reads. ``refuse_writes`` refuses
    those of ``refused_names`` (None: of all), and keeps them in ``refused`` with the instant.
    """

    def __init__(self, *names, static=Limits(1, 1000, 1000), timing=None, fresh=True, **settings):  # noqa: B008  # frozen
        self.now_ns = 5_000 * SECOND
        self.ledger: Any = None  # a Ledger once one is written, which each test knows
        self.revision = 0
        self.written_on: int | None = None
        self.writes: list[Ledger] = []
        self.said: dict[str, list[model.ScheduleAction]] = {}
        self.grant_log: list[tuple[str, model.Granted]] = []  # by whom, what
        self.replicas: dict[str, Replica] = {}
        self.left: set[str] = set()
        self.frozen: set[str] = set()
        self.hold_writes = False
        self.hold_reads = False
        self.lose_acks = False
        self.refuse_writes = False
        self.refused_names: set[str] | None = None
        self.refused: list[tuple[int, Write]] = []
        self.held: list[tuple[str, Write]] = []
        self.held_reads: list[tuple[str, LedgerRead]] = []
        self.is_away = False
        self.is_reading_away = False
        self._options = {"timing": timing or Timing(), "static": static, "fresh_start": fresh, **settings}
        for name in names:
            self.start(name)

    def start(self, name, *, called=None, **settings):
        options = {**self._options, **settings}
        instance = f"{name}i{len(self.said)}"
        lease_ns = options.pop("lease_ns", 3 * SECOND)
        replica = Replica(Settings(called or name, "identify", instance, lease_ns=lease_ns, **options))
        self.replicas[name] = replica
        self.said.setdefault(name, [])
        self.tell(name, TrafficReceived())

    def kill(self, name):
        del self.replicas[name]

    def tell(self, name, event):
        if name in self.replicas and name not in self.frozen:
            replica = self.replicas[name]
            actions = replica.handle(event, self.now_ns)
            check_replica(replica)
            self._perform(name, actions)

    def tell_all(self, event):
        for name in list(self.replicas):
            self.tell(name, event)

    def ask(self, shard_id, **fields):
        buckets = buckets_of(next(iter(self.replicas.values())).schedule)
        fields = {"request_id": f"r{shard_id}", "managed": True, **fields}
        fields.setdefault("bucket", shard_id % buckets)
        self.tell_all(model.RequestReceived(shard_id=shard_id, reply_to=f"inbox.{fields['request_id']}", **fields))

    def answer(self, grant_id, outcome=model.Outcome.IDENTIFIED):
        self.tell_all(model.Confirmation(grant_id, outcome))

    def pass_ms(self, duration_ms, *, deaf=()):
        """Move time in steps of at most 10 ms; everyone's traffic connection beats."""
        end_ns = self.now_ns + int(duration_ms * MS)
        while self.now_ns < end_ns:
            self.now_ns = min(end_ns, self.now_ns + 10 * MS)
            for name in list(self.replicas):
                self.tell(name, model.Wake() if name in deaf else TrafficReceived())

    def view(self, name):
        """What this replica's schedule has now."""
        return view_of(self.replicas[name].schedule)

    def roles(self, role):
        return [name for name, replica in self.replicas.items() if replica.role is role]

    @property
    def leader(self):
        (name,) = self.roles(Role.LEADER)
        return name

    def release_held(self):
        held, self.held = self.held, []
        for name, write in held:
            self._write(name, write)

    def watch(self):
        """Everyone's watch shows what is there."""
        if self.ledger is not None:
            self.tell_all(LedgerSeen(self.ledger, self.revision))

    def restore(self, ledger, *, revision=None):
        """Somebody brings an older copy back."""
        self.ledger, self.revision, self.written_on = ledger, revision or self.revision + 1, None

    def _perform(self, name, actions):
        for action in actions:
            match action:
                case Read():
                    if self.is_away or self.is_reading_away:
                        self.tell(name, LedgerUnreadable())
                        continue
                    answer = LedgerRead(self.ledger, self.revision, self.revision == 0, self.written_on)
                    if self.hold_reads:
                        self.held_reads.append((name, answer))
                    else:
                        self.tell(name, answer)
                case Write() if self.hold_writes:
                    self.held.append((name, action))
                case Write():
                    self._write(name, action)
                case Stopped():
                    self.left.add(name)
                case _:
                    self.said[name].append(action)
                    if isinstance(action, model.Reply) and isinstance(action.body, model.Granted):
                        self.grant_log.append((name, action.body))

    def _write(self, name, write):
        if self.refuse_writes and (self.refused_names is None or name in self.refused_names):
            self.refused.append((self.now_ns, write))
            self.tell(name, WriteUnsettled(is_refused=True))
            return
        if self.is_away or write.revision != self.revision:
            self.tell(name, WriteUnsettled())
            return
        self.ledger, self.revision, self.written_on = write.ledger, self.revision + 1, write.revision
        self.writes.append(write.ledger)
        others = [other for other in list(self.replicas) if other != name]
        if self.lose_acks:
            self.tell(name, WriteUnsettled())
        else:
            self.tell(name, Written(self.revision))
        for other in others:
            self.tell(other, LedgerSeen(write.ledger, self.revision))


def shards(cluster):
    return [body.shard_id for _, body in cluster.grant_log]
