"""A client that breaks the contract in every way that harms nobody but itself. It never identifies without a right."""

from typing import TYPE_CHECKING, Final

from nats_identify import wire
from nats_identify.schedule.model import MS, SECOND, Outcome
from tests.simulation.broker import Delivery
from tests.simulation.coordinator import SUBJECTS
from tests.simulation.outcomes import Answers, Outcomes
from tests.simulation.process import Process
from tests.simulation.traffic import Line

if TYPE_CHECKING:
    from tests.simulation.world import World

PREFIX: Final = "rogue"
ANSWERS: Final = Answers(never=0.3, repeated=0.6, stray=0.4)
IDS_MAX: Final = 6
"""It uses its ids again and again, also those that have ended."""


class Rogue(Process):
    """Its renewal numbers jump and repeat, its ids change shard and priority, its answers come twice or late."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world.engine, name)
        self.world = world
        self.shard_ids: tuple[int, ...] = ()
        self.line = Line(world.traffic, self, self._hear)
        self._sent_at_ns: dict[tuple[str, int], int] = {}  # by request and renewal: its first sending
        self._spent: set[str] = set()
        self._decided: set[str] = set()
        self._outcomes = Outcomes(self, self.line, world.plan.seed, ANSWERS)

    def start(self) -> None:
        """Connect, and begin."""
        self.line.subscribe(f"_INBOX.{self.name}.*")
        self.line.connect()
        self.meet(self._go_on)

    def kill(self) -> None:
        """End without a word."""
        super().kill()
        self.line.abandon(noticed_after_ns=0)

    def _go_on(self) -> None:
        if not self.world.is_open:
            return
        random = self.engine.random
        request_id = f"{PREFIX}-{self.name}-{random.randrange(IDS_MAX)}"
        match random.randrange(8):
            case 0:
                self.line.publish(SUBJECTS.cancel(random.randrange(4)), request_id)
            case 1:
                to = SUBJECTS.confirm(0, f"nobody-{random.randrange(50)}")
                self.line.publish(to, random.choice(list(Outcome)))
            case _:
                self._ask(request_id)
        self.engine.after(self.engine.between(50 * MS, 3 * SECOND), self.meet, self._go_on)

    def _ask(self, request_id: str) -> None:
        random, number = self.engine.random, self.world.discord.max_concurrency
        shard_id, renewal = random.randrange(40), random.choice((0, 0, 1, 2, 7, 1_000_000))
        self._sent_at_ns.setdefault((request_id, renewal), self.clock())
        claimed = random.choice((None, None, number, random.choice((1, 2, 3, 4))))
        request = wire.Request(
            shard_id=shard_id,
            request_id=request_id,
            renewal=renewal,
            waited_ms=random.choice((0, 0, 1_000, 2**53)),
            max_concurrency=claimed,
            priority=random.choice((0, 0, 0, 1, -5)),
            managed=random.random() < 0.8,
            timeout_ms=random.choice((None, 1, 5_000, 2**53)),
        )
        bucket = random.choice((shard_id % (claimed or number), random.randrange(4)))
        self.line.publish(SUBJECTS.request(bucket), request, f"_INBOX.{self.name}.{request_id}")

    def _hear(self, delivery: Delivery) -> None:
        grant = delivery.payload
        if not isinstance(grant, wire.Granted) or delivery.nobody:
            return
        self.engine.after(self.engine.between(0, SECOND), self.meet, self._decide, grant, delivery.reply_to)

    def _decide(self, grant: wire.Granted, answer_to: str) -> None:
        random, request_id = self.engine.random, grant.request_id
        if grant.grant_id in self._decided or not self.world.is_open:
            return
        self._decided.add(grant.grant_id)
        if random.random() < 0.3:
            self.line.publish(SUBJECTS.cancel(grant.bucket), request_id)  # and uses it all the same
        sent_at_ns = self._sent_at_ns.get((request_id, grant.renewal))
        is_in_time = sent_at_ns is not None and self.clock() <= sent_at_ns + grant.use_within_ms * MS
        is_managed = grant.use_within_ms * MS in {t.use_within_ns for t in self.world.plan.timings}
        if is_in_time and is_managed and request_id not in self._spent and random.random() < 0.7:
            self._spent.add(request_id)
            self.world.identify(grant, request_id, is_broken=False, has_it=self._outcomes.of(answer_to))
            outcomes = random.choice(((), (Outcome.IDENTIFIED,), (Outcome.IDENTIFIED, Outcome.IDENTIFIED)))
        else:
            outcomes = random.choice(((), (Outcome.DECLINED,), (Outcome.DECLINED, Outcome.DECLINED)))
        for outcome in outcomes:
            late_ns = self.engine.between(0, 100 * MS) if random.random() < 0.7 else self.engine.between(0, 30 * SECOND)
            self.engine.after(late_ns, self.meet, self.line.publish, answer_to, outcome)
