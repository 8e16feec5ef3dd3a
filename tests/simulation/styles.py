"""What each shape of history is made of: the figures its dice may show. It throws no dice."""

from dataclasses import dataclass
from typing import Final

from nats_identify.schedule.model import MS, SECOND
from tests.simulation.plan import CrashLoop, Fault, Shape

EVERY_FAULT: Final = tuple(fault for fault in Fault if fault not in {Fault.REFRESH, Fault.REFUSE, Fault.BESIDE})
_KILLS: Final = (Fault.KILL_LEADER, Fault.EVERYBODY, Fault.PAUSE_LEADER, Fault.STOP)


@dataclass(frozen=True, slots=True)
class Style:
    """The choices of one shape; each history picks one of each.

    Attributes:
        faults: what may strike, each with a probability of ``fault_share``, once in ``every_s`` or so.
        mixed: how often the replicas have different settings.
        plain: how often there are plain requesters; ``managed``: how many shards there are beside the buckets.
        tight: how often the day's budget is small.
        refuses: how often the stream refuses writes for a while, again and again.
    """

    durations_s: tuple[int, ...]
    max_concurrency: tuple[int, ...]
    replicas: tuple[int, ...]
    windows_s: tuple[int, ...] = (1, 2, 5, 5)
    use_within_ms: tuple[int, ...] = (500, 1_000, 2_000, 5_000, 8_000)
    graces_ms: tuple[int, ...] = (400, 1_000, 2_000)
    leases_ms: tuple[int, ...] = (500, 1_000, 3_000, 3_000, 6_000)
    pods: tuple[int, ...] = (2, 3)
    managed: tuple[int, ...] = (1, 3, 5)
    plain: float = 0.5
    sessions_s: tuple[int, ...] = (3, 8)
    mixed: float = 0.7
    static: float = 0.3
    tight: float = 0.0
    refuses: float = 0.0
    totals: tuple[int, ...] = (15, 30, 60)
    days_s: tuple[int, ...] = (120, 300)
    slow_connect: float = 0.6
    faults: tuple[Fault, ...] = EVERY_FAULT
    fault_share: float = 0.35
    every_s: tuple[int, int] = (6, 40)
    dies_after_grant: tuple[float, ...] = (0.05, 0.15, 0.4)
    lost: tuple[float, ...] = (0.0, 0.01, 0.05, 0.25)
    late: tuple[float, ...] = (0.02, 0.1)
    late_max_s: tuple[int, ...] = (1, 5, 12, 30)
    stream_trouble: tuple[float, ...] = (0.0, 0.01, 0.05)
    withdraws: tuple[float, ...] = (0.0, 0.02, 0.1)


STYLES: Final[dict[Shape, Style]] = {
    Shape.ORDINARY: Style(
        durations_s=(90, 120, 150),
        max_concurrency=(1, 2, 4, 8, 16, 16),
        replicas=(1, 2, 3, 3, 3, 5),
        pods=(1, 3, 5, 7),
        managed=(8, 20, 50, 120),
        sessions_s=(5, 10, 25),
        mixed=0.3,
        tight=0.2,
        refuses=0.4,
        slow_connect=0.3,
        dies_after_grant=(0.0, 0.0, 0.02),
        lost=(0.0, 0.0, 0.01, 0.05),
        late=(0.0, 0.005, 0.03),
    ),
    Shape.FOCUSED: Style(
        durations_s=(50, 80),
        max_concurrency=(1, 2, 3),
        replicas=(2, 2, 3),
        windows_s=(1, 2),
        leases_ms=(500, 1_000, 3_000),
        withdraws=(0.0, 0.1, 0.3),
    ),
    Shape.LOSSES: Style(
        durations_s=(60, 90),
        max_concurrency=(1, 2),
        replicas=(2, 3),
        windows_s=(2, 5),
        use_within_ms=(2_000, 8_000),
        leases_ms=(500, 1_000),
        tight=0.5,
        totals=(4, 8, 20),
        days_s=(60, 200),
        faults=(Fault.DELETE, Fault.RESTORE, Fault.RECREATE, Fault.CUT_LEDGER, *_KILLS),
        fault_share=0.6,
        every_s=(6, 15),
    ),
    Shape.BUDGET: Style(
        durations_s=(60, 90),
        max_concurrency=(1, 2, 3),
        replicas=(1, 2, 3),
        leases_ms=(500, 1_000, 3_000),
        managed=(3, 6, 10),
        static=0.0,
        tight=1.0,
        totals=(4, 7, 12),
        days_s=(15, 30, 60),
        faults=(Fault.REFRESH, Fault.REFRESH, Fault.CHANGE_LIMITS, Fault.KILL_POD, Fault.DISCORD_AWAY, *_KILLS),
        fault_share=0.7,
        every_s=(3, 20),
    ),
    Shape.PLAIN: Style(
        durations_s=(60, 90),
        max_concurrency=(1, 2),
        replicas=(2, 3),
        windows_s=(1, 2),
        use_within_ms=(500, 1_000),
        graces_ms=(1_000, 2_000),
        leases_ms=(500, 1_000, 3_000),
        pods=(1,),
        managed=(0, 1),
        plain=1.0,
        mixed=0.3,
        lost=(0.0, 0.01),
        late=(0.0, 0.01),
        stream_trouble=(0.05, 0.15),
        dies_after_grant=(0.1, 0.3),
    ),
    Shape.DAYS: Style(
        durations_s=(3_750,),
        max_concurrency=(1, 2),
        replicas=(1, 2, 3),
        leases_ms=(10_000, 20_000),
        managed=(2, 4),
        sessions_s=(20, 60),
        plain=0.3,
        mixed=0.0,
        static=1.0,
        tight=1.0,
        totals=(6, 12),
        faults=(
            Fault.KILL,
            Fault.KILL_LEADER,
            Fault.STOP,
            Fault.PAUSE_LEADER,
            Fault.KILL_POD,
            Fault.AWAY,
            Fault.CUT_POD,
        ),
        every_s=(120, 600),
        lost=(0.0, 0.01),
        late=(0.0, 0.03),
    ),
    Shape.LOOPS: Style(
        durations_s=(150,),
        max_concurrency=(4, 8),
        replicas=(2, 3),
        windows_s=(1,),
        use_within_ms=(500, 1_000),
        leases_ms=(500, 1_000),
        managed=(8, 16),
        pods=(1, 3),
        plain=0.0,
        sessions_s=(2, 4),
        mixed=0.0,
        faults=(*_KILLS, Fault.KILL, Fault.PAUSE, Fault.KILL_POD, Fault.CUT_LEDGER, Fault.AWAY),
        fault_share=0.5,
        every_s=(8, 20),
        lost=(0.0, 0.01),
        late=(0.0, 0.02),
        withdraws=(0.0, 0.1),
    ),
}
"""Ordinary histories alone missed a third of the planted faults; each focused shape is there for some of those."""

CRASH_LOOP: Final = CrashLoop(grants=2, period_ns=60 * SECOND, first_wait_ns=10 * SECOND)
"""A successor is told of every shard from its first grant on, so that the promise is exact across leaders."""

STATIC_DAY_NS: Final = 3_000 * SECOND
STATIC_WINDOW_NS: Final = 2 * SECOND
STATIC_USE_WITHIN_NS: Final = SECOND
STATIC_MARGIN_NS: Final = 200 * MS
"""A static day is counted from its first charge; Discord's begins an IDENTIFY later. The 0.1 % that it is longer
must cover use_within, the latency and both clocks' drift, as 86 s do in a day of 24 hours."""
