"""Draws the plan of a seed from the figures of its shape. The dice are not those of its history."""

import dataclasses
import random
from collections.abc import Sequence
from typing import TypeVar

from nats_identify.schedule.model import DAY, MS, SECOND, Limits, Timing
from tests.simulation import styles
from tests.simulation.discord import DiscordPlan
from tests.simulation.plan import Fault, Mix, Plan, ReplicaPlan, Shape
from tests.simulation.process import DRIFT_MAX_PPM
from tests.simulation.shards import Habits
from tests.simulation.store import StreamWeather
from tests.simulation.traffic import Weather

T = TypeVar("T")

LOSSES = {Fault.DELETE, Fault.RECREATE, Fault.RESTORE}
"""They lose what the ledger knew: a static budget, which nobody else knows, cannot be exact after them."""


CANCELLED_EVERY = 12
"""In one history of so many, requests are cancelled by somebody else; the others stay what they were."""

OPERATED_OF, OPERATED = 11, frozenset({3, 9})
"""Of so many histories those have an operator: the others, which tests name by their seeds, stay what they were."""

INBOX_SHARE = 0.15
"""In this share of histories a coordinator has more to do than it can at once; the others stay what they were."""

INBOXES_NS = (20 * MS, 300 * MS, 3 * SECOND)


def draw(seed: int, shape: Shape) -> Plan:
    """Draw the plan of this seed."""
    return _Dice(seed, shape).plan()


