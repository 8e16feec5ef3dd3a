"""Plays one start of a bot with every contestant at the same time, each before a simulated Discord of its own.

All of these gateways draw their delays from the same seed and judge by the same rules; a contestant is followed
through its gateway's record alone.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.contestants import Contestant
from benchmarks.figures import Step, up_at_end, up_since_s, up_steps
from benchmarks.programs import TOKEN, Program, Programs
from benchmarks.progress import Progress
from benchmarks.results import Row, Value
from benchmarks.stage import Cluster, limits_of, run_cluster
from nats_identify.clock import now_ns
from nats_identify.testing import Report, SimulatedGateway
from nats_identify.testing.events import GatewayEvent, Identified

WEATHER: Final[Mapping[str, Any]] = {
    "connect_delay_s": (0.0, 0.3),
    "hello_delay_s": (0.0, 0.15),
    "frame_latency_s": (0.02, 0.06),
    "seed": 7,
}
"""The delays of every gateway: those of a good connection over the internet."""

WINDOW_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """One start.

    Attributes:
        shards: of the bot.
        max_concurrency: of the simulated Discord.
        within_s: when it is over at the latest, up or not.
        processes: among which the shards are dealt, neighbours to different ones.
        coordinators: of a contestant that has them.
        discord: more options of the gateway.
    """

    shards: int
    within_s: float
    max_concurrency: int = 1
    processes: int = 1
    coordinators: int = 1
    discord: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ideal_s(self) -> float:
        """No queue can be sooner: the IDENTIFYs of the fullest bucket, a window apart."""
        return (-(-self.shards // self.max_concurrency) - 1) * WINDOW_S


class Start:
    """One contestant's start of the bot.

    Attributes:
        contestant: who starts it.
        gateway: the Discord before which it does.
        cluster: its nats-server and coordinators, if it has them.
        go_ns: the first IDENTIFY, from which the time counts; before it, when the processes were started.
        marked_ns: a moment from which a scenario counts.
        note: what ended it, if anything did.
    """

    def __init__(self, contestant: Contestant, plan: Plan, gateway: SimulatedGateway, cluster: Cluster | None) -> None:
        self.contestant = contestant
        self.gateway = gateway
        self.cluster = cluster
        self.marked_ns: int | None = None
        self.note = ""
        self._plan = plan
        self._begun_ns = now_ns()
        self._programs: list[Program] = []
        self._events: Sequence[GatewayEvent] = gateway.record.events
        self._report: Report | None = None

    @property
    def go_ns(self) -> int:
        """When its first IDENTIFY arrived; interpreters and libraries that load slowly are not what is measured."""
        first_ns = self.report().first_identify_ns
        return self._begun_ns if first_ns is None else first_ns

    def report(self) -> Report:
        """Return what the gateway has counted."""
        return self._report or self.gateway.record.report()

    def freeze(self) -> None:
        """Keep the record as it is: what follows is the end of the scenario."""
        self._report, self._events = self.gateway.record.report(), tuple(self.gateway.record.events)

    def steps(self, since_ns: int | None = None) -> list[Step]:
        """Return when how many shards were up."""
        return up_steps(self._events, self.go_ns if since_ns is None else since_ns)

    @property
    def up(self) -> int:
        """How many shards are up."""
        return up_at_end(self.steps())

    async def start_fleet(self, programs: Programs) -> None:
        """Start the processes of the bot; again, if they were killed."""
        self._programs = [
            await programs.start(*self._command(number), settings={"DISCORD_TOKEN": TOKEN})
            for number in range(self._plan.processes)
        ]
        self._begun_ns = now_ns()

    async def kill_fleet(self) -> None:
        """Kill -9 the processes of the bot."""
        await asyncio.gather(*(program.kill() for program in self._programs))

    async def until(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition. Return False if every process of the bot ended first."""
        while not condition():
            if self._programs and all(program.ended.done() for program in self._programs):
                words = next((program.last_words for program in self._programs if program.last_words), "")
                self.note = f"its process ended: {words[:100]}"
                return False
            await asyncio.sleep(_LOOK_EVERY_S)
        return True

    def signal_fleet(self, number: signal.Signals) -> None:
        """Signal the processes of the bot."""
        for program in self._programs:
            program.signal(number)

    def _command(self, number: int) -> list[str]:
        plan, ids = self._plan, range(number, self._plan.shards, self._plan.processes)
        fleet = [*self.contestant.fleet, "--name", f"fleet-{number}", "--shard-ids", ",".join(map(str, ids))]
        fleet += ["--shard-count", str(plan.shards), "--api-url", self.gateway.rest_url]
        fleet += ["--gateway-url", self.gateway.ws_url, "--max-concurrency", str(plan.max_concurrency)]
        fleet += ["--window-s", str(WINDOW_S)]
        return fleet if self.cluster is None else [*fleet, "--nats-url", self.cluster.url]


