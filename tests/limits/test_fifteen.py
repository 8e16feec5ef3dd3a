"""Fifteen session starts for thirty shards in three processes: real processes, a real nats-server, a local Discord."""

import json
import sys
from contextlib import asynccontextmanager
from typing import Any

import pytest

from coordinator.core.limits_policy import SOON_NS
from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.processes.local_cluster import environment_without
from nats_identify.processes.subprocesses import Children
from nats_identify.testing import SimulatedGateway
from tests.processes import WITHIN_S, until

BUDGET = 15
RESERVE = 5
SHARDS = 30
PODS = 3
WINDOW_S = 0.4
UNTOLD_S = SOON_NS / NS_PER_S
"""Discord is asked so often while nothing is left, if nobody says that it should be."""

TOKEN = "hunter2"  # noqa: S105  # the simulated Discord's


@asynccontextmanager
async def running_pods(gateway, url):
    """Three processes with ten shards each, as neighbours in every bucket."""
    environment = {**environment_without("IDENTIFY_", "NATS_", "DISCORD_"), "DISCORD_TOKEN": TOKEN}
    async with Children() as children:
        for pod in range(PODS):
            hand = ",".join(str(shard_id) for shard_id in range(pod, SHARDS, PODS))
            await children.start(
                f"pod-{pod}",
                *(sys.executable, "-m", "nats_identify.cli.demo.fleet", "--name", f"pod-{pod}"),
                *("--shard-ids", hand, "--shard-count", str(SHARDS), "--max-concurrency", "1"),
                *("--api-url", gateway.rest_url, "--gateway-url", gateway.ws_url),
                *("--window-s", str(WINDOW_S), "--nats-url", url),
                environment=environment,
            )
        yield


class Replies:
    """What every shard was told last, as heard by one who listens to all inboxes."""

    def __init__(self):
        self.newest = {}

    async def hear(self, message):
        body = json.loads(message.data or b"{}")
        if "status" in body and "shard_id" in body:
            self.newest[body["shard_id"]] = body

    def waiting(self):
        return [body for body in self.newest.values() if body["status"] == "queued"]

    def days(self):
        """In how many days each of them is granted."""
        return sorted(round(body["eta_ms"] / 86_400_000) for body in self.waiting())


@asynccontextmanager
async def exhausted(start_coordinator, nats_server, client):
    """The budget is spent but for the reserve, and the others have been told."""
    limits: dict[str, Any] = {
        "total": BUDGET,
        "window_s": WINDOW_S,
        "shards": SHARDS,
        "reset_after_s": 86_400,
        "token": TOKEN,
    }
    async with SimulatedGateway(1, **limits) as gateway:
        replies = Replies()
        await client.subscribe("_INBOX.>", cb=replies.hear)
        process = await start_coordinator(
            DISCORD_TOKEN=TOKEN,
            DISCORD_API_URL=gateway.rest_url,
            IDENTIFY_SESSION_RESERVE=str(RESERVE),
            IDENTIFY_WINDOW=str(WINDOW_S),
        )
        async with running_pods(gateway, nats_server.url):
            await gateway.until(lambda report: report.ready == BUDGET - RESERVE, within_s=2 * WITHIN_S)

            async def has_told_them():
                told = replies.waiting()
                return len(told) == SHARDS - BUDGET + RESERVE and all(b["reason"] == "session_limit" for b in told)

            await until(has_told_them, "everybody else knows why", 2 * WITHIN_S)
            yield gateway, replies, process


async def asked(client, subject):
    return json.loads((await client.request(subject, b"", timeout=WITHIN_S)).data)


async def test_exactly_the_budget_less_the_reserve_identify_and_the_rest_go_on_after_a_refresh(
    start_coordinator, nats_server, client
):
    async with exhausted(start_coordinator, nats_server, client) as (gateway, replies, process):
        status = await asked(client, "identify.status")
        assert status["session_start_limit"]["remaining"] == RESERVE
        assert status["waiting"] == SHARDS - BUDGET + RESERVE
        assert status["projection"]["session_starts_short"] == SHARDS - BUDGET + RESERVE
        assert not status["projection"]["budget_suffices"]

        async def has_told_all_days():  # the first were told before all had asked
            return replies.days() == [1] * 10 + [2] * 10

        await until(has_told_all_days, "the coming day has ten for them, the next one the others", WITHIN_S)

        gateway.set_limits(total=100, remaining=85)
        assert gateway.record.report().identifies == BUDGET - RESERVE
        before_ns = now_ns()
        info = await asked(client, "identify.refresh")
        assert info["session_start_limit"]["total"] == 100
        report = await gateway.until(lambda report: report.identifies > BUDGET - RESERVE)
        went_on_s = (report.last_identify_ns - before_ns) / 1e9
        print(f"\nthe next IDENTIFY reached Discord {went_on_s * 1000:.0f} ms after identify.refresh was sent")
        assert went_on_s < UNTOLD_S / 2  # it was the refresh, not the next question in its turn
        report = await gateway.until(lambda report: report.ready == SHARDS, within_s=2 * WITHIN_S)
        assert (report.violations, report.identifies, report.token_resets) == (0, SHARDS, 0)
        assert TOKEN not in process.log


@pytest.mark.slow  # half a minute: nobody tells the coordinator
async def test_without_a_refresh_they_go_on_when_discord_is_asked_in_its_turn(start_coordinator, nats_server, client):
    async with exhausted(start_coordinator, nats_server, client) as (gateway, _, _):
        before_ns = now_ns()
        gateway.set_limits(total=100, remaining=85)
        report = await gateway.until(lambda report: report.identifies > BUDGET - RESERVE, within_s=UNTOLD_S + 10)
        print(f"\nwithout a refresh it did after {(report.last_identify_ns - before_ns) / 1e9:.1f} s")
        report = await gateway.until(lambda report: report.ready == SHARDS, within_s=2 * WITHIN_S)
        assert (report.violations, report.identifies, report.token_resets) == (0, SHARDS, 0)
