"""A queue of another language behind our `Queue`, as a program that is written to and read line by line.

We write ``limits <max_concurrency> <remaining> <reset_after_ms> <total>`` first, and again where they change;
``ask <number> <shard_id>``; ``drop <number>`` for a request that is given up. It writes the number of each request that
may identify. Such a queue knows neither that an IDENTIFY was sent nor that a turn was declined.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from benchmarks.programs import Program, Programs
from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.discord.session_limit import SessionLimit
from nats_identify.queue import Grant, OnProgress, Queue

USE_WITHIN_NS: Final = 60 * NS_PER_S
"""Such a queue puts no end to a turn."""


class ProgramQueue(Queue):
    """The queue in the program."""

    def __init__(self, max_concurrency: int) -> None:
        self._max_concurrency = max_concurrency
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._program: Program | None = None

    def attach(self, program: Program) -> None:
        """Write to this program from now on."""
        self._program = program

    def set_limits(self, limit: SessionLimit) -> None:
        """Pass on what Discord says."""
        self._max_concurrency = limit.max_concurrency
        self._write(f"limits {limit.max_concurrency} {limit.remaining} {limit.reset_after_ms} {limit.total}")

    def on_line(self, line: str) -> None:
        """Let the request with this number go."""
        waiting = self._waiting.pop(int(line), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,
    ) -> Grant:
        """Wait for the program; it knows no priority and no progress."""
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._write(f"ask {number} {shard_id}")
        try:
            await waiting
        except asyncio.CancelledError:
            self._waiting.pop(number, None)
            self._write(f"drop {number}")
            raise
        bucket = shard_id % self._max_concurrency
        name = str(number)
        return Grant(shard_id, name, name, bucket, self._max_concurrency, use_by_ns=now_ns() + USE_WITHIN_NS)

    def identified(self, grant: Grant) -> None:
        """Keep it: the program has no way to learn of it."""

    def decline(self, grant: Grant) -> None:
        """As `identified`: the turn is spent."""

    def _write(self, line: str) -> None:
        if self._program is None:
            raise RuntimeError("the queue has no program yet; call `attach` first")
        self._program.write(line)


@asynccontextmanager
async def program_queue(command: Sequence[str], limit: SessionLimit) -> AsyncIterator[ProgramQueue]:
    """Run the program during this block."""
    queue = ProgramQueue(limit.max_concurrency)
    async with Programs() as programs:
        queue.attach(await programs.start(*command, on_line=queue.on_line))
        queue.set_limits(limit)
        yield queue
