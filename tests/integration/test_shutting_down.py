"""NATS, a coordinator and a bot go away in any order: each ends with status 0, no traceback, and in bounded time."""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from tests.processes import QUICK, ROOT, WITHIN_S, CoordinatorProcess, until

LOOPS = ("asyncio", "uvloop")
NATS_IS = ("up", "away from the start", "gone just now", "gone for long", "stopped", "gone after the signal")


TLS = ("stopped over TLS", "gone just now over TLS")


class Server(EmbeddedNats):
    """A nats-server, and the environment that leads to it."""

    way_in: dict[str, str]


@pytest.fixture
async def server(nats_is, tmp_path, certificates):
    """A nats-server, and the environment that leads to it."""
    files = f'cert_file: "{certificates}/server.pem", key_file: "{certificates}/server.key"'
    is_tls = nats_is in TLS
    async with Server(tmp_path / "nats", extra=f"tls {{ {files} }}" if is_tls else "") as running:
        url = running.url.replace("nats:", "tls:") if is_tls else running.url
        running.way_in = {"NATS_URL": url} | ({"NATS_TLS_CA": f"{certificates}/ca.pem"} if is_tls else {})
        yield running


@asynccontextmanager
async def bot_of(server, output, loop, connection):
    """Run a bot that waits for a turn; it is killed in the end."""
    with output.open("wb") as log:
        bot = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.closing_bot", loop, connection),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **server.way_in},
            stdout=log,
            stderr=log,
        )
    try:
        yield bot
    finally:
        if bot.returncode is None:
            bot.kill()
            await bot.wait()


@pytest.fixture
def without_uvloop(tmp_path):
    """A folder that hides uvloop from a process that has it in its PYTHONPATH."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / "uvloop.py").write_text("raise ImportError")
    return str(folder)


async def end(server, nats_is, process, is_noticed):
    """Bring NATS into this state, and end the process; return its exit status, or None where it does not end."""
    nats_is = nats_is.removesuffix(" over TLS")
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
@pytest.mark.parametrize("nats_is", NATS_IS + TLS)
async def test_a_coordinator(server, tmp_path, without_uvloop, nats_is, loop):
    hidden = {"PYTHONPATH": without_uvloop} if loop == "asyncio" else {}
    process = CoordinatorProcess(tmp_path / "coordinator.log", {**QUICK, **server.way_in, **hidden})
    if nats_is == "away from the start":
        await server.kill()
    await process.start()

    async def has_complained():
        return process.logged("NATS is not reachable; trying on")

    try:
        async with AsyncExitStack() as stack:
            if nats_is == "away from the start":
                await until(has_complained, "it runs")
            else:
                await until(process.is_leader, "it leads")
                await stack.enter_async_context(bot_of(server, tmp_path / "bot.log", loop, "own"))
                await until(lambda: _says(tmp_path / "bot.log", "granted"), "a shard is served")
            status = await end(server, nats_is, process.process, has_complained)
    finally:
        if process.process.returncode is None:
            process.process.kill()
            await process.process.wait()
    assert status == 0, process.log
    assert "Traceback" not in process.log, process.log
    assert process.logged("stopped")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("connection", ["own", "borrowed"])
@pytest.mark.parametrize("nats_is", NATS_IS + TLS)
async def test_a_bot(server, tmp_path, nats_is, connection, loop):
    if nats_is == "away from the start":
        if connection == "borrowed":
            pytest.skip("there is no connection to borrow")
        await server.kill()
    output = tmp_path / "bot.log"

    async def has_noticed():
        return connection == "borrowed" or await _says(output, "NATS at ")

    async with bot_of(server, output, loop, connection) as bot:
        await until(lambda: _says(output, "waiting" if nats_is == "away from the start" else "asked"), "it waits")
        status = await end(server, nats_is, bot, has_noticed)
    assert status == 0, output.read_text()
    assert "Traceback" not in output.read_text(), output.read_text()
    assert "closed after" in output.read_text()


async def _says(file, text):
    return text in file.read_text()
