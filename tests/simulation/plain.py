"""Plain requesters: one NATS request, one reply, perhaps an answer. They renew nothing and keep no clock.

They are well behaved as the design asks: a grant that could not be used within half the grace is not used. The
model knows how long a grant was under way, a plain requester cannot: that is what "best effort" means.
"""

from typing import TYPE_CHECKING

from nats_identify import wire
from nats_identify.schedule.model import MS, SECOND, Outcome
from tests.simulation.broker import Delivery
from tests.simulation.coordinator import SUBJECTS
from tests.simulation.outcomes import Answers, Outcomes
from tests.simulation.process import Process
from tests.simulation.traffic import Line

if TYPE_CHECKING:
    from tests.simulation.world import World


class PlainPod(Process):
    """A script that identifies some shards, one request each, again and again."""

    def __init__(self, world: "World", name: str, shard_ids: tuple[int, ...]) -> None:
        super().__init__(world.engine, name)
        self.world = world
        self.shard_ids = shard_ids
        self.waiting: dict[str, tuple[int, int]] = {}  # by inbox: the shard, and until when it listens
        self.line = Line(world.traffic, self, self._hear)
        self._outcomes = Outcomes(self, self.line, world.plan.seed, Answers(never=0.7))
        self._asked = 0

    def start(self) -> None:
        """Connect, and let every shard want a session within a moment."""
        self.line.connect()
        for shard_id in self.shard_ids:
            self.engine.after(self.engine.about(self.world.plan.start_mean_ns), self.meet, self.ask, shard_id)

    def ask(self, shard_id: int) -> None:
        """Ask once, and listen for a while."""
        if not self.world.is_open:
            return
        self._asked += 1
        inbox = f"_INBOX.{self.name}-{self._asked}"
        timeout_ns = self.engine.between(5, 90) * SECOND
        self.waiting[inbox] = shard_id, self.engine.now_ns + timeout_ns
        self.line.subscribe(inbox)
        max_concurrency = self.world.discord.max_concurrency
        request = wire.Request(
            shard_id=shard_id,
            request_id=inbox.removeprefix("_INBOX."),
            max_concurrency=max_concurrency,
            priority=1 if self.engine.chance(0.2) else 0,
            timeout_ms=timeout_ns // MS,
        )
        self.line.publish(SUBJECTS.request(shard_id % max_concurrency), request, inbox)
        self.engine.after(timeout_ns, self.meet, self._give_up, inbox)

    def kill(self) -> None:
        """End without a word."""
        super().kill()
        self.waiting.clear()
        self.line.abandon(noticed_after_ns=0 if self.engine.chance(0.6) else self.engine.between(2, 20) * SECOND)

    def _hear(self, delivery: Delivery) -> None:
        waited = self.waiting.pop(delivery.subject, None)
        if waited is None:
            return
        self.line.unsubscribe(delivery.subject)
        shard_id, engine, grant = waited[0], self.engine, delivery.payload
        self._ask_later(shard_id)
        if not isinstance(grant, wire.Granted):
            return
        use_by_ns = self.world.witness.plain_use_by_ns(grant)
        use_at_ns = engine.now_ns + engine.between(0, 100 * MS)
        if use_at_ns + self.world.discord.plan.latency_max_ns <= use_by_ns:
            engine.at(use_at_ns, self.meet, self._use, grant, delivery.reply_to, use_by_ns)

    def _use(self, grant: wire.Granted, answer_to: str, use_by_ns: int) -> None:
        if self.engine.now_ns + self.world.discord.plan.latency_max_ns > use_by_ns:
            return  # it was paused meanwhile
        self.world.identify(grant, grant.request_id, is_broken=False, has_it=self._outcomes.of(answer_to))
        if self.engine.chance(0.5):
            self.line.publish(answer_to, Outcome.IDENTIFIED)

    def _give_up(self, inbox: str) -> None:
        waited = self.waiting.pop(inbox, None)
        if waited is not None:
            self.line.unsubscribe(inbox)
            self._ask_later(waited[0])

    def _ask_later(self, shard_id: int) -> None:
        self.engine.after(self.engine.about(30 * SECOND), self.meet, self.ask, shard_id)
