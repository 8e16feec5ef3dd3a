"""A TCP path to a nats-server that can be cut: nothing passes, and no connection ends. It understands nothing."""

import asyncio
from contextlib import asynccontextmanager, suppress

from nats_identify.processes.nats_server import HOST

CHUNK_BYTES = 65_536


class Relay:
    """One path. What was sent during a cut arrives after it, as TCP would have it."""

    def __init__(self, port: int):
        self._to_port = port
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._server: asyncio.Server  # since `open`
        self._pipes: set[asyncio.Task[None]] = set()

    @property
    def url(self):
        return f"nats://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self):
        self._is_open.clear()

    def heal(self):
        self._is_open.set()

    async def open(self):
        self._server = await asyncio.start_server(self._accept, HOST, 0)

    async def close(self):
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _accept(self, reader, writer):
        await self._is_open.wait()
        there, back = await asyncio.open_connection(HOST, self._to_port)
        for pipe in (self._carry(reader, back), self._carry(there, writer)):
            task = asyncio.create_task(pipe)
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)

    async def _carry(self, reader, writer):
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                await self._is_open.wait()
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def relays_to(port: int, count: int):
    """So many paths to one server."""
    relays = [Relay(port) for _ in range(count)]
    try:
        for relay in relays:
            await relay.open()
        yield relays
    finally:
        for relay in relays:
            await relay.close()
