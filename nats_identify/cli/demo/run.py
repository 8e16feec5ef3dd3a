"""Runs the demo: starts every process, follows them from outside, and asks the simulated Discord how it went.

It paces nothing itself, and the library never imports the coordinator: that is a process like the others.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from nats_identify.cli.demo.board import Board
from nats_identify.cli.demo.plan import Plan
from nats_identify.cli.demo.show import View, showing
from nats_identify.cli.demo.verdict import Run, Verdict, judge_control, judge_queue, no_control, together
from nats_identify.cli.demo.watch import Watch
from nats_identify.clock import now_ns
from nats_identify.discord.session_limit import fetch_session_limit
from nats_identify.processes.local_cluster import START_MAX_S, environment_without, run_cluster
from nats_identify.processes.subprocesses import Child, Children
from nats_identify.wire import Info

TOKEN: Final = "MTAw.demo.of-no-bot"  # noqa: S105  # opens nothing but the simulated Discord of this run
"""Its first part is the id of a bot, in base64: hikari reads it."""

CONTROL_MAX_S: Final = 20.0
"""The control has a window for its collisions, and this long for its processes to start."""

ViewOf = Callable[[str], View]
"""Opens the view of a run with this title."""


@dataclass(frozen=True, slots=True)
class Discord:
    """The addresses of a simulated Discord."""

    rest_url: str
    ws_url: str
    report_url: str
    events_url: str


async def run_demo(plan: Plan, open_view: ViewOf) -> Verdict:
    """Run the fleet with the queue, then without it.

    Raises:
        ChildDiedError: a process ended before its time.
        TimeoutError: the processes did not start; the message says which.
    """
    verdict = judge_queue(plan, await run_with_queue(plan, open_view))
    if not plan.wants_control or plan.collisions == 0:
        return together(verdict, no_control(plan))
    return together(verdict, judge_control(await run_control(plan, open_view)))


async def run_with_queue(plan: Plan, open_view: ViewOf) -> Run:
    """Bring the fleet up through NATS and a coordinator that asks the simulated Discord for the limits."""
    async with AsyncExitStack() as stack:
        store = stack.enter_context(tempfile.TemporaryDirectory(prefix="nats-identify-demo-"))
        backstage = await stack.enter_async_context(Children())
        discord = await _start_discord(backstage, plan)
        starting = run_cluster(backstage, Path(store), settings=_coordinator_settings(plan, discord))
        cluster = await stack.enter_async_context(starting)
        await backstage.run_while_alive(cluster.until_known(_has_limits))
        watch = Watch(Board(plan.shards, plan.max_concurrency, started_ns=now_ns()))
        await stack.enter_async_context(watch.queue(cluster.connection))
        await stack.enter_async_context(watch.discord(discord.events_url))
        fleet = await stack.enter_async_context(Children())
        await stack.enter_async_context(showing(open_view("With the common queue"), watch.board))
        await _start_fleet(fleet, plan, discord, "--nats-url", cluster.url)
        all_up = watch.until(lambda board: board.is_all_up, within_s=plan.max_s)
        await backstage.run_while_alive(fleet.run_while_alive(all_up))
        return await _tell(discord, watch.board)


async def run_control(plan: Plan, open_view: ViewOf) -> Run:
    """Start the same fleet, each process pacing itself; stop as soon as the outcome is plain."""
    async with AsyncExitStack() as stack:
        backstage = await stack.enter_async_context(Children())
        discord = await _start_discord(backstage, plan)
        watch = Watch(Board(plan.shards, plan.max_concurrency, started_ns=now_ns()))
        await stack.enter_async_context(watch.discord(discord.events_url))
        fleet = await stack.enter_async_context(Children())
        await stack.enter_async_context(showing(open_view("Without the common queue"), watch.board))
        await _start_fleet(fleet, plan, discord)
        within_s = plan.window_s + CONTROL_MAX_S
        is_plain = watch.until(lambda board: board.violations >= plan.collisions, within_s=within_s)
        await backstage.run_while_alive(fleet.run_while_alive(is_plain))
        return await _tell(discord, watch.board)


async def _start_discord(children: Children, plan: Plan) -> Discord:
    discord = await children.start(
        "the simulated Discord",
        *(sys.executable, "-m", "nats_identify.testing"),
        *("--max-concurrency", f"{plan.max_concurrency}", "--shards", f"{plan.shards}"),
        *("--window-s", f"{plan.window_s}", "--total", f"{plan.session_total}"),
        *("--connect-delay-ms", plan.connect_delay_ms, "--frame-latency-ms", plan.frame_latency_ms),
        *("--token-env", "DISCORD_TOKEN"),
        environment=_environment(),
    )
    urls = json.loads(await children.run_while_alive(_first_line(discord)))
    return Discord(urls["rest_url"], urls["ws_url"], urls["report_url"], urls["events_url"])


def _coordinator_settings(plan: Plan, discord: Discord) -> dict[str, str]:
    return {
        **_environment(),
        "DISCORD_API_URL": discord.rest_url,
        "IDENTIFY_FRESH_START": "1",  # the store is this run's own, and empty
        "IDENTIFY_WINDOW": f"{plan.window_s}",
        "IDENTIFY_HTTP_PORT": "0",
        "IDENTIFY_REPLICA_NAME": "demo",
    }


def _has_limits(info: Info) -> bool:
    """A coordinator leads, and has Discord's limits."""
    return info.leader is not None and info.max_concurrency is not None


