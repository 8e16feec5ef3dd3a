"""Discord, strict: judges every IDENTIFY as it arrives, and tells its figures to whoever asks. It forgives nothing."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from nats_identify import wire
from nats_identify.discord.backoff import FetchResult
from nats_identify.schedule.model import MS, SECOND, Limits
from nats_identify.testing.judge import Day, Judge, Judgement
from tests.simulation.engine import Engine


@dataclass(frozen=True, slots=True)
class DiscordPlan:
    """What this bot is allowed, and how Discord behaves.

    Attributes:
        day_ns: how long a day lasts, from its first IDENTIFY.
        latency_max_ns: an IDENTIFY arrives at most so long after it was sent.
        lag_max_ns: the figures may be so far behind the gateway.
        answer_max_ns: how long a figure takes, each way; ``fails``: how often there is none,
            ``nonsense``: how often it says that no shard may identify at all.
    """

    max_concurrency: int
    total: int
    remaining: int
    day_ns: int
    latency_max_ns: int
    lag_max_ns: int = 0
    answer_max_ns: int = SECOND
    fails: float = 0.0
    nonsense: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a question about the figures came to."""

    answer: FetchResult
    limits: Limits | None = None
    retry_after_ns: int = 0


class Discord:
    """The gateway and the REST API of one bot."""

    def __init__(self, engine: Engine, plan: DiscordPlan, window_ns: int) -> None:
        self._engine = engine
        self.plan = plan
        self.max_concurrency = plan.max_concurrency
        self.day = Day(0, total=plan.total, remaining=plan.remaining, length_ns=plan.day_ns)
        self._judge = Judge(self.day, window_ns=window_ns)
        self._recent: deque[int] = deque()
        self.fails, self.nonsense = plan.fails, plan.nonsense
        self.trouble: Told | None = None  # what everybody is told, whatever else is the case
        self.asked_at_ns: deque[int] = deque(maxlen=10_000)
        self.judged: Callable[[Judgement, wire.Granted], None] = lambda _judgement, _grant: None

    def identify(self, grant: wire.Granted, has_it: Callable[[], None]) -> None:
        """An IDENTIFY leaves its shard; it is judged by the max_concurrency that it was granted under.

        ``has_it`` is called when it has arrived: an outcome cannot leave Discord earlier.
        """
        self._engine.after(self._engine.between(0, self.plan.latency_max_ns), self._arrive, grant, has_it)

    def _arrive(self, grant: wire.Granted, has_it: Callable[[], None]) -> None:
        now_ns = self._engine.now_ns
        self._recent.append(now_ns)
        self.judged(self._judge.identify(now_ns, grant.shard_id, grant.max_concurrency), grant)
        has_it()

    def serve(self, answer: Callable[[Told], None]) -> None:
        """Somebody asks for the figures: they are of some moment between question and answer."""
        engine, max_ns = self._engine, self.plan.answer_max_ns
        there_ns, back_ns = engine.between(20 * MS, max_ns), engine.between(20 * MS, max_ns)
        self.asked_at_ns.append(engine.now_ns)
        if self.trouble is not None:
            engine.after(there_ns + back_ns, answer, self.trouble)
        elif engine.chance(self.fails):
            is_limited = engine.chance(0.2)
            failure = Told(FetchResult.RATE_LIMITED, None, 3 * SECOND) if is_limited else Told(FetchResult.UNAVAILABLE)
            engine.after(there_ns + back_ns, answer, failure)
        else:
            engine.after(there_ns, self._serve, back_ns, answer)

    def _serve(self, back_ns: int, answer: Callable[[Told], None]) -> None:
        now_ns = self._engine.now_ns
        lag_ns = self._engine.between(0, self.plan.lag_max_ns)
        while self._recent and self._recent[0] < now_ns - self.plan.lag_max_ns:
            self._recent.popleft()
        remaining, resets_in_ns = self.day.remaining(now_ns), self.day.reset_after_ms(now_ns) * MS
        begun_ns = now_ns + resets_in_ns - self.plan.day_ns if resets_in_ns else now_ns
        remaining += sum(1 for at_ns in self._recent if at_ns > max(now_ns - lag_ns, begun_ns))
        is_nonsense = self._engine.chance(self.nonsense)
        number = 0 if is_nonsense else self.max_concurrency
        limits = Limits(number, self.day.total, remaining, resets_in_ns or None)  # 0: not begun
        self._engine.after(back_ns, answer, Told(FetchResult.OK, limits))
