"""A TCP proxy on loopback between the client under test and NATS, to break its connection. It reads no message."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"

_CHUNK_BYTES: Final = 65_536


class Proxy:
    """Carries bytes between its clients and a server for as long as the ``async with`` block.

    Args:
        host: of the server.
        port: of the server.

    Attributes:
        port: where it listens, on loopback; the same while the server is away.
        is_away: new connections are closed at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server_at = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0
        self.is_away = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_away = True
        if self._server is not None:
            self._server.close()
        await self.cut()

    @property
    def url(self) -> str:
        """What the client takes for the address of NATS."""
        return f"nats://{HOST}:{self.port}"

    async def cut(self) -> None:
        """Close every connection."""
        links = list(self._links)
        for link in links:
            link.cancel()
        if links:
            await asyncio.wait(links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_away:
            writer.close()
            return
        link = asyncio.create_task(self._carry(reader, writer), name="the proxy carries")
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            try:
                back_reader, back_writer = await asyncio.open_connection(*self._server_at)
            except OSError:
                writer.close()
                raise
            ways = [asyncio.create_task(_pump(reader, back_writer)), asyncio.create_task(_pump(back_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                for end in (writer, back_writer):
                    end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