class _Dice:
    """One throw of everything."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.seed = seed
        self.shape = shape
        self.style = styles.STYLES[shape]
        self.random = random.Random(f"{shape}-{seed}")
        self.is_static = self.maybe(self.style.static)
        self.is_tight = self.maybe(self.style.tight) and (not self.is_static or shape is Shape.DAYS)
        self.max_concurrency = self.pick(self.style.max_concurrency)
        self.total = self.pick(self.style.totals) if self.is_tight else 100_000
        self.base = self.timing()
        # A ledger that is too slow for plain requesters, in some of the histories that have little else.
        self.is_slow = shape is Shape.PLAIN and random.Random(f"slow-{shape}-{seed}").random() < 0.3

    def pick(self, choices: Sequence[T]) -> T:
        return self.random.choice(choices)

    def maybe(self, probability: float) -> bool:
        return self.random.random() < probability

    def plan(self) -> Plan:
        pick, maybe, style = self.pick, self.maybe, self.style
        faults, replicas = self.faults(), self.replicas()
        replicas, mix = self.mixed(replicas)
        if mix.beside_ns:
            faults = (*faults, (Fault.BESIDE, mix.beside_ns))
        discord = self.discord(replicas)
        return Plan(
            self.seed,
            self.shape,
            pick(style.durations_s) * SECOND,
            replicas,
            fresh_start=maybe(0.7) and Fault.RECREATE not in {fault for fault, _ in faults},
            discord=discord,
            day_ns=discord.day_ns,
            is_static=self.is_static,
            is_tight=self.is_tight,
            pods=self.pods(),
            plain_pods=self.plain_pods(),
            start_mean_ns=pick((0, 2, 15)) * SECOND,
            habits=self.habits(),
            weather=self.weather(),
            stream=self.stream(),
            faults=faults,
            stall=pick((0.0, 0.0, 0.0005, 0.003)),
            dies_after_grant=pick(style.dies_after_grant),
            wake_late_max_ns=pick((0, MS, 5 * MS)),
            knows_limits=pick((0.0, 0.5, 1.0)),
            has_one_name=maybe(0.2),
            copies_queue=maybe(0.6),
            crash_loop=styles.CRASH_LOOP if self.shape is Shape.LOOPS else None,
            cancel_mean_ns=5 * SECOND if self.seed % CANCELLED_EVERY == 0 else 0,
            mix=mix,
            inbox_max_ns=self.inbox_max_ns(),
            operator_mean_ns=self.operator_mean_ns(),
        )

    def operator_mean_ns(self) -> int:
        dice = random.Random(f"operated-{self.shape}-{self.seed}")
        mean_ns = dice.choice((1, 3, 8)) * SECOND * (20 if self.shape is Shape.DAYS else 1)
        return mean_ns if self.seed % OPERATED_OF in OPERATED else 0

    def inbox_max_ns(self) -> int:
        dice = random.Random(f"inbox-{self.shape}-{self.seed}")
        return dice.choice(INBOXES_NS) if dice.random() < INBOX_SHARE else 0

    # --- the cluster

    def timing(self) -> Timing:
        pick, style = self.pick, self.style
        if self.shape is Shape.DAYS:
            window_ns, use_within_ns = styles.STATIC_WINDOW_NS, styles.STATIC_USE_WITHIN_NS
            return Timing(window_ns, styles.STATIC_MARGIN_NS, use_within_ns)
        if self.shape is Shape.ORDINARY and self.maybe(0.4):
            return Timing()
        margin_ns = pick((100, 200, 500)) * MS if self.shape is not Shape.PLAIN else 100 * MS
        window_ns, use_within_ns = pick(style.windows_s) * SECOND, pick(style.use_within_ms) * MS
        return Timing(window_ns, margin_ns, use_within_ns, pick(style.graces_ms) * MS)

    def replicas(self) -> tuple[ReplicaPlan, ...]:
        pick, style, base = self.pick, self.style, self.base
        is_mixed, lease_ms = self.maybe(style.mixed), pick(style.leases_ms)
        static = Limits(self.max_concurrency, self.total, self.total)
        reserve = pick((0, 0, 3)) if self.is_tight else 0
        replicas = []
        for name in "abcde"[: pick(style.replicas)]:
            variants = []
            for _ in range(3):
                timing, lease_ns, limits = base, lease_ms * MS, static if self.is_static else None
                if is_mixed:
                    use_within_ns = pick((base.use_within_ns // MS, 500, 2_000, 8_000)) * MS
                    timing = Timing(base.window_ns, base.margin_ns, use_within_ns, base.grace_ns)
                    lease_ns = pick((lease_ms, 1_000, 5_000)) * MS
                    if not self.is_tight and self.maybe(0.2):  # of a tight budget a mixed cluster promises nothing
                        limits = static if limits is None else None
                variants.append((timing, lease_ns, limits))
            replicas.append(ReplicaPlan(name, tuple(variants), reserve))
        return tuple(replicas)

    def mixed(self, replicas: tuple[ReplicaPlan, ...]) -> tuple[tuple[ReplicaPlan, ...], Mix]:
        """Let some histories have more: from dice of its own, so that every other throw stays what it was."""
        own = random.Random(f"mix-{self.shape}-{self.seed}")
        if self.is_slow:
            replicas = tuple(_patient(replica) for replica in replicas)
        rogues = own.choice((0, 0, 1, 2)) if self.shape not in {Shape.DAYS, Shape.LOOPS} else 0
        beside_ns = 0 if self.is_static or own.random() < 0.6 else own.randrange(2, 20) * SECOND
        if own.random() < 0.4 or not self.is_static:
            return replicas, Mix(rogues, beside_ns)
        low = min(self.total, own.choice((5, 8))) if self.is_tight else own.choice((5, 15, 40))
        are_kinds_mixed = self.shape is Shape.DAYS and own.random() < 0.6
        mixed = []
        for replica in replicas:
            variants = []
            for timing, lease_ns, static in replica.variants:
                limits = (
                    None if static is None else Limits(static.max_concurrency, *[own.choice((self.total, low))] * 2)
                )
                variants.append((timing, lease_ns, None if are_kinds_mixed and own.random() < 0.4 else limits))
            mixed.append(ReplicaPlan(replica.name, tuple(variants), replica.reserve))
        return tuple(mixed), Mix(rogues, 0, are_kinds_mixed=are_kinds_mixed)

    def discord(self, replicas: tuple[ReplicaPlan, ...]) -> DiscordPlan:
        pick = self.pick
        timings = [timing for replica in replicas for timing, _, _ in replica.variants]
        drift_ns = 4 * DRIFT_MAX_PPM * max(timing.full_hold_ns for timing in timings) // 1_000_000
        day_ns = DAY
        if self.is_tight:
            day_ns = styles.STATIC_DAY_NS if self.is_static else pick(self.style.days_s) * SECOND
        return DiscordPlan(
            self.max_concurrency,
            self.total,
            self.total if self.is_static else pick((self.total, self.total // 2, self.total)),
            day_ns,
            latency_max_ns=max(0, self.base.margin_ns // 2 - drift_ns - MS),  # what the narrowest margin covers
            lag_max_ns=pick((0, self.base.window_ns // 3)),
            answer_max_ns=pick((200 * MS, SECOND, 6 * SECOND)),
            fails=pick((0.0, 0.1, 0.4)),
            nonsense=pick((0.0, 0.0, 0.2)),
        )

    # --- the bot

    def pods(self) -> tuple[tuple[int, ...], ...]:
        pick, integer = self.pick, self.random.randrange
        shards = pick(self.style.managed) + self.max_concurrency + integer(0, 4)
        pods: list[list[int]] = [[] for _ in range(pick(self.style.pods))]
        for shard_id in range(shards):
            pick(pods).append(shard_id)
            if self.maybe(0.1):  # a rolling deploy overlaps
                pick(pods).append(shard_id)
        return tuple(tuple(pod) for pod in pods if pod)

    def plain_pods(self) -> tuple[tuple[int, ...], ...]:
        if not self.maybe(self.style.plain):
            return ()
        integer = self.random.randrange
        return tuple(tuple(integer(40) for _ in range(integer(1, 5))) for _ in range(integer(1, 3)))

    def habits(self) -> Habits:
        pick, style, base = self.pick, self.style, self.base
        brief_ns, long_ns = (20 * MS, 300 * MS), (base.use_within_ns // 2, base.use_within_ns, 8 * SECOND)
        return Habits(
            connect_max_ns=pick(long_ns) if self.maybe(style.slow_connect) else pick(brief_ns),
            slow=pick((0.0, 0.05, 0.2)),
            declines=pick((0.0, 0.03, 0.2)),
            withdraws=pick(style.withdraws),
            session_mean_ns=pick(style.sessions_s) * SECOND,
            broken=pick((0.0, 0.02)),
            rejected=pick((0.0, 0.0, 0.02)),
            pace_ns=pick((2 * SECOND, min(2 * SECOND, base.use_within_ns * 4 // 10))),
        )

    # --- what goes wrong

    def weather(self) -> Weather:
        pick, style = self.pick, self.style
        return Weather(
            lost=pick(style.lost),
            doubled=pick((0.0, 0.02, 0.1)),
            late=pick(style.late),
            late_max_ns=pick(style.late_max_s) * SECOND,
            reorder=pick((0.0, 0.1)),
            hop_max_ns=pick((1, 3, 50)) * MS,
        )

    def stream(self) -> StreamWeather:
        pick, trouble = self.pick, self.style.stream_trouble
        return StreamWeather(
            ack_lost=pick(trouble),
            late=pick((*trouble, 0.1)),
            late_max_ns=pick((1, 4, 10)) * SECOND,
            refused=pick(trouble),
            done_refused=pick(trouble),
            call_lost=pick((0.0, 0.01)),
            watch_lost=pick((0.0, 0.1, 0.5, 1.0)),
            watch_late=pick((0.0, 0.1)),
            watch_max_ns=pick((1, 3, 19)) * SECOND,
            hop_max_ns=pick((1, 3, 100)) * MS,
            commit_least_ns=490 * MS if self.is_slow else 0,
        )

    def faults(self) -> tuple[tuple[Fault, int], ...]:
        """Some of what can go wrong, each every few seconds: a swarm of different storms."""
        style, barred = self.style, set[Fault]()
        if self.is_static:
            barred |= {Fault.CHANGE_LIMITS, Fault.DISCORD_AWAY, Fault.REFRESH}
            barred |= LOSSES if self.is_tight else set()
        kinds = [fault for fault in style.faults if fault not in barred and self.maybe(style.fault_share)]
        struck = [(fault, self.random.randrange(*style.every_s) * SECOND) for fault in kinds]
        own = random.Random(f"refuse-{self.shape}-{self.seed}")  # every other throw stays what it was without this one
        if own.random() < style.refuses:
            struck.append((Fault.REFUSE, own.randrange(*style.every_s) * SECOND))
        return tuple(struck)


def _patient(replica: ReplicaPlan) -> ReplicaPlan:
    """Let it lead through slow commits, each later than half the grace."""
    variants = [
        (dataclasses.replace(timing, grace_ns=SECOND), 6 * SECOND, static) for timing, _, static in replica.variants
    ]
    return ReplicaPlan(replica.name, tuple(variants), replica.reserve)
