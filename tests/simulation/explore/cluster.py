"""The tiny cluster: what has been sent and has not arrived, and what can happen next. It searches nothing.

What is not a choice happens at once and in order: reads, renewals, heartbeats and what a leader says of a place in the
line. Choices are what becomes of a grant, of its answer, of a write that grants or takes over, and of a replica.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from coordinator.core.ledger import (
    Ledger,
    LedgerRead,
    LedgerSeen,
    Read,
    ReplicaAction,
    ReplicaEvent,
    TrafficReceived,
    Write,
    WriteUnsettled,
    Written,
)
from coordinator.core.replica import Replica
from coordinator.core.settings import Settings
from nats_identify import wire
from nats_identify.client.requester import (
    Begin,
    Decline,
    DeliverGrant,
    Identified,
    Received,
    Requester,
    RequesterEvent,
    SendAnswer,
    SendCancel,
    SendRequest,
    State,
    Tick,
    Withdraw,
)
from nats_identify.schedule import model
from nats_identify.schedule.model import SECOND, Limits, Outcome, Reply, Timing
from tests.simulation.explore.judge import Judge
from tests.simulation.key import ANY_REVISION
from tests.simulation.violation import Violation

LEASE_NS = 3 * SECOND
TIMEOUT_NS = SECOND
"""A write without an outcome is given up then, as the edge does; it may still be done later."""

PASS_MAX_NS = 20 * SECOND
STEPS_MAX = 2_000
"""So many events while time passes without a choice mean that something spins."""

WARM_UPS_MAX = 20

TOTAL = 5


def _middle() -> float:
    return 0.5


class Names:
    """Grant ids that can be copied with the rest."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.count = 0

    def __call__(self) -> str:
        """Return the next one."""
        self.count += 1
        return f"{self.instance}-{self.count}"


@dataclass(slots=True)
class Node:
    """One replica, and what the cluster knows of it."""

    replica: Replica
    heard_ns: int
    is_paused: bool = False
    mailbox: list[ReplicaEvent] = field(default_factory=list)
    open_write: Write | None = None  # sent, with no outcome yet
    must_read: bool = False  # nobody knows what became of the last write
    lease_until_ns: int = 0  # by the last sending of an entry that was stored
    sent: tuple[tuple[int, int], int] | None = None  # the age of the entry last sent, and when

    @property
    def instance(self) -> str:
        """Its name, unique to this life."""
        return self.replica.settings.instance


@dataclass(slots=True)
class Shard:
    """One shard, and the turn in its hand."""

    requester: Requester
    held: wire.Granted | None = None
    use_by_ns: int = 0
    answer_to: str = ""
    used: str = ""


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """Something sent that has not arrived: a write by an instance, a grant by an instance to a shard, or an answer."""

    kind: str
    by: str = ""
    write: Write | None = None
    sent_ns: int = 0
    is_late: bool = False  # its sender has given it up
    is_copy: bool = False  # it was delivered before: NATS says of no such message that nobody is there
    grant: model.Granted | None = None
    grant_id: str = ""
    outcome: Outcome | None = None


Event = tuple[str, ...]


