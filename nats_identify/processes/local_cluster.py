"""The smallest cluster, a nats-server and one coordinator, on this machine; it grants and requests nothing.

The library never imports the coordinator: it is a process, as it is elsewhere.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nats.errors
from nats.aio.client import Client
from pydantic import ValidationError

from nats_identify.nats_connection import NatsClient, open_connection
from nats_identify.nats_options import NatsOptions
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.processes.subprocesses import LINES_KEPT, ChildDiedError, Children
from nats_identify.wire import Info, Subjects

START_MAX_S: Final = 60.0
"""Time that a slow and busy machine may need to start a process."""

_LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs: where NATS is, and a connection to watch it with."""

    url: str
    connection: Client

    async def until_known(
        self, condition: Callable[[Info], bool], *, prefix: str = "identify", within_s: float | None = START_MAX_S
    ) -> Info:
        """Wait for a coordinator that answers `info` with what is wanted.

        Args:
            condition: what is wanted.
            prefix: of the subjects.
            within_s: give up after this; None: never.

        Raises:
            TimeoutError: none did.
        """
        subject = Subjects(prefix).info
        try:
            async with asyncio.timeout(within_s):
                while True:
                    info = await self._ask(subject)
                    if info is not None and condition(info):
                        return info
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            message = f"the coordinator was not ready within {within_s:g} s"
            raise TimeoutError(message) from None

    async def _ask(self, subject: str) -> Info | None:
        try:
            reply = await self.connection.request(subject, b"", timeout=1)
            return Info.model_validate_json(reply.data)
        except (nats.errors.Error, ValidationError):
            return None


@asynccontextmanager
async def run_cluster(
    children: Children, store: Path, *, port: int = 0, settings: Mapping[str, str], shown: bool = False
) -> AsyncIterator[Cluster]:
    """Run both in this block.

    The coordinator is stopped before the server, so that it releases the ledger.

    Args:
        children: owns both processes; awaits in this block belong into its `Children.run_while_alive`.
        store: the server's; it stays.
        port: the server's, on loopback; 0 takes a free one.
        settings: the environment of the coordinator, but for the server's address.
        shown: the coordinator's log goes where our output goes.

    Raises:
        NatsServerError: there is no nats-server, or it does not start.
    """
    async with EmbeddedNats(store, port) as server, _connected(server, children) as connection:
        coordinator = await children.start(
            "the coordinator",
            *(sys.executable, "-m", "coordinator"),
            environment={**settings, "NATS_URL": server.url},
            shown=shown,
        )
        try:
            yield Cluster(server.url, connection)
        finally:
            await coordinator.stop()


def environment_without(*prefixes: str) -> dict[str, str]:
    """Return our environment without the variables that begin like this: they are meant for other programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


@asynccontextmanager
async def _connected(server: EmbeddedNats, children: Children) -> AsyncIterator[Client]:
    """Watch the server process, and connect to it."""

    async def wait_dead() -> ChildDiedError:
        while _is_alive(server.pid):  # noqa: ASYNC110  # EmbeddedNats reaps it without a callback
            await asyncio.sleep(_LOOK_EVERY_S)
        log = await asyncio.to_thread(server.log_file.read_text, errors="replace")
        return ChildDiedError("nats-server", None, log.splitlines()[-LINES_KEPT:])

    async def ignore(_error: Exception) -> None:
        """nats-py reconnects by itself; a dead server is detected above."""

    children.watch(wait_dead)
    connecting = open_connection(
        NatsOptions.of(server.url),
        NatsClient(),
        name="nats-identify",
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        error_cb=ignore,
    )
    connection = await children.run_while_alive(connecting)
    try:
        yield connection
    finally:
        await connection.close()


def _is_alive(process_id: int | None) -> bool:
    if process_id is None:
        return False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
