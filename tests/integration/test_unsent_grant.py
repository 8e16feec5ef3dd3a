"""A coordinator that can write the ledger and not reply: the turn comes back, and the request is granted later."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import nats

from nats_identify.processes.nats_server import HOST
from tests.processes import WITHIN_S, until


class SplitPath:
    """A TCP path to a nats-server that can break the coordinator's connection for replies, and no other."""

    def __init__(self, port):
        self._to_port = port
        self._traffic: set[asyncio.StreamWriter] = set()
        self._is_broken = False
        self.url = ""

    def break_traffic(self):
        self._is_broken = True
        for writer in self._traffic:
            writer.transport.abort()

    def mend(self):
        self._is_broken = False

    async def accept(self, reader, writer):
        there, back = await asyncio.open_connection(HOST, self._to_port)
        both = asyncio.gather(self._carry(reader, back, writer), self._carry(there, writer))
        with suppress(OSError):
            await both
        self._traffic.discard(writer)

    async def _carry(self, reader, writer, client=None):
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                if client is not None and chunk.startswith(b"CONNECT ") and b' traffic"' in chunk:
                    self._traffic.add(client)
                    if self._is_broken:
                        client.transport.abort()
                        break
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def split_path_to(port):
    """One such path."""
    path = SplitPath(port)
    async with await asyncio.start_server(path.accept, HOST, 0) as server:
        path.url = f"nats://{HOST}:{server.sockets[0].getsockname()[1]}"
        yield path


async def test_a_grant_that_cannot_be_sent_is_refunded_and_granted_again(nats_server, start_coordinator, client):
    async with split_path_to(nats_server.port) as path:
        process = await start_coordinator(NATS_URL=path.url, IDENTIFY_LEASE="30", IDENTIFY_WINDOW="1")
        first = json.loads((await client.request("identify.request.0", b"", timeout=WITHIN_S)).data)
        async with await nats.connect(nats_server.url) as waiting:
            second = asyncio.create_task(waiting.request("identify.request.0", b"", timeout=WITHIN_S))

            async def is_queued():
                return json.loads((await client.request("identify.status", b"", timeout=WITHIN_S)).data)["waiting"] == 1

            await until(is_queued, "the second request waits for the window")
            path.break_traffic()

            async def came_back():
                return "undeliverable" in process.log

            await until(came_back, "the grant that could not be sent came back")
            path.mend()
            granted = json.loads((await second).data)
    assert granted["status"] == "granted"
    assert granted["remaining"] == first["remaining"] - 1, "the one that was not sent is refunded"
