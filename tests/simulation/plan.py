"""What one history will be like, drawn from its seed alone: cluster, bot, weather and faults. It runs nothing."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nats_identify.schedule.model import DAY, MS, SECOND, Limits, Timing
from tests.simulation.discord import DiscordPlan
from tests.simulation.process import DRIFT_MOST_PPM
from tests.simulation.shards import Habits
from tests.simulation.store import StreamWeather
from tests.simulation.traffic import Weather


class Shape(StrEnum):
    """What kind of history."""

    ORDINARY = "ordinary"  # a fleet, a cluster, everything that can go wrong
    FOCUSED = "focused"  # few sessions, mixed settings, leaders that die just after a grant, late messages
    DAYS = "days"  # a small budget, over several of its days


class Fault(StrEnum):
    """What chaos does at a moment of its choice."""

    KILL = "kill"
    KILL_LEADER = "kill leader"
    STOP = "stop"
    PAUSE = "pause"
    PAUSE_LEADER = "pause leader"
    CUT_TRAFFIC = "cut traffic"
    CUT_LEDGER = "cut ledger"
    CUT_POD = "cut pod"
    AWAY = "stream without leader"
    DELETE = "delete the key"
    RECREATE = "recreate the bucket"
    RESTORE = "restore an older copy"
    KILL_POD = "kill pod"
    LEAVE_POD = "stop pod"
    PAUSE_POD = "pause pod"
    CHANGE_LIMITS = "change limits"
    DISCORD_AWAY = "Discord's API away"
    EVERYBODY = "kill every coordinator"


LOSSES: Final = (Fault.DELETE, Fault.RECREATE, Fault.RESTORE)
"""They lose what the ledger knew: a static budget, which nobody else knows, cannot be exact after them."""


STATIC_DAY_NS: Final = 3_000 * SECOND
STATIC_DAY_TIMING: Final = Timing(2 * SECOND, 200 * MS, SECOND, SECOND)
"""A static day is counted from its first charge; Discord's begins an IDENTIFY later. The 0.1 % that it is longer
must cover use_within, the latency and both clocks' drift, as 86 s do in a day of 24 hours."""


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """One replica's environment; at each restart it gets the next of its variants."""

    name: str
    variants: tuple[tuple[Timing, int, Limits | None], ...]  # timing, lease_ns, static limits
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about one history but its chances."""

    seed: int
    shape: Shape
    duration_ns: int
    replicas: tuple[ReplicaPlan, ...]
    fresh_start: bool
    discord: DiscordPlan
    day_ns: int
    is_static: bool
    is_tight: bool
    pods: tuple[tuple[int, ...], ...]
    plain_pods: tuple[tuple[int, ...], ...]
    start_mean_ns: int
    habits: Habits
    weather: Weather
    stream: StreamWeather
    faults: tuple[tuple[Fault, int], ...]  # each with the mean time between two
    stall: float  # how often a coordinator stalls between deciding and doing
    dies_after_grant: float
    wake_late_most_ns: int
    knows_limits: float  # how often a pod knows max_concurrency at its start

    @property
    def timings(self) -> list[Timing]:
        """All that any replica may be told."""
        return [variant[0] for replica in self.replicas for variant in replica.variants]

    @property
    def lease_most_ns(self) -> int:
        """The longest lease that any replica may be told."""
        return max(variant[1] for replica in self.replicas for variant in replica.variants)

    @property
    def hold_most_ns(self) -> int:
        """The longest that any grant can hold its bucket."""
        return max(timing.full_hold_ns for timing in self.timings)


def shape_of(seed: int) -> Shape:
    """The shape of a seed that nobody names one for: of 64, 32 are ordinary, 31 focused, one lasts for days."""
    if seed % 64 == 63:
        return Shape.DAYS
    return Shape.FOCUSED if seed % 2 else Shape.ORDINARY


def draw(seed: int, shape: Shape) -> Plan:
    """Draw the plan of this seed."""
    return _Draw(seed, shape).plan()


class _Draw:
    """The dice of one plan; they are not those of its history."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.seed = seed
        self.shape = shape
        self.random = random.Random(f"{shape}-{seed}")
        self.is_focused = shape is Shape.FOCUSED
        self.is_days = shape is Shape.DAYS

    def plan(self) -> Plan:
        pick, maybe = self.random.choice, self.maybe
        max_concurrency = pick((1, 2, 3) if self.is_focused or self.is_days else (1, 2, 4, 8, 16))
        is_static = maybe(0.6 if self.is_days else 0.3)
        is_slow = self.is_days and is_static
        base = STATIC_DAY_TIMING if is_slow else self.timing(Timing())
        is_tight = self.is_days or (maybe(0.25) and not is_static)
        faults = self.faults(is_static=is_static, is_tight=is_tight)
        kinds = [fault for fault, _ in faults]
        day_ns = STATIC_DAY_NS if is_static else pick((120, 300, 900)) * SECOND
        if not is_tight:
            day_ns = DAY
        total = pick((15, 30, 60)) if is_tight else 100_000
        replicas = self.replicas(base, max_concurrency, total, is_static=is_static, is_tight=is_tight)
        drift_ns = 4 * DRIFT_MOST_PPM * (max(v[0].full_hold_ns for r in replicas for v in r.variants)) // 1_000_000
        margin_ns = min(variant[0].margin_ns for replica in replicas for variant in replica.variants)
        latency_ns = max(0, margin_ns - drift_ns - MS)
        discord = DiscordPlan(
            max_concurrency,
            total,
            total if is_static else pick((total, total // 2, total)),
            day_ns,
            latency_ns,
            lag_most_ns=pick((0, base.window_ns // 3)),
            answer_most_ns=pick((200 * MS, SECOND, 6 * SECOND)),
            fails=pick((0.0, 0.1, 0.4)),
        )
        return Plan(
            self.seed,
            self.shape,
            self.duration_ns(day_ns, is_static=is_static),
            replicas,
            fresh_start=maybe(0.7) and Fault.RECREATE not in kinds,
            discord=discord,
            day_ns=day_ns,
            is_static=is_static,
            is_tight=is_tight,
            pods=self.pods(max_concurrency),
            plain_pods=self.plain_pods(),
            start_mean_ns=pick((0, 2, 15)) * SECOND,
            habits=self.habits(base),
            weather=self.weather(),
            stream=self.stream(),
            faults=faults,
            stall=pick((0.0, 0.0, 0.0005, 0.003)),
            dies_after_grant=pick((0.05, 0.15, 0.4)) if self.is_focused else pick((0.0, 0.0, 0.02)),
            wake_late_most_ns=pick((0, MS, 5 * MS)),
            knows_limits=pick((0.0, 0.5, 1.0)),
        )

    def maybe(self, probability: float) -> bool:
        return self.random.random() < probability

    # --- the cluster

    def timing(self, base: Timing) -> Timing:
        pick = self.random.choice
        if self.maybe(0.4):
            return base
        window_ns = pick((1, 2, 5, 5)) * SECOND
        margin_ns = pick((100, 200, 500)) * MS
        use_within_ns = pick((500, 1_000, 2_000, 5_000, 8_000)) * MS
        grace_ns = pick((400, 1_000, 2_000)) * MS
        return Timing(window_ns, margin_ns, use_within_ns, grace_ns)

    def replicas(
        self, base: Timing, max_concurrency: int, total: int, *, is_static: bool, is_tight: bool
    ) -> tuple[ReplicaPlan, ...]:
        pick = self.random.choice
        count = pick((2, 2, 3)) if self.is_focused else pick((1, 2, 3, 3, 3, 5))
        is_slow = self.is_days and is_static  # most of an hour of virtual time: few heartbeats
        is_mixed = self.maybe(0.7 if self.is_focused else 0.3) and not is_slow
        lease_ns = pick((10_000, 20_000) if is_slow else (500, 1_000, 3_000, 3_000, 6_000)) * MS
        static = Limits(max_concurrency, total, total)
        reserve = pick((0, 3)) if is_tight else 0
        replicas = []
        for name in "abcde"[:count]:
            variants = []
            for _ in range(3):
                timing, lease, limits = base, lease_ns, static if is_static else None
                if is_mixed:
                    use_within_ns = pick((base.use_within_ns, SECOND // 2, 2 * SECOND, 8 * SECOND))
                    timing = Timing(base.window_ns, base.margin_ns, use_within_ns, base.grace_ns)
                    lease = pick((lease_ns, SECOND, 5 * SECOND))
                    if not is_tight and self.maybe(0.2):  # of a tight budget a mixed cluster promises nothing
                        limits = static if limits is None else None
                variants.append((timing, lease, limits))
            replicas.append(ReplicaPlan(name, tuple(variants), reserve))
        return tuple(replicas)

    # --- the bot

    def pods(self, max_concurrency: int) -> tuple[tuple[int, ...], ...]:
        pick, integer = self.random.choice, self.random.randrange
        if self.is_focused or self.is_days:
            count = integer(2, 4) if self.is_focused else integer(3, 6)
            shards = integer(max_concurrency, max_concurrency + 5) if self.is_focused else integer(6, 14)
        else:
            count = integer(1, 8)
            shards = pick((8, 20, 50, 120)) + integer(0, 8)
        pods: list[list[int]] = [[] for _ in range(count)]
        for shard_id in range(shards):
            pods[integer(count)].append(shard_id)
            if self.maybe(0.1):  # a rolling deploy overlaps
                pods[integer(count)].append(shard_id)
        return tuple(tuple(pod) for pod in pods if pod)

    def plain_pods(self) -> tuple[tuple[int, ...], ...]:
        if self.maybe(0.5):
            return ()
        integer = self.random.randrange
        return tuple(tuple(integer(40) for _ in range(integer(1, 5))) for _ in range(integer(1, 3)))

    def habits(self, base: Timing) -> Habits:
        pick = self.random.choice
        return Habits(
            connect_most_ns=pick((20 * MS, 300 * MS, base.use_within_ns // 2, base.use_within_ns)),
            slow=pick((0.0, 0.05, 0.2)),
            declines=pick((0.0, 0.03, 0.2)),
            withdraws=pick((0.0, 0.02, 0.1)),
            session_mean_ns=pick((5, 15, 40)) * SECOND if not self.is_days else pick((20, 60)) * SECOND,
            broken=pick((0.0, 0.02)),
            pace_ns=pick((2 * SECOND, min(2 * SECOND, base.use_within_ns * 4 // 10))),
        )

    def duration_ns(self, day_ns: int, *, is_static: bool) -> int:
        if self.is_days:
            return day_ns * 5 // 2 if not is_static else day_ns * 5 // 4
        return self.random.choice((45, 70) if self.is_focused else (60, 90, 120)) * SECOND

    # --- what goes wrong

    def weather(self) -> Weather:
        pick = self.random.choice
        if not self.is_focused and self.maybe(0.2):
            return Weather()
        return Weather(
            lost=pick((0.0, 0.0, 0.01, 0.05)),
            doubled=pick((0.0, 0.02, 0.1)),
            late=pick((0.02, 0.1) if self.is_focused else (0.0, 0.005, 0.03)),
            late_most_ns=pick((1, 5, 12, 30)) * SECOND,
            reorder=pick((0.0, 0.1)),
            hop_most_ns=pick((1, 3, 50)) * MS,
        )

    def stream(self) -> StreamWeather:
        pick = self.random.choice
        return StreamWeather(
            ack_lost=pick((0.0, 0.01, 0.05)),
            late=pick((0.0, 0.01, 0.1)),
            late_most_ns=pick((1, 4, 10)) * SECOND,
            refused=pick((0.0, 0.01, 0.05)),
            done_refused=pick((0.0, 0.01, 0.05)),
            call_lost=pick((0.0, 0.01)),
            watch_lost=pick((0.0, 0.1, 0.5, 1.0)),
            watch_late=pick((0.0, 0.1)),
            watch_most_ns=pick((1, 3, 19)) * SECOND,
            hop_most_ns=pick((1, 3, 100)) * MS,
        )

    def faults(self, *, is_static: bool, is_tight: bool) -> tuple[tuple[Fault, int], ...]:
        """Any third of what can go wrong, each every few seconds: a swarm of different storms."""
        kinds = [
            fault
            for fault in Fault
            if self.maybe(0.35)
            and not (is_static and is_tight and fault in {*LOSSES, Fault.CHANGE_LIMITS})
            and not (is_static and fault in {Fault.CHANGE_LIMITS, Fault.DISCORD_AWAY})
        ]
        slower = 1
        if self.is_days:
            slower = 20 if is_static else 4
        return tuple((fault, self.random.randrange(6, 40) * SECOND * slower) for fault in kinds)
