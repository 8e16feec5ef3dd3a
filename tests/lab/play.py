"""The play, in the cluster's network: pods of a bot, then forty waiting shards and every fault, judged by Discord.

``python -m tests.lab.play SECRETS LAB MANIFESTS``, run by tests.lab. It prints a figure a line, and fails at the first
thing that is not as it must be.
"""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import nats
import yaml
from nats.aio.client import Client
from nats.aio.msg import Msg

from nats_identify import NatsQueue
from nats_identify.testing import BareShard, Report, ShardState, SimulatedGateway
from nats_identify.testing.events import Identified
from tests.chaos.judge import demand_served_once_and_in_order, ignore
from tests.deploy.objects import containers, get
from tests.deploy.rendering import find_renderer
from tests.deploy.rules import mib
from tests.lab.cluster import (
    COORDINATORS,
    all_ready,
    evict,
    kill_from_outside,
    kubectl,
    pods,
    restarts,
    rollout_restart,
)
from tests.lab.order import passed_by, served
from tests.lab.usage import Meter, measured
from tests.processes import until

NODE: Final = "10.99.0.1"
DISCORD_PORT: Final = 18080
NATS_URL: Final = "nats://nats.nats-identify.svc.cluster.local:4222"
TOKEN: Final = "MTAw.of-a-simulated.bot"  # noqa: S105  # opens nothing

PODS_FIRST, PODS_THEN = 4, 16
PODS_AT_ONCE: Final = 4
"""max_concurrency for the bot in pods."""

TOTAL: Final = 1000
"""The day's session starts."""

SHARDS: Final = 40
SHARDS_AT_ONCE: Final = 1
"""One bucket: the whole line waits for as long as all the faults take, and its order is one order."""

NATS_PODS: Final = "app.kubernetes.io/component=nats"
SHARD_PODS: Final = "app.kubernetes.io/component=shards"
SERVED_WITHIN_S: Final = 400.0


def say(line: str) -> None:
    print(line, flush=True)


class Stage:
    """What every act needs: Discord, an operator's eyes, and the passwords."""

    def __init__(self, gateway: SimulatedGateway, operator: Client, secrets: Path) -> None:
        self.gateway = gateway
        self.operator = operator
        self.secrets = secrets
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def hear(self, message: Msg) -> None:
        """Keep what the leader tells."""
        self.events.append((message.subject.rpartition(".")[2], json.loads(message.data)))

    async def leader(self) -> str:
        """Return the pod that leads, when one does."""

        async def look() -> str | None:
            try:
                info = json.loads((await self.operator.request("identify.info", b"", timeout=1)).data)
            except (nats.errors.Error, TimeoutError):
                return None
            there = {pod["metadata"]["name"] for pod in await pods(COORDINATORS)}
            leader: str = info["leader"]
            return leader if leader in there else None

        return await until(look, "a coordinator leads", within_s=60)

    async def let_discord_say(self, **limits: Any) -> None:
        """Change Discord's limits, and have them asked for."""
        self.gateway.set_limits(**limits)

        async def is_known() -> Any:
            info = json.loads((await self.operator.request("identify.refresh", b"", timeout=10)).data)
            return info["max_concurrency"] == limits["max_concurrency"]

        await until(is_known, "the coordinators know the new limits", within_s=150)

    async def left_of_the_day(self, subject: str) -> int:
        """Return what a coordinator believes is left."""
        info = json.loads((await self.operator.request(subject, b"", timeout=10)).data)
        remaining: int = info["session_start_limit"]["remaining"]
        return remaining

    def identified(self) -> list[int]:
        return [event.shard_id for event in self.gateway.record.of(Identified)]


# --- the bot in pods


async def scaling(stage: Stage, lab: Path, manifests: Path) -> None:
    """4 pods of a real bot, then 16: the coordinators are not touched, and the new shards go in order."""
    gateway, before = stage.gateway, await restarts(COORDINATORS)
    applied = [str(lab), "apply", str(manifests / "shards")]
    environment = {"LAB_CPU_REQUEST": "20m", **os.environ}
    await asyncio.to_thread(partial(subprocess.run, applied, check=True, capture_output=True, env=environment))
    await gateway.until(lambda report: report.ready == PODS_FIRST, within_s=SERVED_WITHIN_S)
    say(f"{PODS_FIRST} pods of examples/discord_py_bot.py: {sorted(stage.identified())} of {PODS_THEN} shards are up")
    began_s = time.monotonic()
    await kubectl("scale", "statefulset/shards", f"--replicas={PODS_THEN}")
    report = await gateway.until(lambda report: report.ready == PODS_THEN, within_s=SERVED_WITHIN_S)
    say(f"kubectl scale {PODS_FIRST} -> {PODS_THEN}: all up after {time.monotonic() - began_s:.1f} s")
    after = await restarts(COORDINATORS)
    assert after == before, (before, after)
    say(f"coordinators untouched: {len(after)} pods, the same, restarts {sum(after.values()) - sum(before.values())}")
    assert sorted(stage.identified()) == list(range(PODS_THEN))
    line = served(stage.events)
    assert {request.shard_id for request in line} == set(stage.identified())
    assert passed_by(line) == [], line
    smallest_s = min(report.smallest_gap_s.values())
    assert report.violations == 0
    say(f"the new shards identified in the order in which they asked; violations 0, smallest gap {smallest_s:.3f} s")


