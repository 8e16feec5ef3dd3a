"""What tests share: a real nats-server, clients of it, and coordinator processes."""

from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from nats_identify.processes.nats_server import EmbeddedNats
from tests.deploy.rendering import WHY_SKIPPED
from tests.processes import QUICK, CoordinatorProcess, Mailbox, until


@pytest.fixture
async def nats_server(tmp_path: Path):
    """A nats-server with JetStream, on a free loopback port, with an empty store."""
    async with EmbeddedNats(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def client(nats_server: EmbeddedNats):
    """A NATS client as a shard or an operator would have."""
    connection = await nats.connect(nats_server.url, reconnect_time_wait=0.05, max_reconnect_attempts=-1)
    yield connection
    await connection.close()


@pytest.fixture
async def start_coordinator(nats_server: EmbeddedNats, tmp_path: Path):
    """Start coordinators: `await start_coordinator(IDENTIFY_WINDOW="1")`; each is killed in the end.

    `until_leader=False` returns at once.
    """
    started: list[CoordinatorProcess] = []

    async def start(*, until_leader: bool = True, **environment: str) -> CoordinatorProcess:
        number = len(started)
        named = {"NATS_URL": nats_server.url, "IDENTIFY_REPLICA_NAME": f"pod-{number}"}
        process = CoordinatorProcess(tmp_path / f"coordinator-{number}.log", {**QUICK, **named, **environment})
        started.append(process)
        await process.start()
        if until_leader:
            await until(process.is_leader, "it leads")
        return process

    yield start
    for process in started:
        if process.process.returncode is None:
            process.process.kill()
            await process.process.wait()


@pytest.fixture
async def coordinator(start_coordinator):
    """One coordinator that leads."""
    return await start_coordinator()


@pytest.fixture
async def mailbox(client: Client):
    """A requester's inbox."""
    box = Mailbox(client)
    await box.open()
    return box


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Say in the last lines that the manifests were skipped; by the reports, which come from every worker."""
    yield
    if any(WHY_SKIPPED in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())):
        terminalreporter.section("deploy/k8s", sep="!")
        terminalreporter.line(WHY_SKIPPED)
