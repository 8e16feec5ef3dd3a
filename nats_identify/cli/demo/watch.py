"""Follows a run from outside: the simulated Discord's events and the queue's subjects; it never changes either."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal, Self

import aiohttp
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from nats_identify.cli.demo.board import Board
from nats_identify.clock import now_ns
from nats_identify.wire import Message, Natural, Status, Subjects

STATUS_EVERY_S: Final = 0.5


class Watch:
    """Keeps a board up to date.

    Args:
        board: gets every event.
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

    @asynccontextmanager
    async def queue(self, connection: Client) -> AsyncIterator[Self]:
        """Follow the queue in this block, as an operator would: its events, and its status now and then."""
        subjects = Subjects()
        events = await connection.subscribe(subjects.event(">"), cb=self._heard)
        await connection.flush()  # the server knows of it before anything else starts
        request = asyncio.ensure_future(self._ask(connection, subjects.status))
        try:
            yield self
        finally:
            request.cancel()
            with suppress(nats.errors.Error):  # the connection may be gone
                await events.unsubscribe()

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
        with suppress(ValidationError):  # every client of this server may send one
            event = _ShardEvent.model_validate_json(message.data)
            self.board.queue_said(message.subject.rpartition(".")[2], event.model_dump())
            self._news.set()

    async def _ask(self, connection: Client, subject: str) -> None:
        while True:
            with suppress(nats.errors.Error, ValidationError):  # the next answer will do
                reply = await connection.request(subject, b"", timeout=STATUS_EVERY_S)
                self.board.queue_answered(Status.model_validate_json(reply.data), now_ns())
            await asyncio.sleep(STATUS_EVERY_S)


class _ShardEvent(Message):
    """What the board needs of ``identify.event.<name>``; -1: it is of no shard."""

    shard_id: Natural | Literal[-1] = -1