async def ending_a_shard(stage: Stage) -> None:
    """A pod that is deleted closes its session so that it can be resumed, and the pod in its place identifies."""
    await kubectl("delete", "pod", "shards-0", "--wait=false")
    report = await stage.gateway.until(lambda report: report.ready == PODS_THEN + 1, within_s=SERVED_WITHIN_S)
    codes = dict(report.disconnects_by_code)
    say(f"shards-0 deleted: closed with {codes}, its successor is up; violations {report.violations}")
    assert codes == {4000: 1}
    assert report.violations == 0
    await kubectl("delete", "statefulset/shards")
    await until(lambda: all_ready(SHARD_PODS, 0), "the pods are gone", within_s=90)


# --- the faults


async def delete_the_leader(stage: Stage) -> str:
    await kubectl("delete", "pod", await stage.leader(), "--wait=false")
    return "leader's pod deleted"


async def kill_the_leader(stage: Stage) -> str:
    leader = await stage.leader()
    before = (await restarts(COORDINATORS))[leader]
    await kill_from_outside(leader)

    async def is_started_again() -> bool:
        return (await restarts(COORDINATORS))[leader] > before

    await until(is_started_again, "the kubelet starts the container again", within_s=60)
    return "leader killed (SIGKILL)"


async def evict_the_leader(stage: Stage) -> str:
    leader = await stage.leader()
    others = [pod["metadata"]["name"] for pod in await pods(COORDINATORS) if pod["metadata"]["name"] != leader]
    first, second = await evict(leader), await evict(others[0])
    assert (first, second) == (201, 429)
    return f"leader evicted ({first}); a second eviction, beyond the budget: {second}"


async def restart_the_coordinators(_stage: Stage) -> str:
    await rollout_restart("deployment/coordinator")
    return "rollout restart of the coordinators"


async def restart_nats(_stage: Stage) -> str:
    await rollout_restart("statefulset/nats")
    return "rollout restart of NATS"


FAULTS = (
    (2, delete_the_leader),
    (5, kill_the_leader),
    (8, evict_the_leader),
    (11, restart_the_coordinators),
    (16, restart_nats),
)
"""Each when so many have been served."""


async def ordeal(stage: Stage) -> None:
    """Forty shards in one line, and every fault while they wait."""
    gateway = stage.gateway
    password = (stage.secrets / "shard-password").read_text()
    way_in = {"user": "shard", "password": password, "inbox_prefix": "_INBOX_shard.lab"}
    began_s, done = time.monotonic(), len(gateway.record.of(Identified))
    positions: dict[int, int | None] = {}
    async with NatsQueue.connect(NATS_URL, **way_in) as queue, AsyncExitStack() as stack:
        shards: list[BareShard] = []
        for shard_id in range(SHARDS):

            def moved(progress: Any, shard_id: int = shard_id) -> None:
                positions[shard_id] = progress.position

            shard = BareShard(queue, shard_id, SHARDS, gateway.ws_url, TOKEN, on_progress=moved)
            shards.append(await stack.enter_async_context(shard))
            await until(partial(_stands, shard, positions), f"shard {shard_id} stands in the queue")
        say(f"{SHARDS} shards wait in {SHARDS_AT_ONCE} bucket")
        for due, fault in FAULTS:
            await gateway.until(partial(_identified, done + due), within_s=SERVED_WITHIN_S)
            await _suffered(stage, fault(stage), done)
        report = await gateway.until(lambda report: report.identifies >= done + SHARDS, within_s=SERVED_WITHIN_S)

        async def are_up() -> bool:
            return all(shard.state is ShardState.UP for shard in shards)

        await until(are_up, "every shard is up")
    say(f"{SHARDS} shards up after {time.monotonic() - began_s:.0f} s; the least is {(SHARDS - 1) * 5.2:.0f} s")
    assert report.violations == 0


