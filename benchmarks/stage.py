"""What a scenario is played on: a nats-server and coordinators as processes. It measures nothing."""

import asyncio
import os
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nats
import nats.errors
from nats.aio.client import Client
from pydantic import ValidationError

from benchmarks.programs import TOKEN, Program, Programs
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.wire import Info

START_MAX_S: Final = 60.0
COORDINATOR: Final = (*(shlex.split(os.environ.get("COORDINATOR_PYTHON", "")) or [sys.executable]), "-m", "coordinator")
"""Runs a coordinator: by this Python, or by that of another environment, where it is compiled (`make compiled`)."""

_LOOK_EVERY_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Cluster:
    """A nats-server, and coordinators of one queue.

    Attributes:
        server: can be restarted; it keeps its store and its port.
        coordinators: the first is the leader at the beginning.
        connection: for requests by hand.
    """

    server: EmbeddedNats
    coordinators: tuple[Program, ...]
    connection: Client

    @property
    def url(self) -> str:
        """The address of its server."""
        return self.server.url

    async def info(self) -> Info | None:
        """Ask a coordinator; None where none answers."""
        with suppress(nats.errors.Error, ValidationError):
            return Info.model_validate_json((await self.connection.request("identify.info", b"", timeout=1)).data)
        return None

    async def refresh(self) -> None:
        """Have the leader ask Discord for its limits, as an operator would by hand."""
        with suppress(nats.errors.Error):
            await self.connection.request("identify.refresh", b"", timeout=5)


def static_limits(max_concurrency: int, total: int = 1_000_000) -> dict[str, str]:
    """Return the settings of a coordinator that asks no Discord."""
    return {"IDENTIFY_MAX_CONCURRENCY": str(max_concurrency), "IDENTIFY_SESSION_TOTAL": str(total)}


def limits_of(rest_url: str) -> dict[str, str]:
    """Return the settings of a coordinator that asks this Discord."""
    return {"DISCORD_API_URL": rest_url, "DISCORD_TOKEN": TOKEN, "IDENTIFY_SESSION_RESERVE": "0"}


@asynccontextmanager
async def run_cluster(settings: Mapping[str, str], *, coordinators: int = 1) -> AsyncIterator[Cluster]:
    """Run a nats-server with an empty store, and coordinators with these settings, during this block.

    Raises:
        TimeoutError: no coordinator leads within `START_MAX_S`.
    """
    with tempfile.TemporaryDirectory(prefix="nats-identify-bench-") as folder:
        async with EmbeddedNats(Path(folder) / "nats") as server, Programs() as programs:
            connection = await _connect(server.url)
            try:
                started: list[Program] = []
                for number in range(coordinators):
                    started.append(await _start_coordinator(programs, server, number, settings))
                    cluster = Cluster(server, tuple(started), connection)
                    if number == 0:  # so that the first is the leader
                        await _until_it_leads(cluster)
                yield cluster
            finally:
                await connection.close()


async def _start_coordinator(
    programs: Programs, server: EmbeddedNats, number: int, settings: Mapping[str, str]
) -> Program:
    ours = {
        "NATS_URL": server.url,
        "IDENTIFY_FRESH_START": "1",  # the store is empty
        "IDENTIFY_HTTP_PORT": "0",
        "IDENTIFY_LOG_LEVEL": "warning",
        "IDENTIFY_REPLICA_NAME": f"coordinator-{number}",
    }
    return await programs.start(*COORDINATOR, settings={**ours, **settings})


async def _connect(url: str) -> Client:
    async def ignore(_error: Exception) -> None:
        """The server is restarted on purpose; the client reconnects."""

    return await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=ignore)


async def _until_it_leads(cluster: Cluster) -> None:
    async with asyncio.timeout(START_MAX_S):
        while True:
            info = await cluster.info()
            if info is not None and info.leader is not None and info.max_concurrency is not None:
                return
            await asyncio.sleep(_LOOK_EVERY_S)
