"""discord.js and @discordjs/ws in real processes, with the package of clients/node; the gateway's record judges.

`make node` runs it: the package is built first.
"""

import asyncio
import json
import os
import re
import shutil
import signal
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from nats.aio.client import Client

from nats_identify import NatsQueue
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing import SimulatedGateway
from nats_identify.testing.client_kit.client import ClientProcess
from nats_identify.testing.client_kit.managed_rules import MANAGED_RULES
from nats_identify.testing.client_kit.runner import Runner, nats_for_kit
from nats_identify.testing.codes import CloseCode
from nats_identify.testing.events import Resumed
from nats_identify.testing.shard import BareShard
from tests.clients.conftest import TOKEN, BotProcess
from tests.clients.test_family import ENDLESS_WINDOW, QUICK_WINDOW, order_of_shards
from tests.processes import ROOT, WITHIN_S, until

PACKAGE: Final = ROOT / "clients/node"
BOTS: Final = PACKAGE / "dist/test/bots"

pytestmark = [
    pytest.mark.slow,  # `make node` runs it, and CI runs that
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is missing: install Node 20.19 or later with it"),
    pytest.mark.skipif(not BOTS.exists(), reason="clients/node is not built: run `make node`"),
]

StartNode = Callable[..., Awaitable[BotProcess]]


@pytest.fixture
async def start_node(nats_server: EmbeddedNats, tmp_path: Path):
    """Start a bot on @discordjs/ws: `await start_node(gateway, shard_ids=[0, 2], shard_count=4)`."""
    started: list[BotProcess] = []

    async def start(
        gateway: SimulatedGateway, *, shard_ids: list[int], shard_count: int, in_workers: bool = False
    ) -> BotProcess:
        log_file = tmp_path / f"node-{len(started)}.log"
        shards = {"SHARD_IDS": ",".join(map(str, shard_ids)), "SHARD_COUNT": f"{shard_count}"}
        shards |= {"WORKERS": "1"} if in_workers else {}
        with log_file.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *("node", str(BOTS / "ws_bot.js")),
                env={**environment(gateway, nats_server), **shards},
                stdout=PIPE,
                stderr=log,
            )
        started.append(BotProcess(process, log_file))
        return started[-1]

    yield start
    for bot in started:
        await bot.kill()


def environment(gateway: SimulatedGateway, nats_server: EmbeddedNats) -> dict[str, str]:
    api = gateway.rest_url.removesuffix("/v10")
    return {"PATH": os.environ["PATH"], "NATS_URL": nats_server.url, "DISCORD_TOKEN": TOKEN, "DISCORD_API": api}