Act = Callable[[Start, Programs], Awaitable[None]]
"""What befalls one start of the bot while it is under way."""


async def play(
    contestants: Sequence[Contestant], plan: Plan, progress: Progress, act: Act | None = None
) -> list[Start]:
    """Start the bot with each contestant at once; return when all are up, or the time is over."""
    async with AsyncExitStack() as stack:
        programs = await stack.enter_async_context(Programs())
        starts = await asyncio.gather(*(_open(contestant, plan, stack) for contestant in contestants))
        for start in starts:
            if "reset_after_s" in plan.discord:  # the day ends so long after the start, not after the stage was open
                start.gateway.set_limits(reset_after_s=plan.discord["reset_after_s"])
            await start.start_fleet(programs)
        playing = [asyncio.ensure_future(_play_one(start, plan, programs, act)) for start in starts]
        shown = asyncio.ensure_future(_show(starts, plan, progress))
        try:
            await asyncio.wait(playing, timeout=plan.within_s)
        finally:
            shown.cancel()
            for task in playing:
                task.cancel()
            await asyncio.wait({shown, *playing})
        for task in playing:
            if not task.cancelled():
                task.result()  # raises what went wrong in the benchmark itself
        for start in starts:
            start.freeze()
        return starts


async def _open(contestant: Contestant, plan: Plan, stack: AsyncExitStack) -> Start:
    options = {"total": 1000, "shards": plan.shards, "token": TOKEN, **WEATHER, **plan.discord}
    gateway = await stack.enter_async_context(SimulatedGateway(plan.max_concurrency, **options))
    cluster = None
    if contestant.has_coordinator:
        running = run_cluster(limits_of(gateway.rest_url), coordinators=plan.coordinators)
        cluster = await stack.enter_async_context(running)
    return Start(contestant, plan, gateway, cluster)


async def _play_one(start: Start, plan: Plan, programs: Programs, act: Act | None) -> None:
    if act is not None:
        await act(start, programs)
    await start.until(lambda: start.up >= plan.shards)


async def _show(starts: Sequence[Start], plan: Plan, progress: Progress) -> None:
    while True:
        progress.say(", ".join(f"{start.contestant.name} {start.up}" for start in starts) + f" of {plan.shards} up")
        await asyncio.sleep(0.5)


def row_of(start: Start, plan: Plan, *, since_ns: int | None = None, **more: Value) -> Row:
    """Return what every fleet is measured by; with the time from `since_ns`, or from the first IDENTIFY."""
    report = start.report()
    steps = start.steps(since_ns)
    note = start.note or ("" if up_at_end(steps) >= plan.shards else f"ended after {plan.within_s:.0f} s")
    figures: dict[str, Value] = {
        "up": f"{up_at_end(steps)} of {plan.shards}",
        "all up after s": up_since_s(steps, plan.shards),
        "IDENTIFYs": report.identifies,
        "violations": report.violations,
        "smallest gap s": min(report.smallest_gap_s.values(), default=None),
    }
    figures |= {name.replace("_", " "): value for name, value in more.items()}
    return Row(start.contestant.name, figures, note, [(at_s, float(up)) for at_s, up in steps])


def mean_gap_s(start: Start) -> float | None:
    """Return the mean of the gaps between two IDENTIFYs of one bucket, refused ones included."""
    gaps_ns = [event.gap_ns for event in start.gateway.record.of(Identified) if event.gap_ns is not None]
    return sum(gaps_ns) / len(gaps_ns) / 1e9 if gaps_ns else None
