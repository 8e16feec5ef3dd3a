"""NATS, a coordinator and a bot go away in any order: each ends with status 0, no traceback, and in bounded time."""

import asyncio
import os
import signal
import sys
from contextlib import suppress

import pytest

from nats_identify.embedded import EmbeddedNats
from tests.processes import QUICK, ROOT, WITHIN_S, CoordinatorProcess, until

LOOPS = ("asyncio", "uvloop")
NATS_IS = ("up", "away from the start", "gone just now", "gone for long", "stopped", "gone after the signal")


@pytest.fixture
async def server(tmp_path):
    async with EmbeddedNats(tmp_path / "nats") as running:
        yield running


@pytest.fixture
def without_uvloop(tmp_path):
    """A folder that hides uvloop from a process that has it in its PYTHONPATH."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / "uvloop.py").write_text("raise ImportError")
    return str(folder)


async def end(server, nats_is, process, is_noticed):
    """Bring NATS into this state, and end the process; return its exit status, or None where it does not end."""
    if nats_is in {"gone just now", "gone for long"}:
        await server.kill()
    if nats_is == "gone for long":
        await until(is_noticed, "it has noticed")
    pid = server.pid
    if nats_is == "stopped":
        os.kill(pid, signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGTERM)
        if nats_is == "gone after the signal":
            await server.kill()
        with suppress(TimeoutError):
            return await asyncio.wait_for(process.wait(), WITHIN_S)
    finally:
        if nats_is == "stopped":
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("nats_is", NATS_IS)
async def test_a_coordinator(server, tmp_path, without_uvloop, nats_is, loop):
    hidden = {"PYTHONPATH": without_uvloop} if loop == "asyncio" else {}
    variables = {**QUICK, "NATS_URL": server.url, **hidden}
    process = CoordinatorProcess(tmp_path / "coordinator.log", variables)
    if nats_is == "away from the start":
        await server.kill()
    await process.start()

    async def has_complained():
        return process.logged("NATS is not reachable; trying on")

    try:
        await until(has_complained if nats_is == "away from the start" else process.is_leader, "it runs")
        status = await end(server, nats_is, process.process, has_complained)
    finally:
        if process.process.returncode is None:
            process.process.kill()
            await process.process.wait()
    assert status == 0, process.log
    assert "Traceback" not in process.log, process.log
    assert process.logged("stopped")
    strange = [line for line in process.log.splitlines() if not line.startswith("{")]
    assert strange == [], process.log


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("connection", ["own", "borrowed"])
@pytest.mark.parametrize("nats_is", NATS_IS)
async def test_a_bot(server, tmp_path, nats_is, connection, loop):
    if nats_is == "away from the start":
        if connection == "borrowed":
            pytest.skip("there is no connection to borrow")
        await server.kill()
    output = tmp_path / "bot.log"
    with output.open("wb") as log:
        bot = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-m", "tests.integration.closing_bot", server.url, loop, connection),
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )

    async def waits():
        return ("waiting" if nats_is == "away from the start" else "asked") in output.read_text()

    async def has_noticed():
        return connection == "borrowed" or "NATS: " in output.read_text()

    try:
        await until(waits, "it waits for a turn")
        status = await end(server, nats_is, bot, has_noticed)
    finally:
        if bot.returncode is None:
            bot.kill()
            await bot.wait()
    assert status == 0, output.read_text()
    assert "Traceback" not in output.read_text(), output.read_text()
    assert "closed after" in output.read_text()
