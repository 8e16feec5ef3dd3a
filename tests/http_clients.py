"""Clients of the queue over HTTP, as those of other languages behave. They judge nothing."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from tests.processes import WITHIN_S, CoordinatorProcess

BACK_S: Final = 0.01
"""Before a twilight client connects again; the real one does so at once."""


async def address_of(process: CoordinatorProcess) -> tuple[str, int]:
    """Return where a coordinator serves the queue over HTTP."""
    served = await process.until_logged("the queue is served over HTTP")
    host, _, port = served["addresses"][0].rpartition(":")
    return host, int(port)


class Asking:
    """One connection that has sent a request.

    Attributes:
        received: all that came back, once the connection has ended.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received = b""
        self._reader, self._writer = reader, writer

    @classmethod
    async def send(cls, at: tuple[str, int], request: bytes) -> "Asking":
        asking = cls(*await asyncio.open_connection(*at))
        asking._writer.write(request)
        await asking._writer.drain()
        return asking

    @classmethod
    async def ask(
        cls, at: tuple[str, int], target: str = "/", method: str = "GET", body: bytes = b"", **headers: str
    ) -> "Asking":
        lines = [f"{method} {target} HTTP/1.1", "Host: queue"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        return await cls.send(at, "\r\n".join([*lines, "", ""]).encode() + body)

    async def first_byte(self) -> bytes:
        """Return the first byte of a response, which is all that a twilight client waits for, or nothing."""
        with suppress(ConnectionError):
            self.received = await self._reader.read(1)
        return self.received

    async def ended(self) -> bytes:
        """Return all that came back."""
        with suppress(ConnectionError):
            async with asyncio.timeout(WITHIN_S):
                while part := await self._reader.read(65_536):
                    self.received += part
        return self.received

    async def status(self) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body of the response."""
        head, _, body = (await self.ended()).decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(first.split()[1]), headers, body

    def leave(self) -> None:
        self._writer.transport.abort()


async def twilight(
    at: Sequence[tuple[str, int]], shard_id: int, identify: Callable[[], Any], delay_s: float = 0.0
) -> int:
    """Do as twilight's gateway-queue-http: any response is permission, and a broken connection is tried again.

    Args:
        at: where the queue is; with several, one of them for each connection, as behind a Service.
        shard_id: its shard.
        identify: called when IDENTIFY is sent.
        delay_s: from the permission to that, at most.

    Returns:
        How often the connection broke.
    """
    broken = 0
    while True:
        with suppress(OSError):
            asking = await Asking.ask(random.choice(at), f"/?shard={shard_id}")
            is_permitted = await asking.first_byte()
            asking.leave()
            if is_permitted:
                await asyncio.sleep(random.uniform(0, delay_s))  # the way to Discord
                identify()
                return broken
        broken += 1
        await asyncio.sleep(BACK_S)  # a moment between two attempts


async def sandwich(
    at: tuple[str, int], shard_id: int, wait: Callable[[float], Awaitable[None]], **headers: str
) -> list[int]:
    """Do as Sandwich-Daemon's IdentifyViaURL: POST until 200 or 204. Return each status.

    ``wait``: gets the seconds that it would sleep: X-Retry-After-Ms, or 5.
    """
    fields = {
        "shard_id": shard_id,
        "shard_count": 4,
        "max_concurrency": 1,
        "token": "the.bots.token",
        "token_hash": "a",
    }
    body, statuses = json.dumps(fields).encode(), []
    while True:
        asking = await Asking.ask(at, "/identify", "POST", body, Content_Type="application/json", **headers)
        status, answered, _ = await asking.status()
        statuses.append(status)
        if status in {200, 204}:
            return statuses
        await wait(int(answered.get("x-retry-after-ms", 5000)) / 1000)
