"""A client of the simulated gateway that says exactly what a test tells it to, over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from nats_identify.testing import Report, SimulatedGateway

TOKEN = "MTAwMDAw.not.real"  # noqa: S105  # opens nothing but the gateway of its test
DEADLINE_S = 30.0


class Client:
    """Says exactly what a test tells it to, and nothing by itself."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, op: int, data: object = None) -> None:
        await self.socket.send_json({"op": op, "d": data})

    async def identify(self, shard_id: int = 0, shard_count: int = 16, token: str = TOKEN) -> None:
        await self.send(2, {"token": token, "shard": [shard_id, shard_count], "intents": 0, "properties": {}})

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            payload: dict[str, Any] = await self.socket.receive_json()
        return payload

    async def close_code(self) -> int | None:
        async with asyncio.timeout(DEADLINE_S):
            async for _ in self.socket:
                pass
        return self.socket.close_code


@asynccontextmanager
async def connected(gateway: SimulatedGateway) -> AsyncIterator[Client]:
    """A client that has had HELLO."""
    async with aiohttp.ClientSession() as http, http.ws_connect(gateway.ws_url) as socket:
        client = Client(socket)
        hello = await client.receive()
        assert hello["op"] == 10
        yield client


async def get(url: str, token: str | None = None) -> tuple[int, Any, Any]:
    """Return status, headers and JSON (or text)."""
    headers = {} if token is None else {"Authorization": f"Bot {token}"}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        text = await response.text()
        is_json = text.startswith(("{", "["))
        return response.status, response.headers, json.loads(text) if is_json else text


def closed_once_with(code: int, report: Report) -> bool:
    return report.disconnects_by_code.get(code) == 1
