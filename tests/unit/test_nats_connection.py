"""The client that all connections are made with: what nats-py would drop, or raise, it does not."""

import asyncio
import contextlib
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from nats_identify import NatsQueue
from nats_identify.nats_connection import NatsClient, open_connection
from nats_identify.nats_options import NatsOptions
from tests.processes import WITHIN_S


async def ignore(_error):
    """Take note of nothing."""


@pytest.fixture
def dropped(monkeypatch):
    """Let the first cancellation of a connect be dropped, as `asyncio.wait_for` does before Python 3.12."""
    begun = asyncio.Event()
    drops: list[Any] = []

    async def drop(_client, _server):
        begun.set()
        try:
            await asyncio.sleep(WITHIN_S)  # until it is cancelled
        except asyncio.CancelledError:
            drops.append(None)
            raise ConnectionRefusedError from None

    monkeypatch.setattr(Client, "_connect_to_server", drop)
    return begun, drops


async def test_a_cancellation_that_is_dropped_ends_a_connect_all_the_same(dropped):
    begun, drops = dropped
    opening = open_connection(NatsOptions.of(), NatsClient(), max_reconnect_attempts=-1, error_cb=ignore)
    task = asyncio.create_task(opening)
    await begun.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=WITHIN_S)
    assert task.cancelled()
    assert drops == [None]


async def test_a_queue_closes_although_its_runner_drops_a_cancellation():
    begun = asyncio.Event()
    drops: list[Any] = []

    class Stubborn(NatsQueue):
        async def _run(self):
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(WITHIN_S)  # until it is cancelled
            drops.append(None)
            await asyncio.sleep(WITHIN_S)  # until it is cancelled again

    queue = await Stubborn.connect()
    await begun.wait()
    async with asyncio.timeout(WITHIN_S / 2):
        await queue.close()
    assert drops == [None]


async def test_what_is_written_after_the_end_is_dropped_whatever_the_event_loop(monkeypatch):
    """uvloop raises where asyncio drops."""

    def raise_as_uvloop(_transport, _payload):
        message = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
        raise RuntimeError(message)

    async def connect(_transport, *_arguments, **_options):
        """Connect to nothing."""

    for name in ("write", "writelines"):
        monkeypatch.setattr(TcpTransport, name, raise_as_uvloop)
    monkeypatch.setattr("nats_identify.nats_connection._Transport.connect", connect)
    client = NatsClient()
    client.options["connect_timeout"] = 1
    client._setup_server_pool(["nats://127.0.0.1:4222"])
    await client._connect_to_server(client._server_pool[0])
    assert client._transport is not None
    client._transport.write(b"PING\r\n")
    client._transport.writelines([b"PING\r\n"])
