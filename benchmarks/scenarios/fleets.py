"""The starts of a bot: what a user sees of a queue, measured with every contestant at the same time."""

import asyncio
import signal
from dataclasses import replace
from typing import Final

from benchmarks.contestants import OURS, TWILIGHT
from benchmarks.fleets import WINDOW_S, Plan, Start, mean_gap_s, play, row_of
from benchmarks.programs import Programs
from benchmarks.results import Outcome
from benchmarks.scenarios import Bench

PATIENCE: Final = 1.25
"""A start that takes longer than the ideal by this factor, and `SLACK_S`, is not waited for."""

SLACK_S: Final = 15.0


BOT_KILLED: Final = f"{OURS}, its bot killed"


async def cold_start_16(bench: Bench) -> list[Outcome]:
    """16 shards in one bucket, started by one process."""
    return [await _cold_start(bench, "cold-start-16", "Cold start: 16 shards in one bucket", Plan(16, 0))]


async def cold_start_64(bench: Bench) -> list[Outcome]:
    """64 shards in 16 buckets, started by one process."""
    plan = Plan(64, 0, max_concurrency=16)
    return [await _cold_start(bench, "cold-start-64", "Cold start: 64 shards in 16 buckets", plan)]


async def two_processes(bench: Bench) -> list[Outcome]:
    """6 shards of one bucket in two processes, which start at the same time."""
    plan = Plan(6, 0, processes=2)
    title = "Two processes: 6 shards of one bucket"
    return [await _cold_start(bench, "two-processes", title, plan)]


async def _cold_start(bench: Bench, name: str, title: str, plan: Plan) -> Outcome:
    plan = Plan(plan.shards, PATIENCE * plan.ideal_s + SLACK_S, plan.max_concurrency, plan.processes)
    starts = await play(bench.contestants, plan, bench.progress)
    sentence = (
        f"From the first IDENTIFY to the last READY; ideal is {plan.ideal_s:.0f} s. A violation is an IDENTIFY that"
        " Discord answers with Invalid Session."
    )
    return Outcome(name, title, sentence, [row_of(start, plan, mean_gap_s=mean_gap_s(start)) for start in starts])


async def more_concurrency(bench: Bench) -> list[Outcome]:
    """Discord raises max_concurrency from 1 to 4 while 16 shards wait."""
    before = 3
    plan = Plan(16, 45.0)

    async def raise_it(start: Start, _programs: Programs) -> None:
        if not await start.until(lambda: start.report().identifies >= before):
            return
        start.gateway.set_limits(max_concurrency=4)
        start.marked_ns = start.report().last_identify_ns
        if start.contestant.name == TWILIGHT:
            start.signal_fleet(signal.SIGHUP)
        if start.cluster is not None:
            await start.cluster.refresh()

    starts = await play(bench.contestants, plan, bench.progress, raise_it)
    sentence = (
        "Discord raises `max_concurrency` from 1 to 4 after the third IDENTIFY; from that IDENTIFY until all 16 are up."
        f" Ideal is {4 * WINDOW_S:.0f} s: four more rounds. The coordinator learns it by `identify.refresh`, twilight's"
        " queue by its `update`; `LargeBotQueue` asks Discord every five minutes, the others once, at their start."
    )
    rows = [row_of(start, plan, since_ns=start.marked_ns) for start in starts]
    return [Outcome("more-concurrency", "max_concurrency 1 → 4 while shards wait", sentence, rows)]


async def spent_day(bench: Bench) -> list[Outcome]:
    """The day's session starts are spent in the middle of a start, and come back 30 s later."""
    day_s = 30.0
    plan = Plan(8, 55.0, max_concurrency=4, discord={"total": 100, "remaining": 4, "reset_after_s": day_s})
    starts = await play(bench.contestants, plan, bench.progress)
    sentence = (
        f"8 shards in 4 buckets; the day has 4 session starts left and ends {day_s:.0f} s after the start."
        " One IDENTIFY more than the day allows, and Discord ends every session of the bot and resets its token."
    )
    rows = [
        row_of(start, plan, over_the_day=start.report().over_limit, token_resets=start.report().token_resets)
        for start in starts
    ]
    return [Outcome("spent-day", "The day is spent, and refilled", sentence, rows)]


async def killed(bench: Bench) -> list[Outcome]:
    """What paces the shards is killed with kill -9 when three of eight are up."""
    plan = Plan(8, 65.0, coordinators=2)

    async def kill(start: Start, programs: Programs) -> None:
        if not await start.until(lambda: start.up >= 3):  # noqa: PLR2004  # in the middle
            return
        before = start.report().last_identify_ns
        await asyncio.sleep(1.0)  # in the middle of a window
        start.marked_ns = before
        if start.cluster is not None and start.contestant.name != BOT_KILLED:
            await start.cluster.coordinators[0].kill()
        else:
            await start.kill_fleet()
            await start.start_fleet(programs)

    besides = [replace(contestant, name=BOT_KILLED) for contestant in bench.contestants if contestant.name == OURS]
    starts = await play([*bench.contestants, *besides], plan, bench.progress, kill)
    sentence = (
        "8 shards in one bucket. With three up, what paces them is killed: the leading of two coordinators, which stays"
        " away; or the process of the bot, which is started again at once, since a library paces from inside of it."
        " In the last row that is done to a bot with this queue, too. The time counts from the last IDENTIFY before."
        " 8 IDENTIFYs are enough where no session is lost."
    )
    rows = [row_of(start, plan, since_ns=start.marked_ns, sessions_lost=_sessions_lost(start)) for start in starts]
    return [Outcome("killed", "kill -9 of what paces them", sentence, rows)]


def _sessions_lost(start: Start) -> int:
    return start.report().ready - start.up
