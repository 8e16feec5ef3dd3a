"""Processes of a bot: shards that wait by the product's own `Requester`, identify, live, and lose their session.

A pod drives attempts as the library's driver does. It judges nothing: it does what `Requester` says.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nats_identify import wire
from nats_identify.client.absence import Absence
from nats_identify.client.requester import (
    PACE_NS,
    AskAnew,
    Begin,
    Decline,
    DeliverGrant,
    Identified,
    Received,
    Reconnected,
    Requester,
    RequesterEvent,
    SendAnswer,
    SendCancel,
    SendRequest,
    Source,
    State,
    Tick,
    Withdraw,
)
from nats_identify.schedule.model import MS, SECOND
from tests.simulation.broker import Delivery
from tests.simulation.coordinator import SUBJECTS
from tests.simulation.outcomes import Answers, Outcomes
from tests.simulation.process import Process
from tests.simulation.traffic import Line

if TYPE_CHECKING:
    from tests.simulation.world import World

ENDED_MAX: Final = 64

PROBE: Final = "info"


@dataclass(slots=True, eq=False)
class Entry:
    """One request of one shard, and when its attempt wants to be woken."""

    requester: Requester
    begun_at_ns: int
    wake_at_ns: int = -1
    held: wire.Granted | None = None
    use_by_ns: int = 0
    answer_to: str = ""


@dataclass(frozen=True, slots=True)
class Habits:
    """How the shards of a bot behave.

    Attributes:
        connect_max_ns: from the turn to the moment IDENTIFY could be sent; ``slow``: how often five times that.
        declines, withdraws: how often a turn is turned down, a request withdrawn.
        session_mean_ns: how long a session lives; ``broken``: how often IDENTIFY never reaches Discord;
            ``rejected``: how often Discord refuses it for reasons of its own.
    """

    connect_max_ns: int = 400 * MS
    slow: float = 0.05
    declines: float = 0.03
    withdraws: float = 0.02
    session_mean_ns: int = 60 * SECOND
    broken: float = 0.02
    rejected: float = 0.0
    pace_ns: int = PACE_NS


class Pod(Process):
    """One process with some shards.

    Args:
        world: where it lives.
        name: unique to this life.
        shard_ids: what it runs.
        max_concurrency: what it believes at its start.
    """

    def __init__(self, world: "World", name: str, shard_ids: tuple[int, ...], max_concurrency: int | None) -> None:
        super().__init__(world.engine, name)
        self.world = world
        self.shard_ids = shard_ids
        self.habits = world.plan.habits
        self.line = Line(world.traffic, self, self._hear, self._reconnected)
        self.entries: dict[str, Entry] = {}
        self._max_concurrency = max_concurrency
        self._ended: OrderedDict[str, Entry] = OrderedDict()
        self._inbox = f"_INBOX.{name}"
        self._asked = 0
        self._source = Source(name, self.clock())
        self._outcomes = Outcomes(self, self.line, world.plan.seed, Answers(rejected=self.habits.rejected))
        self._absence = Absence(world.engine.random.random)

    def start(self) -> None:
        """Connect, and let every shard want a session within a moment."""
        self.line.subscribe(f"{self._inbox}.*")
        self.line.connect()
        for shard_id in self.shard_ids:
            self.engine.after(self.engine.about(self.world.plan.start_mean_ns), self.meet, self.ask, shard_id, 0)

    def ask(self, shard_id: int, priority: int) -> None:
        """A shard wants to identify."""
        if not self.world.is_open:
            return
        entry = Entry(self._requester(shard_id, priority), self.engine.now_ns)
        self.entries[entry.requester.request_id] = entry
        self._step(entry, Begin())
        if self.engine.chance(self.habits.withdraws):
            self.engine.after(self.engine.about(20 * SECOND), self.meet, self._withdraw, entry)

    def _requester(self, shard_id: int, priority: int, anew_count: int = 0) -> Requester:
        self._asked += 1
        return Requester(
            shard_id,
            f"{self.name}-{self._asked}",
            jitter=self.engine.random.random,
            max_concurrency=self._max_concurrency,
            priority=priority,
            client=self.name,
            pace_ns=self.habits.pace_ns,
            source=self._source,
            anew_count=anew_count,
        )

    def leave(self) -> None:
        """SIGTERM: withdraw everything, then go."""
        for entry in list(self.entries.values()):
            self._step(entry, Withdraw())
        self.engine.after(100 * MS, self.meet, self.kill)

    def kill(self) -> None:
        """End without a word; NATS may be long in noticing."""
        super().kill()
        self.entries.clear()
        is_noticed = self.engine.chance(0.6)
        self.line.abandon(noticed_after_ns=0 if is_noticed else self.engine.between(2, 20) * SECOND)

    # --- the driver

    def _step(self, entry: Entry, event: RequesterEvent) -> None:
        engine, requester, now_ns = self.engine, entry.requester, self.clock()
        engine.core_events += 1
        anew: AskAnew | None = None
        for action in requester.handle(event, now_ns):
            kind = type(action)
            if kind is SendRequest:
                self._send(action)  # type: ignore[arg-type]  # by its kind
            elif kind is SendAnswer:
                self.line.publish(action.to, action.outcome)  # type: ignore[union-attr]  # by its kind
            elif kind is SendCancel:
                self.line.publish(SUBJECTS.cancel(action.bucket), action.request_id)  # type: ignore[union-attr]  # by its kind
            elif kind is DeliverGrant:
                self._handed(entry, action)  # type: ignore[arg-type]  # by its kind
            elif kind is AskAnew:
                anew = action  # type: ignore[assignment]  # by its kind
        self._max_concurrency = requester.max_concurrency or self._max_concurrency
        if requester.state is State.OVER:
            self._end(entry)
            if anew is not None:
                self._ask_anew(entry, anew)
            return
        deadline_ns = requester.next_deadline_ns()
        if deadline_ns is not None and not 0 <= entry.wake_at_ns <= deadline_ns:
            entry.wake_at_ns = deadline_ns
            engine.at(self.clock.real_ns(deadline_ns), self.meet, self._tick, entry, deadline_ns)

    def _ask_anew(self, entry: Entry, anew: AskAnew) -> None:
        ended = entry.requester
        self._ended[ended.request_id] = Entry(ended, entry.begun_at_ns, answer_to=entry.answer_to)
        entry.requester = self._requester(ended.shard_id, ended.priority, anew.anew_count)
        entry.wake_at_ns, entry.held, entry.answer_to = -1, None, ""
        self.entries[entry.requester.request_id] = entry
        self.engine.note(self.name, f"asks anew as {entry.requester.request_id} for {ended.request_id}")
        self._step(entry, Begin(anew.pause_ns))

    def _tick(self, entry: Entry, at_ns: int) -> None:
        if entry.wake_at_ns == at_ns:
            entry.wake_at_ns = -1
            self._step(entry, Tick())

    def _end(self, entry: Entry) -> None:
        request_id = entry.requester.request_id
        if self.entries.pop(request_id, None) is not None:
            self._ended[request_id] = entry
            if len(self._ended) > ENDED_MAX:
                self._ended.popitem(last=False)

    def _send(self, send: SendRequest) -> None:
        request = send.request
        self.world.witness.asked(self, request)
        self.line.publish(SUBJECTS.request(send.bucket), request, f"{self._inbox}.{request.request_id}")

    def _hear(self, delivery: Delivery) -> None:
        request_id = delivery.subject.rpartition(".")[2]
        if delivery.nobody:
            self._no_responders()
            return
        if request_id == PROBE:
            if self._absence.probe_answered():
                self._reconnected()
            return
        if self._absence.request_answered():
            self._reconnected()
        entry = self.entries.get(request_id) or self._ended.get(request_id)
        if entry is None:
            return
        if delivery.reply_to:
            entry.answer_to = delivery.reply_to
        reply = delivery.payload
        assert isinstance(reply, wire.Granted | wire.Queued | wire.Refused)
        self._step(entry, Received(reply, delivery.reply_to))

    def _no_responders(self) -> None:
        is_news = self._absence.probe_at_ns is None
        self._absence.no_responders(self.clock())
        if is_news:
            self._await_probe()

    def _await_probe(self) -> None:
        if self._absence.probe_at_ns is not None:
            self.engine.at(self.clock.real_ns(self._absence.probe_at_ns), self.meet, self._probe)

    def _probe(self) -> None:
        """Look whether a coordinator is back; a probe that an answer has overtaken is not sent."""
        if self._absence.is_due(self.clock()):
            self.line.publish(SUBJECTS.info, None, f"{self._inbox}.{PROBE}")
            self._await_probe()

    def _reconnected(self) -> None:
        unplaced = (entry.requester.unplaced_since_ns for entry in self.entries.values())
        waited_ns = max((self.clock() - since_ns for since_ns in unplaced if since_ns is not None), default=0)
        reconnected = Reconnected(self.engine.random.random(), waited_ns)
        for entry in list(self.entries.values()):
            self._step(entry, reconnected)

    # --- the shard

    def _handed(self, entry: Entry, handed: DeliverGrant) -> None:
        entry.held, entry.use_by_ns = handed.grant, handed.use_by_ns
        engine, habits = self.engine, self.habits
        use_within_ns = handed.grant.use_within_ms * MS
        max_ns = habits.connect_max_ns if self.world.is_open else min(habits.connect_max_ns, use_within_ns // 5)
        connect_ns = engine.between(0, max_ns)
        if engine.chance(habits.slow) and self.world.is_open:
            connect_ns *= 5
        engine.after(connect_ns, self.meet, self._use, entry, handed.grant.grant_id)

    def _use(self, entry: Entry, grant_id: str) -> None:
        """HELLO has come: look at the clock, then send or decline; the two are one step."""
        grant, habits = entry.held, self.habits
        if grant is None or grant.grant_id != grant_id or entry.requester.state is not State.HOLDING:
            return
        if self.world.is_open and self.engine.chance(habits.declines):
            goes_on = self.engine.chance(0.7)
            self._step(entry, Decline(goes_on=goes_on))
            if not goes_on:
                self.engine.after(self.engine.about(10 * SECOND), self.meet, self._lost, grant.shard_id)
            return
        if self.clock() > entry.use_by_ns:
            self._step(entry, Decline(goes_on=True))
            return
        is_broken, has_it = self.engine.chance(habits.broken), self._outcomes.of(entry.answer_to)
        self.world.identify(grant, entry.requester.request_id, is_broken=is_broken, has_it=has_it)
        self._step(entry, Identified())
        self.engine.after(self.engine.about(habits.session_mean_ns), self.meet, self._lost, grant.shard_id)

    def _lost(self, shard_id: int) -> None:
        self.ask(shard_id, 1 if self.engine.chance(0.3) else 0)

    def _withdraw(self, entry: Entry) -> None:
        if entry.requester.request_id in self.entries:
            self._step(entry, Withdraw())
            self.engine.after(self.engine.about(10 * SECOND), self.meet, self._lost, entry.requester.shard_id)