async def _start_fleet(children: Children, plan: Plan, discord: Discord, *queue: str) -> None:
    """Start a process for each share of the shards."""
    for number, hand in enumerate(plan.deal()):
        name = f"fleet-{number}"
        await children.start(
            name,
            *(sys.executable, "-m", plan.fleet_module, *plan.fleet_arguments, "--name", name),
            *("--shard-ids", ",".join(map(str, hand)), "--shard-count", f"{plan.shards}"),
            *("--api-url", discord.rest_url, "--gateway-url", discord.ws_url),
            *("--max-concurrency", f"{plan.max_concurrency}", "--window-s", f"{plan.window_s}"),
            *queue,
            environment=_environment(),
        )


async def _tell(discord: Discord, board: Board) -> Run:
    """Ask the simulated Discord how it went; the moments are those of its READYs."""
    async with aiohttp.ClientSession() as http:
        async with http.get(discord.report_url) as answer:
            report: dict[str, Any] = await answer.json()
        limit = await fetch_session_limit(http, TOKEN, api_url=discord.rest_url)
    first_ns, last_ns = board.first_up_ns, board.last_up_ns
    return Run(
        identifies=report["identifies"],
        violations=report["violations"],
        over_limit=report["over_limit"] + report["token_resets"],
        ready_by_shard={int(shard_id): count for shard_id, count in report["ready_by_shard"].items()},
        smallest_gap_s={int(bucket): gap_s for bucket, gap_s in report["smallest_gap_s"].items()},
        mean_gap_s={int(bucket): gap_s for bucket, gap_s in report["mean_gap_s"].items()},
        remaining=limit.remaining,
        first_up_s=None if first_ns is None else board.seconds_since_start(first_ns),
        all_up_s=board.seconds_since_start(last_ns) if board.is_all_up and last_ns is not None else None,
    )


async def _first_line(child: Child) -> str:
    try:
        async with asyncio.timeout(START_MAX_S):
            return await child.first_line()
    except TimeoutError:
        message = f"{child.name} did not start within {START_MAX_S:g} s"
        raise TimeoutError(message) from None


def _environment() -> dict[str, str]:
    """Ours without what is meant for real bots and coordinators, and with the demo's token."""
    return {**environment_without("IDENTIFY_", "NATS_", "DISCORD_"), "DISCORD_TOKEN": TOKEN}
