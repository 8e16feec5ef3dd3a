"""What a reader would copy is run: the examples, the blocks of the document, the fleet of the demo."""

import asyncio
import json
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from tests.clients.conftest import TOKEN
from tests.clients.environments import FAMILY, ROOT
from tests.processes import WITHIN_S, until

QUICK_WINDOW = {"IDENTIFY_WINDOW": "0.6", "IDENTIFY_MARGIN": "0.1"}
RUN = str(Path(__file__).with_name("run_example.py"))


IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "SHARD_COUNT": "5", "SHARDS_PER_POD": "2", "POD_INDEX": "1"}


@pytest.mark.parametrize(
    ("said", "has_nats", "shards"),
    [
        pytest.param({}, True, [0], id="NATS"),
        pytest.param({}, False, [0], id="in one process", marks=pytest.mark.shared_code),
        pytest.param(IN_A_POD, True, [2, 3], id="in a pod", marks=pytest.mark.shared_code),
    ],
)
async def test_the_example_comes_up_and_ends(
    family, said, has_nats, shards, start_coordinator, open_gateway, nats_server: EmbeddedNats
):
    gateway = await open_gateway(shards=1, window_s=0.6)
    environment = {"DISCORD_TOKEN": TOKEN, **said}
    if has_nats:
        await start_coordinator(**QUICK_WINDOW)
        environment["NATS_URL"] = nats_server.url
    running = await start_example(family, gateway, environment)
    line = await asyncio.wait_for(line_of(running, b" is up "), WITHIN_S)
    if family.front == "hikari":
        await asyncio.wait_for(line_of(running, b"the bot runs"), WITHIN_S)  # see run_example.py
    running.send_signal(signal.SIGINT)  # ctrl-C
    _, complaints = await asyncio.wait_for(running.communicate(), WITHIN_S)
    assert line.decode() == f"simulated-bot is up with the shards {shards}\n", complaints.decode()
    # The process has ended; its last frames may still be on their way through the socket.
    report = await gateway.until(lambda report: sum(report.disconnects_by_code.values()) == len(shards))
    assert report.violations == 0
    assert dict(report.ready_by_shard) == dict.fromkeys(shards, 1)
    assert dict(report.disconnects_by_code) == {4000: len(shards)}  # no session is ended


async def test_the_example_ends_while_a_shard_waits(
    family, start_coordinator, open_gateway, happened, nats_server: EmbeddedNats
):
    await start_coordinator(IDENTIFY_WINDOW="600")
    gateway = await open_gateway(shards=2)
    running = await start_example(family, gateway, {"DISCORD_TOKEN": TOKEN, "NATS_URL": nats_server.url})
    await gateway.until(lambda report: report.ready == 1)
    running.send_signal(signal.SIGINT)
    await asyncio.wait_for(running.communicate(), WITHIN_S)
    report = await gateway.until(lambda report: sum(report.disconnects_by_code.values()) == 1)
    assert dict(report.disconnects_by_code) == {4000: 1}, "the session of the one that is up stays"

    async def has_left() -> bool:
        return bool(happened["cancelled"] == 1)

    await until(has_left, "the one that waits leaves the queue")


async def start_example(family, gateway, environment: dict[str, str]) -> Process:
    example = str(ROOT / "examples" / f"{family.front}_bot.py")
    return await asyncio.create_subprocess_exec(
        *(str(family.python()), "-u", RUN, family.package, gateway.rest_url, gateway.ws_url, example),
        env=environment,
        stdout=PIPE,
        stderr=PIPE,
    )


async def line_of(process: Process, words: bytes) -> bytes:
    """Return the first line of its output with these words: hikari writes its log there; empty if there is none."""
    assert process.stdout is not None
    async for line in process.stdout:
        if words in line:
            return line
    return b""


async def test_the_plain_request(start_coordinator, nats_server: EmbeddedNats):
    await start_coordinator(**QUICK_WINDOW)
    example = str(ROOT / "examples" / "plain_request.py")
    running = await asyncio.create_subprocess_exec(
        sys.executable, example, env={"NATS_URL": nats_server.url}, stdout=PIPE
    )
    said, _ = await asyncio.wait_for(running.communicate(), WITHIN_S)
    assert running.returncode == 0
    assert json.loads(said)["status"] == "granted"


def blocks_of(front: str) -> str:
    """The blocks of docs/join-a-bot.md that import a library's integration, as one program."""
    text = (ROOT / "docs" / "join-a-bot.md").read_text()
    blocks = re.findall(r"^```py\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return "\n".join(block for block in blocks if f"nats_identify.integrations.{front} " in block)


async def test_the_document_shows_what_works(family):
    blocks = blocks_of(family.front)
    assert "queue=" in blocks
    preamble = family.preamble.format(package=family.package)
    program = f"import {family.package}\n{preamble}\n{blocks}"
    running = await asyncio.create_subprocess_exec(str(family.python()), "-c", program, stderr=PIPE)
    _, complaints = await asyncio.wait_for(running.communicate(), WITHIN_S)
    assert running.returncode == 0, complaints.decode()


def demo_fleet(family, gateway, window_s: float, *queue: str) -> list[Coroutine[Any, Any, Process]]:
    """Two processes of the demo's fleet, one shard each."""
    name = family.name or family.front
    return [
        asyncio.create_subprocess_exec(
            *(
                str(family.python()),
                "-m",
                "nats_identify.cli.demo.bots",
                "--library",
                name,
                "--name",
                f"fleet-{shard_id}",
            ),
            *(
                "--shard-ids",
                f"{shard_id}",
                "--shard-count",
                "2",
                "--max-concurrency",
                "1",
                "--window-s",
                f"{window_s}",
            ),
            *("--api-url", gateway.rest_url, "--gateway-url", gateway.ws_url, *queue),
            env={"DISCORD_TOKEN": TOKEN},
        )
        for shard_id in range(2)
    ]


async def stop(processes: list[Process]) -> list[int]:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    return [await asyncio.wait_for(process.wait(), WITHIN_S) for process in processes]


async def test_the_fleet_of_the_demo(family, start_coordinator, open_gateway, nats_server: EmbeddedNats):
    gateway = await open_gateway(shards=2, window_s=0.6)
    await start_coordinator(**QUICK_WINDOW)
    fleet = await asyncio.gather(*demo_fleet(family, gateway, 0.6, "--nats-url", nats_server.url))
    report = await gateway.until(lambda report: report.ready == 2)
    assert report.violations == 0
    assert await stop(fleet) == [0, 0]


async def test_the_same_fleet_collides_without_the_queue(family, open_gateway):
    """The library as it comes: what the gateway finds here is what it would find above."""
    gateway = await open_gateway(shards=2, window_s=60)
    fleet = await asyncio.gather(*demo_fleet(family, gateway, 60))
    report = await gateway.until(lambda report: report.identifies >= 2)
    assert report.violations > 0
    await stop(fleet)


def test_there_is_an_example_for_each_library():
    found = {path.name for path in (ROOT / "examples").glob("*_bot.py")}
    assert {f"{front}_bot.py" for front in FAMILY} <= found
