"""A permission to subscribe is missing, and is mended on the running server: no process needs a restart for it."""

import asyncio
import logging
import os
import signal
from contextlib import asynccontextmanager

import nats
import pytest

from coordinator.edge.connections import connect
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from coordinator.settings import Settings
from nats_identify import NatsQueue, nats_connection
from nats_identify.nats_protocol import Handler
from nats_identify.processes.nats_server import EmbeddedNats
from tests.processes import WITHIN_S, until

SECRET = "hunter2"  # noqa: S105  # of these tests
USERS = """
authorization {{ users: [
  {{ user: admin, password: {secret} }}
  {{ user: deaf, password: {secret}, permissions: {{ subscribe: {{ deny: "{denied}" }} }} }}
] }}
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(nats_connection, "SUBSCRIBE_AGAIN_S", 0.1)


@asynccontextmanager
async def server_that_denies(folder, subject):
    """Yield it, its admin's connection, and what mends the permission."""
    async with EmbeddedNats(folder / "denying", extra=USERS.format(secret=SECRET, denied=subject)) as server:

        def mend():
            config = server.store_dir / "nats-server.conf"
            config.write_text(config.read_text().replace(subject, "unused"))
            assert server.pid is not None
            os.kill(server.pid, signal.SIGHUP)

        async with await nats.connect(server.url, user="admin", password=SECRET) as admin:
            yield server, admin, mend


async def test_a_shard_whose_inbox_was_refused_gets_its_turn(tmp_path, start_coordinator, caplog):
    caplog.set_level(logging.WARNING, "nats_identify")
    async with server_that_denies(tmp_path, "_INBOX_shard.>") as (server, _, mend):
        await start_coordinator(NATS_URL=server.url, NATS_USER="admin", NATS_PASSWORD=SECRET)
        options = {"user": "deaf", "password": SECRET, "inbox_prefix": "_INBOX_shard"}
        async with NatsQueue.connect(server.url, **options) as queue:
            granted = asyncio.create_task(queue.acquire(0))

            async def has_complained():
                return "permissions violation for subscription" in caplog.text

            await until(has_complained, "it says what is missing")
            assert not granted.done()
            mend()
            queue.identified(await asyncio.wait_for(granted, WITHIN_S))
            assert queue._connection is not None
            assert queue._connection.stats["reconnects"] == 0


async def test_a_coordinator_s_refused_subscription_is_there_when_it_is_allowed_and_delivers_once(tmp_path):
    received: list[bytes] = []
    async with server_that_denies(tmp_path, "in.*") as (server, admin, mend):
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        settings = Settings(nats_url=server.url, nats_user="deaf", nats_password=SECRET)
        connection = await connect(settings, "traffic", log=make_log("error", "json"), metrics=Metrics(), lost=lost)
        for subject in ("in.*", "other.*"):
            await connection.receive(subject, Handler(lambda *what: received.append(what[0]), lambda *_: None, 1024))

        async def arrives():
            await admin.publish("in.1", b"")
            await admin.flush()
            return bool(received)

        await connection.flush()
        await admin.publish("in.0", b"")
        await admin.flush()
        await connection.flush()
        assert received == []
        mend()
        await until(arrives, "what is published arrives")
        connection._subscribe_again()  # of what the server has by now
        await connection.flush()
        received.clear()
        for number in range(5):
            await admin.publish(f"in.{number}", b"")
            await admin.publish(f"other.{number}", b"")
        await admin.flush()
        await connection.flush()
        assert sorted(received) == sorted(
            f"{name}.{number}".encode() for name in ("in", "other") for number in range(5)
        )
        assert connection.stats["reconnects"] == 0
        await connection.leave()
