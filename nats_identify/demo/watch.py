"""Follows a run from outside: the simulated Discord's events and the queue's subjects; it sends nothing to either."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

import aiohttp
from nats.aio.client import Client
from nats.aio.msg import Msg

from nats_identify.demo.board import Board
from nats_identify.wire import Subjects


class Watch:
    """Keeps a board up to date.

    Args:
        board: told everything.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self._news = asyncio.Event()

    @asynccontextmanager
    async def discord(self, events_url: str) -> AsyncIterator[Self]:
        """Follow the simulated Discord in this block."""
        endless = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=endless) as http, http.get(events_url) as events:
            reading = asyncio.ensure_future(self._read(events.content))
            try:
                yield self
            finally:
                reading.cancel()

    async def queue(self, connection: Client, prefix: str = "identify") -> None:
        """Follow the queue from now on, as an operator would with ``nats sub 'identify.event.>'``."""
        await connection.subscribe(Subjects(prefix).event(">"), cb=self._heard)
        await connection.flush()  # the server knows of it before anything else starts

    async def until(self, condition: Callable[[Board], bool], *, within_s: float) -> bool:
        """Wait for a condition on the board. Return whether it was met in time."""
        try:
            async with asyncio.timeout(within_s):
                while not condition(self.board):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _read(self, events: aiohttp.StreamReader) -> None:
        async for line in events:
            self.board.discord_said(json.loads(line))
            self._news.set()

    async def _heard(self, message: Msg) -> None:
        self.board.queue_said(message.subject.rpartition(".")[2], json.loads(message.data))
        self._news.set()
