"""Large crowds at this queue's coordinator: how long they take to be answered, and what they cost while they wait."""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.contestants import OURS
from benchmarks.crowd import Line, Order
from benchmarks.figures import percentile
from benchmarks.large import Followed, StalledError, follow, latencies, seconds
from benchmarks.results import Outcome, Row, Value
from benchmarks.scenarios import Bench
from benchmarks.stage import Cluster, run_cluster, static_limits
from nats_identify.clock import now_ns

BUCKETS: Final = 16
"""max_concurrency of a large bot. The crowd is in these buckets; those behind them are idle."""

IDLE_BUCKETS: Final = 112
PROBE_EVERY_S: Final = 0.1
SETTLE_S: Final = 6.0
STEADY_S: Final = 20.0
AFTER_RESTART_S: Final = 15.0
ROUNDS: Final = 3
ANSWERED_PER_S_MIN: Final = 400
"""A burst that is answered more slowly is given up."""

NO_GUARD: Final = {"IDENTIFY_CRASH_LOOP_GRANTS": "0"}

BURST: Final = (
    "A burst of requests, all at once",
    (
        f"In {BUCKETS} buckets, until each request has its first answer, to half a second. Late: from the moment at"
        " which a turn was possible (the bucket open, the request sent) to the grant at the client. Meanwhile idle"
        " buckets are asked: from the request to the grant."
    ),
)
STEADY: Final = (
    "The same crowd, waiting",
    (
        f"For {STEADY_S:.0f} s, from {SETTLE_S:.0f} s after the last first answer; each request renews at the interval"
        " that the coordinator names."
    ),
)
RESTART: Final = (
    "NATS restarted while the crowd waits",
    (
        "The nats-server is stopped and started again. Pause: from its stop until grants go on, to half a second."
        " Overtaken: grants out of the order of asking, from the burst on."
    ),
)
THROUGHPUT: Final = (
    "Grants a second, by the number of buckets",
    (
        f"{ROUNDS} requests for each bucket, all at once, every bucket idle. The first grant of every bucket is due at"
        " once: grants a second until the last of them. The rounds after it are paced by the window. Violations and"
        " overtaken: over all of it."
    ),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A crowd at its coordinator."""

    bench: Bench
    cluster: Cluster
    crowd: Followed
    count: int

    def show(self, line: Line) -> None:
        """Say how it stands."""
        self.bench.progress.say(f"{line.answered:,} of {self.count:,} answered, {line.grants:,} granted")


async def crowds(bench: Bench) -> list[Outcome]:
    """A burst of requests, all at once; then they wait; then NATS is restarted while they wait."""
    bursts: list[Row] = []
    steadies: list[Row] = []
    restarts: list[Row] = []
    for count in (20_000, 100_000) if bench.is_full else (20_000,):
        who = f"{OURS}, {count:,}"
        async with run_cluster({**static_limits(BUCKETS + IDLE_BUCKETS), **NO_GUARD}) as cluster:
            port = cluster.server.port
            async with follow(
                Order(port, count, BUCKETS, BUCKETS + IDLE_BUCKETS, probe_every_s=PROBE_EVERY_S)
            ) as crowd:
                scene = Scene(bench, cluster, crowd, count)
                bursts.append(await _row(who, _burst(scene)))
                steadies.append(await _row(who, _steady(scene)))
                restarts.append(await _row(who, _restart(scene)))
    return [
        Outcome("burst", *BURST, bursts),
        Outcome("steady", *STEADY, steadies),
        Outcome("restart", *RESTART, restarts),
    ]


async def _burst(scene: Scene) -> dict[str, Value]:
    crowd = scene.crowd
    await crowd.until(lambda: bool(crowd.lines))
    begun_ns = crowd.lines[0].at_ns
    within_s = scene.count / ANSWERED_PER_S_MIN
    await crowd.until(lambda: crowd.newest.answered >= scene.count, scene.show, within_s=within_s)
    return {
        "all answered after s": seconds(begun_ns, crowd.newest.at_ns),
        **latencies(crowd.lines),
        "refused for now": sum(line.overloaded for line in crowd.lines),
        "violations": crowd.newest.violations,
    }


async def _steady(scene: Scene) -> dict[str, Value]:
    crowd, leader = scene.crowd, scene.cluster.coordinators[0]
    answered_ns = now_ns()
    await crowd.until(lambda: seconds(answered_ns, now_ns()) >= SETTLE_S, scene.show)
    begun_ns, cpu_s = now_ns(), leader.cpu_s()
    await crowd.until(lambda: seconds(begun_ns, now_ns()) >= STEADY_S, scene.show)
    took_s, cpu_end_s = seconds(begun_ns, now_ns()), leader.cpu_s()
    lines = crowd.since(begun_ns)
    return {
        "renewals/s": sum(line.sent for line in lines) / took_s,
        "coordinator's core %": None if cpu_s is None or cpu_end_s is None else 100 * (cpu_end_s - cpu_s) / took_s,
        "its memory MB": leader.memory_mb(),
        **latencies(lines),
        "leader's term": await _term(scene),
        "violations": crowd.newest.violations,
    }


async def _restart(scene: Scene) -> dict[str, Value]:
    crowd = scene.crowd
    begun_ns = now_ns()
    await scene.cluster.server.restart()
    up_again_ns = now_ns()
    await crowd.until(lambda: any(line.late_ms for line in crowd.since(up_again_ns)), scene.show)
    resumed_ns = next(line.at_ns for line in crowd.lines if line.at_ns > up_again_ns and line.late_ms)
    await crowd.until(lambda: seconds(resumed_ns, now_ns()) >= AFTER_RESTART_S, scene.show)
    return {
        "NATS away s": seconds(begun_ns, up_again_ns),
        "pause s": seconds(begun_ns, resumed_ns),
        **latencies(crowd.since(up_again_ns)),
        "still waiting": crowd.newest.waiting,
        "overtaken": crowd.newest.overtaken,
        "leader's term": await _term(scene),
        "violations": crowd.newest.violations,
    }


async def _term(scene: Scene) -> int | None:
    """Return how often the only coordinator began to lead: more than once where its lease has run out."""
    info = await scene.cluster.info()
    return None if info is None else info.term


async def throughput(bench: Bench) -> list[Outcome]:
    """Grants a second, by the number of buckets."""
    sizes = (16, 256, 1024, 2048, 4096) if bench.is_full else (16, 256, 1024, 2048)
    rows = [await _row(f"{OURS}, {buckets:,}", _rounds(bench, buckets)) for buckets in sizes]
    return [Outcome("throughput", *THROUGHPUT, rows)]


async def _rounds(bench: Bench, buckets: int) -> dict[str, Value]:
    count = ROUNDS * buckets
    async with run_cluster({**static_limits(buckets), **NO_GUARD}) as cluster:  # noqa: SIM117  # one after the other
        async with follow(Order(cluster.server.port, count, buckets, buckets)) as crowd:
            scene = Scene(bench, cluster, crowd, count)
            await crowd.until(lambda: crowd.newest.grants >= count, scene.show)
            late_ms = [late for line in crowd.lines for late in line.late_ms]
            first_ms, later_ms = late_ms[:buckets], late_ms[buckets:]
            return {
                "first grant of each, s": max(first_ms) / 1000,
                "grants/s": buckets / (max(first_ms) / 1000),
                "later rounds late p50 ms": percentile(later_ms, 50),
                "later rounds late p99 ms": percentile(later_ms, 99),
                "overtaken": crowd.newest.overtaken,
                "violations": crowd.newest.violations,
            }


async def _row(who: str, measuring: Coroutine[Any, Any, dict[str, Value]]) -> Row:
    try:
        return Row(who, await measuring)
    except StalledError as error:
        return Row(who, {}, str(error)[:200])
