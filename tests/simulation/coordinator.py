"""A coordinator as its edge runs it: the product's `Replica` amid traffic, ledger and Discord. It decides nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from coordinator.core.ledger import (
    Handover,
    Read,
    ReplicaAction,
    ReplicaEvent,
    Stop,
    Stopped,
    TrafficReceived,
    TrafficReturned,
    Write,
)
from coordinator.core.replica import Replica
from coordinator.core.settings import Settings
from nats_identify import wire
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, Event, FetchLimits, Reply
from tests.simulation.broker import Delivery
from tests.simulation.fetcher import Fetcher
from tests.simulation.inbox import Inbox
from tests.simulation.process import Process
from tests.simulation.store import StoreLine
from tests.simulation.traffic import Line

if TYPE_CHECKING:
    from tests.simulation.world import World

SUBJECTS: Final = wire.Subjects("identify")

Command = model.Pause | model.Resume | model.Kick | model.Release | model.Pardon | Handover

COMMANDS: Final = frozenset({"pause", "resume", "kick", "release", "pardon", "handover"})

SPINS_MAX: Final = 50
"""So many wake-ups in a row at one instant mean that the replica asks to be woken and then does nothing."""


class Coordinator(Process):
    """One life of one replica.

    Args:
        world: where it lives.
        place: which replica of the plan this is a life of.
        settings: what its environment says.
    """

    def __init__(self, world: "World", place: str, settings: Settings) -> None:
        super().__init__(world.engine, settings.instance)
        self.world = world
        self.place = place
        self.settings = settings
        self.replica = Replica(settings)
        self.line = Line(world.traffic, self, self._hear, lambda: self.tell(TrafficReturned()))
        self.inbox = Inbox(world.engine, world.plan.inbox_max_ns, lambda request: self.meet(self.tell, request))
        self.store = StoreLine(world.stream, lambda event: self.meet(self.tell, event))
        self.fetcher = Fetcher(world, self) if settings.static is None else None
        self.has_left = False
        self._nudges = f"_INBOX.{settings.instance}.nudge."
        self._probes = f"_INBOX.{settings.instance}.probe"
        self._wake_at_ns = -1
        self._spins = 0
        self._stalled: list[list[ReplicaAction]] = []
        self._perform_one: dict[type, Callable[..., None]] = {
            Reply: self._reply,
            Write: self._write,
            Read: lambda _: self.store.read(),
            Event: self._happened,
            FetchLimits: self._fetch,
            model.CommandReply: self._reply_to_command,
            Stopped: self._stopped,
        }

    @property
    def is_leading(self) -> bool:
        """Whether what it says counts, by its own clock."""
        return self.replica.is_leader and self.clock() <= self.replica.lease_until_ns

    def start(self) -> None:
        """Connect, listen, and begin."""
        shards = (SUBJECTS.requests, SUBJECTS.confirms, SUBJECTS.cancels, SUBJECTS.info)
        for pattern in (*shards, f"{self._nudges}*", self._probes):
            self.line.subscribe(pattern)
        for name in sorted(COMMANDS) if self.world.plan.operator_mean_ns else ():
            self.line.subscribe(SUBJECTS.command(name))
        self.line.connect()
        self.world.stream.watch(self.store)
        self._probe()
        self.tell(model.Wake())

    @property
    def can_give(self) -> bool:
        """Whether it answers another that asks for the queue."""
        return self.is_alive and not self.is_paused and self.line.is_connected

    def take_queue(self, other: "Coordinator") -> None:
        """Ask another replica who waits, as the edge does at its start."""
        self.engine.after(self.engine.between(MS, 50 * MS), self._give_queue, other, self.clock())

    def _give_queue(self, other: "Coordinator", asked_at_ns: int) -> None:
        """The other one answers; how long ago it heard each request counts from before it was asked."""
        if not other.can_give:
            return
        now_ns, arrives_ns = other.clock(), self.engine.between(MS, 50 * MS)
        for request in other.replica.schedule.state.requests.by_id.values():
            left_ns = None if request.timeout_at_ns is None else max(MS, request.timeout_at_ns - now_ns)
            waited_ns = max(0, now_ns - request.asked_at_ns) // MS * MS
            age_ns = ((now_ns - request.renewed_at_ns) // MS + 1) * MS
            copy = request.message._replace(
                bucket=request.bucket,
                waited_ns=waited_ns,
                timeout_ns=left_ns,
                is_copy=True,
                renewed_at_ns=None if request.is_unresponsive else asked_at_ns - age_ns,
                place_at_ns=asked_at_ns - (now_ns - request.place_ns),
            )
            self.engine.after(arrives_ns, self.meet, self.tell, copy)

    def tell(self, event: ReplicaEvent) -> None:
        """Tell the replica, and do as it says."""
        engine, now_ns = self.engine, self.clock()
        engine.core_events += 1
        actions = self.replica.handle(event, now_ns)
        self.world.witness.told(self, event, actions, now_ns)
        if actions:
            if self.world.chaos.stalls(self):
                self._stalled.append(actions)
                self.meet(self._perform_stalled)
            else:
                self._perform(actions)
        self._rearm(now_ns)

    def resume(self) -> None:
        """Run again; the loop begins each turn with a wake-up."""
        if self.is_alive and self.is_paused:
            self.world.witness.order.attention.resumed(self)
            self._mailbox.insert(0, (self.tell, (model.Wake(),)))
        super().resume()

    def stop(self) -> None:
        """SIGTERM; whoever cannot leave in time is killed."""
        self.meet(self.tell, Stop())

    def kill(self) -> None:
        """End without a word; NATS may be long in noticing."""
        super().kill()
        self.world.stream.unwatch(self.store)
        is_noticed = self.engine.chance(0.7)
        self.line.abandon(noticed_after_ns=0 if is_noticed else self.engine.between(2, 10) * 1000 * MS)

    # --- time

    def _rearm(self, now_ns: int) -> None:
        deadline_ns = self.replica.next_deadline_ns()
        if deadline_ns is None:
            return
        at_ns = max(self.clock.real_ns(deadline_ns), self.engine.now_ns)
        if self._wake_at_ns < self.engine.now_ns or at_ns < self._wake_at_ns or self._wake_at_ns == -1:
            self._wake_at_ns = at_ns
            late_ns = int(self.engine.random.random() * self.world.plan.wake_late_max_ns)
            self.engine.at(at_ns + late_ns, self.meet, self._wake, at_ns)
        self._spins = self._spins + 1 if deadline_ns <= now_ns else 0
        if self._spins > SPINS_MAX:
            self.world.witness.blame("sleeps", f"{self.name} asks to be woken at once, again and again")
            self._spins = 0

    def _wake(self, at_ns: int) -> None:
        if at_ns != self._wake_at_ns:
            return  # another wake-up has taken its place
        self._wake_at_ns = -1
        self.tell(model.Wake())

    def _probe(self) -> None:
        self.line.publish(self._probes, None)
        self.engine.after(self.settings.lease_ns // 3, self.meet, self._probe)

    # --- ears

    def _hear(self, delivery: Delivery) -> None:
        subject = delivery.subject
        kind = subject.split(".", 2)[1] if subject.startswith("identify.") else ""
        payload = delivery.payload
        if kind == "request":
            assert isinstance(payload, wire.Request)
            bucket = int(subject.rpartition(".")[2])
            ask = payload.ask(
                bucket=bucket,
                reply_to=delivery.reply_to,
                request_id=delivery.reply_to,
                received_at_ns=self.clock(),
            )
            self.inbox.put(ask)
        elif kind == "confirm":
            grant_id = subject.rpartition(".")[2]
            if delivery.nobody:
                self.tell(model.Undeliverable(grant_id))
            else:
                assert isinstance(payload, model.Outcome)
                self.tell(model.Confirmation(grant_id, payload))
        elif kind == "cancel":
            self.tell(model.Cancel(str(payload)))
        elif kind in COMMANDS:
            assert isinstance(payload, Command)
            self.tell(payload)
        elif kind == "info":
            self.line.publish(delivery.reply_to, None)
        elif subject == self._probes:
            self.tell(TrafficReceived())
        elif delivery.nobody:
            self.tell(model.NudgeUndeliverable(subject.removeprefix(self._nudges)))

    # --- hands

    def _perform(self, actions: list[ReplicaAction]) -> None:
        perform_one = self._perform_one
        for action in actions:
            perform_one[type(action)](action)

    def _perform_stalled(self) -> None:
        stalled, self._stalled = self._stalled, []
        for actions in stalled:
            self._perform(actions)

    def _reply(self, reply: Reply) -> None:
        body, answer_to = reply.body, ""
        if type(body) is model.Granted:
            answer_to = SUBJECTS.confirm(body.bucket, body.grant_id)
        elif type(body) is model.Queued and body.nudge:
            answer_to = self._nudges + body.request_id
        self.line.publish(reply.to, wire.reply_of(body, self.replica.term), answer_to)
        if type(body) is model.Granted:
            self.world.chaos.granted(self)

    def _reply_to_command(self, reply: model.CommandReply) -> None:
        self.line.publish(reply.to, reply)

    def _write(self, write: Write) -> None:
        self.store.write(write)

    def _happened(self, happened: Event) -> None:
        if self.engine.lines is not None:
            facts = " ".join(f"{key}={value}" for key, value in happened.fields.items() if value is not None)
            self.engine.note(self.name, f"{happened.name}: {facts}")

    def _fetch(self, _action: FetchLimits) -> None:
        if self.fetcher is not None:
            self.fetcher.request_refresh()

    def _stopped(self, _action: Stopped) -> None:
        if not self.has_left:
            self.has_left = True
            self.engine.note(self.name, "has left")
            self.kill()