async def _suffered(stage: Stage, fault: Awaitable[str], done: int) -> None:
    began_s, served = time.monotonic(), len(stage.identified()) - done
    what = await fault
    await until(lambda: all_ready(COORDINATORS, 3), "all coordinators are ready again", within_s=120)
    await until(lambda: all_ready(NATS_PODS, 3), "all of NATS is ready again", within_s=120)
    healed_s, meanwhile = time.monotonic() - began_s, len(stage.identified()) - done - served
    say(f"  {what}: all ready again after {healed_s:.1f} s, {meanwhile} shards served meanwhile")


def _identified(least: int, report: Report) -> bool:
    return report.identifies >= least


async def _stands(shard: BareShard, positions: dict[int, int | None]) -> bool:
    is_through = shard.state in {ShardState.IDENTIFIED, ShardState.UP}
    return is_through or positions.get(shard.shard_id) is not None


async def judge(stage: Stage, gateway: SimulatedGateway) -> None:
    """What Discord saw, and what the ledger says is left of the day."""
    demand_served_once_and_in_order(gateway, SHARDS, SHARDS_AT_ONCE)
    report = gateway.record.report()
    gap_s = min(report.smallest_gap_s.values())
    say(f"violations 0, {report.ready} READY to {len(report.ready_by_shard)} shards, in the order in which they asked")
    say(f"smallest gap of two IDENTIFYs {gap_s:.3f} s, mean {max(report.mean_gap_s.values()):.3f} s")

    used, there = await stage.left_of_the_day("identify.info"), TOTAL - report.identifies
    say(f"session starts left: {used} by the ledger, {there} at Discord")
    assert used <= there, "more than there is could be spent"

    async def agree() -> bool:
        return await stage.left_of_the_day("identify.refresh") == there

    await until(agree, "the ledger has Discord's own figure", within_s=60)


# --- what it took


def demand_within_requests(meters: list[Meter], names: tuple[str, ...], manifests: Path) -> None:
    """Compare what the containers used with what the manifests ask for, not with what the lab reserved."""
    renderer = find_renderer()
    assert renderer is not None
    docs = []
    for folder in ("queue", "shards"):
        text = subprocess.run([*renderer, manifests / folder], capture_output=True, check=True).stdout
        docs += yaml.safe_load_all(text)
    asked = {
        "coordinator": get(docs, "Deployment", "coordinator"),
        "nats": get(docs, "StatefulSet", "nats"),
        "shards": get(docs, "StatefulSet", "shards"),
    }
    exceeded = []
    for meter, name in zip(meters, names, strict=True):
        requests = containers(asked[name])[0]["resources"]["requests"]
        memory_mib, cpu_m = mib(requests["memory"]), float(requests["cpu"].removesuffix("m"))
        say(
            f"{name}: {len(meter.by_container)} containers, at most {meter.peak_mib():.0f} MiB of {memory_mib:.0f} MiB"
            f" requested, and on the average {meter.cpu_m():.0f}m CPU of {cpu_m:.0f}m"
        )
        exceeded += [name] if meter.peak_mib() > memory_mib or meter.cpu_m() > cpu_m else []
    assert not exceeded, f"more than was requested: {exceeded}"


async def play(secrets: Path, lab: Path, manifests: Path) -> None:
    way_in = {"user": "operator", "password": (secrets / "operator-password").read_text()}
    operator = await nats.connect(
        NATS_URL,
        inbox_prefix="_INBOX_operator",
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,
        error_cb=ignore,
        **way_in,
    )
    logging.getLogger("nats_identify").setLevel(logging.ERROR)  # a server that goes is told below
    async with SimulatedGateway(PODS_AT_ONCE, TOTAL, host=NODE, port=DISCORD_PORT, shards=PODS_THEN) as gateway:
        stage = Stage(gateway, operator, secrets)
        await operator.subscribe("identify.event.>", cb=stage.hear)
        await stage.let_discord_say(max_concurrency=PODS_AT_ONCE)
        say(f"leader: {await stage.leader()}")
        async with measured(SHARD_PODS) as meters:
            await scaling(stage, lab, manifests)
            await ending_a_shard(stage)
        demand_within_requests(meters, ("shards",), manifests)
    async with SimulatedGateway(SHARDS_AT_ONCE, TOTAL, host=NODE, port=DISCORD_PORT, shards=SHARDS) as gateway:
        stage.gateway = gateway
        await stage.let_discord_say(max_concurrency=SHARDS_AT_ONCE)
        async with measured(COORDINATORS, NATS_PODS) as meters:
            await ordeal(stage)
        await judge(stage, gateway)
        demand_within_requests(meters, ("coordinator", "nats"), manifests)
    await operator.close()


if __name__ == "__main__":
    asyncio.run(play(*map(Path, sys.argv[1:])))
