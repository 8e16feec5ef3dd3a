"""Sees everything that happens in a history and lets each checker judge its part. It changes nothing."""

import zlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger, LedgerRead, LedgerSeen, ReplicaAction, ReplicaEvent, TrafficReceived, Write
from nats_identify import wire
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Event, Reply
from nats_identify.testing.judge import Judgement
from tests.invariants import check_replica
from tests.simulation.checkers.charges import Charges
from tests.simulation.checkers.commands import Commands
from tests.simulation.checkers.commits import Commits
from tests.simulation.checkers.declines import Declines
from tests.simulation.checkers.figures import Figures
from tests.simulation.checkers.finals import Finals
from tests.simulation.checkers.identifies import Identifies
from tests.simulation.checkers.left import Left
from tests.simulation.checkers.loops import Loops
from tests.simulation.checkers.order import Order
from tests.simulation.checkers.pace import Pace
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator
    from tests.simulation.process import Process
    from tests.simulation.world import World

STATE_EVERY = 15
"""One history of these is checked for contradictions in its replicas' states: no multiple of the shapes' period."""

STATE_EVENTS = 8
"""In it one event of these. With both, the check takes 2 to 3 % of the swarm's time."""


class Witness:
    """The one place that every part of the world reports to.

    Attributes:
        grants: how many turns were given, each counted once.
        digest: a figure made of every commit and every IDENTIFY: the same for the same history.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._engine = world.engine
        self.identifies = Identifies()
        self.commits = Commits()
        self.commands = Commands() if world.plan.operator_mean_ns else None
        self.pace = Pace()
        self.charges = Charges(world.plan.day_ns)
        self.figures = Figures()
        self.order = Order(is_judging=not world.plan.mix.rogues)
        self.finals = Finals()
        self.declines = Declines()
        plan = world.plan
        statics = [static for replica in plan.replicas for _, _, static in replica.variants if static is not None]
        is_true = (
            plan.discord.remaining == plan.discord.total and not plan.mix.beside_ns and plan.day_ns > 1_000 * SECOND
        )
        self.left = Left(world.discord.day, settings_are_true=is_true)
        self._may_forget = bool(statics)
        self._checks_state = plan.seed % STATE_EVERY == 4
        use_within_ns = max(timing.use_within_ns for timing in world.plan.timings)
        self.loops = Loops(world.plan.crash_loop, use_within_ns)
        self.grants = 0
        self.digest = 0
        self._published: dict[str, tuple[int, int]] = {}  # grant: when it last left a coordinator, half its grace
        self.losses = 0

    def blame(self, checker: str, what: str) -> None:
        """End the history: a promise was broken."""
        raise Violation(checker, self._engine.now_ns, what)

    # --- coordinators

    def told(
        self, coordinator: "Coordinator", event: ReplicaEvent, actions: Sequence[ReplicaAction], now_ns: int
    ) -> None:
        """A replica was told something, and answered so."""
        order, commits = self.order, self.commits
        self._heed(coordinator, event, now_ns)
        self._check_state(coordinator)
        nudged: list[str] = []
        for action in actions:
            kind = type(action)
            if kind is Write:
                assert isinstance(action, Write)
                self._writes(coordinator, action, now_ns)
            elif kind is Reply:
                assert isinstance(action, Reply)
                commits.speaks(coordinator, now_ns)
                self.finals.sends(coordinator, action)
                self.figures.sends(coordinator, action)
                body = action.body
                if type(body) is model.Granted:
                    self._granted(coordinator, body)
                elif type(body) is model.Queued:
                    order.attention.promised(coordinator, body, now_ns)
                    if body.nudge:
                        nudged.append(body.request_id)
            elif kind is Event:
                assert isinstance(action, Event)
                commits.speaks(coordinator, now_ns)
                self._publishes(coordinator, event, action, now_ns)
            elif kind is model.CommandReply:
                assert isinstance(action, model.CommandReply)
                commits.speaks(coordinator, now_ns)
                if self.commands is not None:
                    self.commands.says(coordinator, action)
        if nudged:
            order.attention.nudged(coordinator, nudged, now_ns)  # who is told now was not told before the write

    def _writes(self, coordinator: "Coordinator", write: Write, now_ns: int) -> None:
        self.commits.writes(coordinator, write, now_ns)
        self.pace.writes(coordinator, now_ns)
        self.charges.writes(write, now_ns)
        self.figures.writes(coordinator, write, now_ns)
        self.loops.writes(write.ledger)
        self.declines.writes(coordinator, write.ledger)
        self.identifies.writes(coordinator.name, write.ledger)
        if self.commands is not None:
            self.commands.writes(coordinator, write.ledger)
        self.order.writes(coordinator, write, now_ns)

    def _publishes(self, coordinator: "Coordinator", event: ReplicaEvent, what: Event, now_ns: int) -> None:
        is_taken = what.name == "limits" and what.fields["remaining"] is not None  # no day has just ended
        if type(event) is model.LimitsFetched and is_taken:
            self.figures.believed(coordinator, event)
        holds_ms = what.fields.get("holds_everything_ms")
        if what.name == "leader" and isinstance(holds_ms, int):
            self.figures.leads(coordinator, self.identifies.leads(coordinator, holds_ms * MS), now_ns)
        if what.name == "crash_loop":
            self.loops.held_back(int(what.fields["shard_id"] or 0), self._engine.now_ns)

    def _check_state(self, coordinator: "Coordinator") -> None:
        """``state``: nothing in a replica's state contradicts the rest of it."""
        if not self._checks_state or self._engine.core_events % STATE_EVENTS:
            return
        try:
            check_replica(coordinator.replica)
        except AssertionError as error:
            self.blame("state", f"{coordinator.name}: {error}")

    def _heed(self, coordinator: "Coordinator", event: ReplicaEvent, now_ns: int) -> None:
        """Let those checkers know that it can concern: of each ten events seven are requests, wake-ups and echoes."""
        kind = type(event)
        if kind is model.Wake:
            return
        if self.commands is not None:
            self.commands.told(coordinator, event)
        if kind is model.Pardon:
            self.loops.pardoned(event.shard_id)  # type: ignore[union-attr]  # by its kind
        self.finals.told(event)
        self.declines.told(coordinator, event)
        if kind is TrafficReceived:
            self.commits.told(coordinator, event, now_ns)
            return
        self.order.told(coordinator, event, now_ns)
        if kind is model.RequestReceived:
            return
        self.commits.told(coordinator, event, now_ns)
        self.pace.told(coordinator, event, now_ns)
        self.charges.told(coordinator, event)
        self.figures.told(coordinator, event, now_ns)
        if isinstance(event, LedgerRead | LedgerSeen):
            self.identifies.saw(coordinator.name, event.ledger, coordinator.settings.timing.use_within_ns)

    def _granted(self, coordinator: "Coordinator", grant: model.Granted) -> None:
        if grant.grant_id not in self._published:
            self.grants += 1
        self.commits.granted(grant)
        self.charges.granted(grant.grant_id)
        half_grace_ns = coordinator.settings.timing.grace_ns // 2
        self._published[grant.grant_id] = self._engine.now_ns, half_grace_ns
        if self._engine.lines is not None:
            self._engine.note(
                coordinator.name, f"GRANT {grant.grant_id} shard {grant.shard_id} to {grant.request_id}#{grant.renewal}"
            )

    def applied(self, write: Write, before: Ledger | None, revision: int) -> None:
        """The stream has stored an entry."""
        ledger = write.ledger
        self.digest = zlib.crc32(b"%d %d %d" % (self._engine.now_ns, ledger.sequence, revision), self.digest)
        if self._engine.lines is not None:
            grants = " ".join(f"{g.grant.grant_id}:{g.outcome or '?'}" for g in ledger.grants)
            what = f"{ledger.instance} term {ledger.term} #{ledger.sequence} leader {ledger.leader}"
            self._engine.note("LEDGER", f"r{revision} {what} left {ledger.remaining} [{grants}]")
        self.commits.applied(ledger, before, self._engine.now_ns)
        self.charges.applied(ledger, before, self._engine.now_ns)
        if self.commands is not None:
            self.commands.applied(ledger, self._engine.now_ns)
        self.left.applied(ledger, self._engine.now_ns, can_ask=not self.charges.is_static(ledger.instance))

    def lost(self, how: str) -> None:
        """Somebody took the ledger back, or away."""
        self.losses += 1
        self._engine.note("LEDGER", how)
        late_ns = self._world.plan.stream.late_max_ns  # a write on the same number may be on its way
        self.commits.lost(self._engine.now_ns + self._world.plan.lease_max_ns + late_ns + SECOND)
        self.charges.lost()
        self.finals.lost()
        self.left.lost(may_forget=self._may_forget)
        self.identifies.lost()
        if self.commands is not None:
            self.commands.lost()

    # --- shards

    def asked(self, pod: "Process", request: wire.Request) -> None:
        """A shard has sent a renewal."""
        if self._engine.lines is not None:
            self._engine.note(pod.name, f"asks {request.request_id}#{request.renewal} for shard {request.shard_id}")

    def plain_use_by_ns(self, grant: wire.Granted) -> int:
        """Until when, in real time, an IDENTIFY on this plain grant must have arrived: half the grace after it left."""
        left_at_ns, half_grace_ns = self._published[grant.grant_id]
        return left_at_ns + half_grace_ns - half_grace_ns // 20

    def identified(self, grant: wire.Granted, request_id: str) -> None:
        """A shard writes IDENTIFY."""
        self._engine.note("IDENTIFY", f"shard {grant.shard_id} by {grant.grant_id} for {request_id}")
        self.identifies.sent(grant, request_id)
        self.loops.sent(grant.shard_id, grant.grant_id, self._engine.now_ns)

    def judged(self, judgement: Judgement, grant: wire.Granted) -> None:
        """Discord has received one."""
        self.digest = zlib.crc32(b"%d %d" % (judgement.at_ns, judgement.shard_id), self.digest)
        self.identifies.judged(judgement, grant, is_shared=self.left.is_shared)
        self.left.counted(grant.grant_id, judgement.at_ns, knew=partial(self.identifies.knew, grant))