class Cluster:
    """Two replicas, two shards, one key.

    Args:
        timings: of the first and the second replica.
        faults: how many things may go wrong.
    """

    def __init__(self, timings: tuple[Timing, Timing], faults: int) -> None:
        self.now_ns = 1000 * SECOND
        self.timings = dict(zip("ab", timings, strict=True))
        self.faults = faults
        self.lives = 0
        self.ledger: Ledger | None = None
        self.revision = 0
        self.written_on: int | None = None
        self.previous: Ledger | None = None
        self.nodes: dict[str, Node] = {}
        self.shards: list[Shard] = []
        self.pool: list[OnItsWay] = []
        self.judge = Judge(max(timing.window_ns for timing in timings), TOTAL)
        self._is_warm = False
        self._warm_up()

    def _warm_up(self) -> None:
        """The first replica leads, the second has seen the ledger move, and both shards ask."""
        self._start("a")
        self._start("b")
        for _ in range(WARM_UPS_MAX):
            self._pass(self.now_ns + 2 * SECOND)
            self._is_warm = self.revision >= 3 and not self.pool
            if self._is_warm:
                break
        else:
            raise Violation("starts", self.now_ns, "nobody comes to lead, and stays")
        for index in range(2):
            pace_ns = min(timing.nudge_lead_ns for timing in self.timings.values())
            self.shards.append(Shard(Requester(index, f"r{index}", jitter=_middle, max_concurrency=1, pace_ns=pace_ns)))
            self._step(index, Begin())

    def _start(self, name: str) -> None:
        self.lives += 1
        instance = f"{name}{self.lives}"
        limits = Limits(1, TOTAL, TOTAL)
        settings = Settings(name, "p", instance, self.timings[name], LEASE_NS, fresh_start=True, static=limits)
        replica = Replica(settings)
        replica.schedule._name_grant = Names(instance)
        self.nodes[name] = Node(replica, self.now_ns)
        self._tell(name, TrafficReceived())

    # --- what can happen

    def events(self) -> list[Event]:
        """Whatever can happen next, each as words."""
        found: list[Event] = [("time passes",)]
        for index, thing in enumerate(self.pool):
            found += [(what, str(index)) for what in self._fates(thing)]
        for index, shard in enumerate(self.shards):
            if shard.held is not None:
                found.append(("use", f"r{index}"))
            if self.faults:
                found += [(what, f"r{index}") for what in self._whims(shard)]
        for name, node in self.nodes.items():
            if node.is_paused:
                found.append(("run again", name))
            elif self.faults:
                found += [("pause", name), ("kill", name)]
        if self.faults:
            found += [("kill both, and start", name) for name in "ab" if self.nodes]
            found += [("delete the ledger",)] if self.ledger is not None else []
            found += [("put the entry before back",)] if self.previous is not None else []
        found += [("start", name) for name in "ab" if name not in self.nodes]
        return found

    def _fates(self, thing: OnItsWay) -> Iterable[str]:
        may_fail = self.faults > 0
        if thing.kind == "write":
            return ("done",) if thing.is_late or not may_fail else ("done", "done and not shown", "done, answer lost")
        if thing.kind == "grant":
            faults = ("is lost",) if thing.is_copy else ("used, and comes again", "is lost", "is for nobody")
            return ("arrives, used", "arrives", *(faults if may_fail else ()))
        return ("answered", *(("answer lost", "answered to a", "answered to b") if may_fail else ()))

    def _whims(self, shard: Shard) -> Iterable[str]:
        if shard.used:
            records = self.ledger.grants if self.ledger is not None else ()
            is_known = any(r.grant.grant_id == shard.used and r.outcome is not None for r in records)
            return ("says that it was not used",) if is_known else ()  # before, nobody could know better
        is_asking = shard.requester.state is State.ASKING
        return ("withdraw",) if is_asking else ("decline", "withdraw") if shard.held else ()

    def happen(self, event: Event) -> None:
        """Let it happen."""
        what, *about = event
        if what == "time passes":
            self._pass(self.now_ns + PASS_MAX_NS)
        elif about and about[0].isdigit():
            self._arrive(what, self.pool.pop(int(about[0])))
        elif about and about[0].startswith("r"):
            self._do(what, int(about[0][1:]))
        else:
            self._strike(what, about[0] if about else "")
        kept: list[OnItsWay] = []
        for thing in self.pool:
            late = thing.write if thing.is_late else None
            is_twice = late is not None and any(other.is_late and other.write == late for other in kept)
            if not is_twice and not self._is_spent(thing):
                kept.append(thing)
        self.pool = kept

    def _is_spent(self, thing: OnItsWay) -> bool:
        """Whether it changes nothing when it arrives: a write that lost, or a grant that nobody can use any more."""
        if thing.write is not None:
            return thing.is_late and thing.write.revision not in {self.revision, ANY_REVISION}
        if thing.grant is None:
            return False
        requester = self.shards[thing.grant.shard_id].requester
        sent_ns = requester._first_sent_ns.get(thing.grant.renewal)
        return sent_ns is not None and self.now_ns > sent_ns + thing.grant.use_within_ns + LEASE_NS

    def describe(self, event: Event) -> str:
        """Say it for people."""
        if len(event) > 1 and event[1].isdigit():
            thing = self.pool[int(event[1])]
            what = {"write": "write", "grant": "grant", "answer": "answer"}[thing.kind]
            facts = thing.grant_id or (thing.grant.grant_id if thing.grant else "")
            if thing.write is not None:
                facts = f"{thing.write.ledger.age} [{' '.join(r.grant.grant_id for r in thing.write.ledger.grants)}]"
            return f"{what} {facts} {thing.outcome or ''} of {thing.by}: {event[0]}"
        return " ".join(event)

    # --- each of them

    def _arrive(self, what: str, thing: OnItsWay) -> None:
        self.faults -= what not in {"done", "arrives", "arrives, used", "answered"}
        if thing.kind == "write":
            self._write_arrives(what, thing)
        elif thing.kind == "grant":
            self._grant_arrives(what, thing)
        elif what != "answer lost":
            assert thing.outcome is not None
            for name in list(self.nodes):
                if not what.startswith("answered to") or what.endswith(name):
                    self._tell(name, model.Confirmation(thing.grant_id, thing.outcome))

    def _write_arrives(self, what: str, thing: OnItsWay) -> None:
        assert thing.write is not None
        revision = self._store(thing.by, thing.write, thing.sent_ns)
        name = self._name_of(thing.by)
        if name is not None and not thing.is_late:
            is_told = revision is not None and what != "done, answer lost"
            self._tell_outcome(name, Written(revision or 0) if is_told else WriteUnsettled())
        if revision is not None and what != "done and not shown":
            self._show(thing.by)

    def _grant_arrives(self, what: str, thing: OnItsWay) -> None:
        assert thing.grant is not None
        if what == "is for nobody":
            name = self._name_of(thing.by)
            if name is not None:
                self._tell(name, model.Undeliverable(thing.grant.grant_id))
        elif what != "is lost":
            index = thing.grant.shard_id
            if what == "used, and comes again":
                self.pool.append(replace(thing, is_copy=True))
            self._step(index, Received(wire.reply_of(thing.grant, 1), thing.grant.grant_id))
            if what != "arrives":
                self._do("use", index)

    def _do(self, what: str, index: int) -> None:
        shard = self.shards[index]
        self.faults -= what != "use"
        if what == "use" and shard.held is not None:
            if self.now_ns > shard.use_by_ns:
                self._step(index, Decline(goes_on=True))
                return
            shard.used = shard.held.grant_id
            self.judge.identify(shard.requester.request_id, shard.used, self.now_ns)
            self._step(index, Identified())
        elif what == "decline":
            self._step(index, Decline(goes_on=True))
        elif what == "withdraw":
            self._step(index, Withdraw())
        elif what == "says that it was not used":  # it breaks the contract
            self.pool.append(OnItsWay("answer", grant_id=shard.used, outcome=Outcome.DECLINED))

    def _strike(self, what: str, name: str) -> None:
        self.faults -= what not in {"run again", "start"}
        if what == "pause":
            self.nodes[name].is_paused = True
        elif what == "run again":
            node = self.nodes[name]
            waiting, node.mailbox, node.is_paused = [model.Wake(), *node.mailbox], [], False
            for event in waiting:
                self._tell(name, event)
        elif what == "kill":
            self._kill(name)
        elif what.startswith("kill both"):
            for other in list(self.nodes):
                self._kill(other)
            self._start(name)
        elif what == "start":
            self._start(name)
        else:
            self.judge.is_lost = True
            self.ledger, self.written_on = (None if what.startswith("delete") else self.previous), None
            self.revision += 1
            self.previous = None

    def _kill(self, name: str) -> None:
        del self.nodes[name]

    # --- time

    def _pass(self, until_ns: int) -> None:
        """Let time pass until there is a new choice, or a turn is about to be too late, or nothing for a while."""
        landmarks = [at_ns for at_ns in self._last_moments() if at_ns > self.now_ns]
        until_ns = min([until_ns, *landmarks])
        begun = self._choices()
        for _ in range(STEPS_MAX):
            at_ns = min(self._deadlines(), default=until_ns)
            if at_ns >= until_ns:
                self.now_ns = until_ns
                return
            self.now_ns = max(self.now_ns, at_ns)
            self._wake()
            if self._choices() != begun and self._is_warm:
                return
            if not self._is_warm and self.pool:  # one in each step: two that depose each other never end
                self._arrive("done", self.pool.pop(0))
        raise Violation("sleeps", self.now_ns, "events without end, and no time passes")

    def _choices(self) -> object:
        """What can be chosen; another copy of a grant that is on its way is no new choice."""
        on_their_way = {(thing.kind, thing.by, thing.grant_id, thing.is_late) for thing in self.pool}
        grants = {thing.grant.grant_id for thing in self.pool if thing.grant is not None}
        return on_their_way, grants, [shard.held is None for shard in self.shards]

    def _last_moments(self) -> Iterable[int]:
        """When each turn that is on its way, or in hand, can last be used."""
        for shard in self.shards:
            if shard.held is not None:
                yield shard.use_by_ns
        for thing in self.pool:
            if thing.grant is not None:
                sent_ns = self.shards[thing.grant.shard_id].requester._first_sent_ns.get(thing.grant.renewal)
                if sent_ns is not None:
                    yield sent_ns + thing.grant.use_within_ns

    def _deadlines(self) -> Iterable[int]:
        for node in self.nodes.values():
            if not node.is_paused:
                yield node.heard_ns + LEASE_NS // 3
                deadline_ns = node.replica.next_deadline_ns()
                if deadline_ns is not None:
                    yield deadline_ns
        for shard in self.shards:
            deadline_ns = shard.requester.next_deadline_ns()
            if deadline_ns is not None:
                yield deadline_ns
        for thing in self.pool:
            if thing.kind == "write" and not thing.is_late:
                yield thing.sent_ns + TIMEOUT_NS

    def _wake(self) -> None:
        for index, thing in enumerate(self.pool):
            if thing.kind == "write" and not thing.is_late and self.now_ns >= thing.sent_ns + TIMEOUT_NS:
                self.pool[index] = replace(thing, is_late=True)
                name = self._name_of(thing.by)
                if name is not None:
                    self._tell_outcome(name, WriteUnsettled())
        for name, node in list(self.nodes.items()):
            if node.is_paused:
                continue
            if self.now_ns >= node.heard_ns + LEASE_NS // 3:
                node.heard_ns = self.now_ns
                self._tell(name, TrafficReceived())
            elif (deadline_ns := node.replica.next_deadline_ns()) is not None and self.now_ns >= deadline_ns:
                self._tell(name, model.Wake())
        for index, shard in enumerate(self.shards):
            deadline_ns = shard.requester.next_deadline_ns()
            if deadline_ns is not None and self.now_ns >= deadline_ns:
                self._step(index, Tick())

    # --- replicas

    def _name_of(self, instance: str) -> str | None:
        return next((name for name, node in self.nodes.items() if node.instance == instance), None)

    def _tell_outcome(self, name: str, event: Written | WriteUnsettled) -> None:
        node = self.nodes[name]
        node.open_write, node.must_read = None, isinstance(event, WriteUnsettled)
        self._tell(name, event)

    def _tell(self, name: str, event: ReplicaEvent) -> None:
        node = self.nodes[name]
        if node.is_paused:
            node.mailbox.append(event)
            return
        for action in node.replica.handle(event, self.now_ns):
            self._perform(name, node, action)

    def _perform(self, name: str, node: Node, action: ReplicaAction) -> None:
        if isinstance(action, Read):
            node.must_read = False
            self._tell(name, LedgerRead(self.ledger, self.revision, self.revision == 0, self.written_on))
        elif isinstance(action, Write):
            self._write(node, action)
        elif isinstance(action, Reply):
            self.judge.speaks(name, node.lease_until_ns, self.now_ns)
            body = action.body
            if isinstance(body, model.Granted):
                self.judge.grants(body, node.instance, self.ledger, node.lease_until_ns, self.now_ns)
                if sum(thing.grant is not None and thing.grant.grant_id == body.grant_id for thing in self.pool) < 2:
                    self.pool.append(OnItsWay("grant", node.instance, grant=body))  # of more copies the others are lost
            else:
                shard = next(s for s in self.shards if s.requester.request_id == body.request_id)
                self._step(self.shards.index(shard), Received(wire.reply_of(body, 1)))

    def _write(self, node: Node, write: Write) -> None:
        if node.open_write is not None:
            raise Violation("one write", self.now_ns, f"{node.instance} writes while it writes")
        if node.must_read:
            raise Violation("settle", self.now_ns, f"{node.instance} writes before it knows what became of the last")
        node.open_write, node.sent = write, (write.ledger.age, self.now_ns)
        self.judge.sends(write.ledger)
        known = {record.grant.grant_id for record in self.ledger.grants} if self.ledger else set()
        is_heartbeat = self.ledger is not None and self.ledger.instance == node.instance
        if is_heartbeat and all(r.grant.grant_id in known for r in write.ledger.grants):
            revision = self._store(node.instance, write, self.now_ns)
            name = self._name_of(node.instance) or ""
            self._tell_outcome(name, WriteUnsettled() if revision is None else Written(revision))
            self._show(node.instance)
        else:
            self.pool.append(OnItsWay("write", node.instance, write, self.now_ns))

    def _store(self, instance: str, write: Write, sent_ns: int) -> int | None:
        if write.revision not in {self.revision, ANY_REVISION}:
            return None
        self.judge.applied(write.ledger, self.ledger, self.now_ns)
        self.previous, self.ledger, self.written_on = self.ledger, write.ledger, self.revision
        self.revision += 1
        name = self._name_of(instance)
        if name is not None:
            node = self.nodes[name]
            is_same = (
                node.sent is not None and node.sent[0] == write.ledger.age
            )  # sent again after a look at the ledger
            node.lease_until_ns = (node.sent[1] if is_same and node.sent else sent_ns) + LEASE_NS
        return self.revision

    def _show(self, by: str) -> None:
        assert self.ledger is not None
        for name, node in list(self.nodes.items()):
            if node.instance != by:
                self._tell(name, LedgerSeen(self.ledger, self.revision))

    # --- shards

    def _step(self, index: int, event: RequesterEvent) -> None:
        shard = self.shards[index]
        for action in shard.requester.handle(event, self.now_ns):
            if isinstance(action, SendRequest):
                request = action.request
                ask = request.ask(bucket=action.bucket, reply_to=request.request_id or "", request_id="")
                for name in list(self.nodes):
                    self._tell(name, ask)
            elif isinstance(action, SendCancel):
                for name in list(self.nodes):
                    self._tell(name, model.Cancel(action.request_id))
            elif isinstance(action, SendAnswer):
                self.pool.append(OnItsWay("answer", grant_id=action.to, outcome=action.outcome))
            elif isinstance(action, DeliverGrant):
                shard.held, shard.use_by_ns, shard.answer_to = action.grant, action.use_by_ns, action.grant.grant_id
        if shard.requester.state is not State.HOLDING:
            shard.held = None