@pytest.fixture
async def start_readme(nats_server: EmbeddedNats):
    """Start the bot of the README as it is shown there; only the address of Discord is another."""
    started: list[asyncio.subprocess.Process] = []

    async def start(gateway: SimulatedGateway) -> asyncio.subprocess.Process:
        (block,) = re.findall(r"```js\n(import \{ Client.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
        program = PACKAGE / "dist/readme_bot.js"
        program.write_text(block)
        process = await asyncio.create_subprocess_exec(
            *("node", "--import", str(BOTS / "redirect.js"), str(program)),
            env=environment(gateway, nats_server),
            stdout=PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_client_keeps_every_rule_of_the_kit():
    command = f"node {PACKAGE / 'dist/examples/kit_client.js'}"
    async with nats_for_kit(None) as options:
        runner = Runner(options, lambda record: ClientProcess(command, record))
        results = await runner.run(MANAGED_RULES, jobs=len(MANAGED_RULES))
    broken = {result.rule.name: result.finding.seen for result in results if result.finding is not None}
    print(f"the client keeps {len(results) - len(broken)} of {len(MANAGED_RULES)} rules")  # noqa: T201  # for `make node`
    assert broken == {}
    assert len(results) == len(MANAGED_RULES)


async def test_a_fleet_of_two_languages_in_one_bucket(
    start_coordinator, open_gateway, start_node, start_readme, happened, nats_server: EmbeddedNats
):
    window_s = float(os.environ.get("NODE_FLEET_WINDOW", "1"))
    await start_coordinator(IDENTIFY_WINDOW=f"{window_s}", IDENTIFY_MARGIN="0.2")
    gateway = await open_gateway(shards=12, window_s=window_s)
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(NatsQueue.connect(nats_server.url, client="python"))
        for shard_id in range(8, 12):
            await stack.enter_async_context(BareShard(queue, shard_id, 12, gateway.ws_url, TOKEN))
        bot = await start_node(gateway, shard_ids=[0, 1, 2, 3], shard_count=12)
        readme = await start_readme(gateway)  # the shards 4 to 7
        assert readme.stdout is not None
        await bot.until("up")
        line = await asyncio.wait_for(readme.stdout.readline(), WITHIN_S)
        assert line == b"all shards of this process are up\n"
        report = await gateway.until(lambda report: report.ready == 12)

        async def all_are_known() -> bool:
            return bool(happened["ready"] == 12)

        await until(all_are_known, "the queue knows of every READY")
        readme.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(readme.wait(), WITHIN_S) == 0

    print(report)  # noqa: T201  # the figures of the run, for `make node`
    assert report.violations == 0
    assert report.identifies == 12
    assert report.ready_by_shard == dict.fromkeys(range(12), 1)
    assert happened["granted"] == happened["identified"] == 12
    assert happened["declined"] == happened["rejected"] == 0


async def test_resume_needs_no_turn_and_a_lost_session_goes_first(
    start_coordinator, open_gateway, start_node: StartNode, waiting, client: Client
):
    await start_coordinator(**ENDLESS_WINDOW)
    gateway = await open_gateway()
    bot = await start_node(gateway, shard_ids=[0, 1, 2], shard_count=3)

    async def two_wait() -> bool:
        return gateway.record.report().ready == 1 and len(await waiting()) == 2

    await until(two_wait, "one is up and two wait")
    (live,) = order_of_shards(gateway)
    await gateway.drop(live)
    await bot.until("resumed", shard_id=live)
    await gateway.reconnect(live)
    await bot.until("resumed", shard_id=live, times=2)
    assert len(await waiting()) == 2
    assert gateway.record.report().identifies == 1

    await gateway.invalidate(live)

    async def it_is_first() -> bool:
        status = json.loads((await client.request("identify.status", b"", timeout=WITHIN_S)).data)
        (bucket,) = status["buckets"]
        return (bucket["waiting"], bucket["first"][0]["shard_id"], bucket["first"][0]["priority"]) == (3, live, 1)

    await until(it_is_first, "the shard whose session was live goes first")


@pytest.mark.parametrize("in_workers", [False, True], ids=["in one thread", "in workers"])
async def test_lost_sessions_are_replaced_in_their_turns(
    in_workers, start_coordinator, open_gateway, start_node: StartNode, happened
):
    await start_coordinator(**QUICK_WINDOW)
    gateway = await open_gateway(window_s=0.6)
    bot = await start_node(gateway, shard_ids=[0, 1, 2], shard_count=3, in_workers=in_workers)
    await bot.until("up")
    await gateway.drop(0, resumable=False)
    await gateway.invalidate(1)
    report = await gateway.until(lambda report: report.ready == 5)
    assert report.violations == 0
    assert report.identifies == 5
    assert report.ready_by_shard == {0: 2, 1: 2, 2: 1}
    assert [event.accepted for event in gateway.record.of(Resumed)] == [False]

    async def all_are_known() -> bool:
        return bool(happened["ready"] == 5)

    await until(all_are_known, "the queue knows of every READY")
    assert happened["rejected"] == 0, "no Invalid Session answered an IDENTIFY"


async def test_nothing_passes_while_the_queue_is_away(
    start_coordinator, open_gateway, start_node: StartNode, nats_server: EmbeddedNats
):
    window = {"IDENTIFY_WINDOW": "1.5", "IDENTIFY_MARGIN": "0.1"}
    coordinator = await start_coordinator(**window)
    gateway = await open_gateway(window_s=1.5)
    bot = await start_node(gateway, shard_ids=[0, 1, 2], shard_count=3)
    await gateway.until(lambda report: report.ready == 1)
    live = order_of_shards(gateway)[0]
    await coordinator.end(signal.SIGKILL)
    await nats_server.stop()
    await asyncio.sleep(1.5)  # longer than a turn may be used: one that was granted has been used, or is over
    before = gateway.record.report().identifies
    await gateway.invalidate(live)
    await bot.until_logged("NATS at ")
    await asyncio.sleep(2)  # longer than a window: time for what must not happen
    assert gateway.record.report().identifies == before

    await nats_server.start()
    await start_coordinator(IDENTIFY_FRESH_START="", **window)
    report = await gateway.until(lambda report: report.ready == 4)
    assert report.violations == 0
    assert report.identifies == 4
    await bot.until_logged("NATS is back")


async def test_invalid_session_in_answer_to_identify_is_reported(
    start_coordinator, open_gateway, start_node: StartNode, happened
):
    await start_coordinator(**QUICK_WINDOW)
    gateway = await open_gateway(window_s=0.6)
    bot = await start_node(gateway, shard_ids=[0], shard_count=1)
    await bot.until("up")
    gateway.set_limits(remaining=0)  # the library does not start where it is 0
    await gateway.invalidate(0)
    await gateway.until(lambda report: report.over_limit >= 2)
    gateway.reset_day()
    report = await gateway.until(lambda report: report.ready == 2)

    async def all_are_known() -> bool:
        return bool(happened["ready"] == 2)

    await until(all_are_known, "the queue knows of every READY")
    assert happened["granted"] == happened["identified"] == report.identifies
    assert happened["rejected"] == report.violations


async def test_a_connection_that_dies_in_the_wait_keeps_its_place(
    start_coordinator, open_gateway, start_node: StartNode, happened, waiting
):
    await start_coordinator(IDENTIFY_WINDOW="3", IDENTIFY_MARGIN="0.1")
    gateway = await open_gateway(window_s=3)
    await start_node(gateway, shard_ids=[0, 1], shard_count=2)

    async def one_waits() -> bool:
        return gateway.record.report().ready == 1 and len(await waiting()) == 1

    await until(one_waits, "one is up and one waits")
    requests = happened["queued"]
    await gateway.drop(None, code=CloseCode.ABNORMAL)
    report = await gateway.until(lambda report: report.ready == 2)
    assert report.violations == 0
    assert report.identifies == happened["granted"] == 2
    assert happened["queued"] == requests, "it goes on with the request that it has"
    assert happened["cancelled"] == happened["declined"] == 0


async def test_close_withdraws_at_once(start_coordinator, open_gateway, start_node: StartNode, waiting, happened):
    await start_coordinator(**ENDLESS_WINDOW)
    gateway = await open_gateway()
    bot = await start_node(gateway, shard_ids=[0, 1, 2], shard_count=3)

    async def two_wait() -> bool:
        return gateway.record.report().ready == 1 and len(await waiting()) == 2

    await until(two_wait, "one is up and two wait")
    bot.process.send_signal(signal.SIGTERM)
    assert await bot.ended() == 0

    async def none_waits() -> bool:
        return not await waiting()

    await until(none_waits, "the queue has no request any more")
    assert happened["cancelled"] == 2
    assert happened["expired"] == 0
    assert gateway.record.report().identifies == 1


def test_the_manifest_pins_every_package():
    manifest: dict[str, Any] = json.loads((PACKAGE / "package.json").read_text())
    versions = [*manifest["dependencies"].values(), *manifest["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert list(manifest["dependencies"]) == ["@nats-io/transport-node"]
