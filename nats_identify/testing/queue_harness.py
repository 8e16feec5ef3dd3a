"""Runs one queue with test shards, and records which shard was granted when. It has no rules of its own.

`nats_identify.testing.conformance` is built on it. No measured time is ever held against a queue from above,
since a busy machine delays anything: what must be prompt has to come before a window that runs beside it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NoReturn

from nats_identify.clock import NS_PER_MS, NS_PER_S, now_ns
from nats_identify.queue import Grant, Queue

TRIES: Final = 5
"""Tries of a check for promptness; one success is enough, since a stalled machine can hide it but not fake it."""


BUCKETS: Final = 2 * TRIES
"""Buckets that `QueueHarness.promptly` needs: each try uses two of its own."""


class RuleBrokenError(Exception):
    """A queue broke a rule; the message is what was observed."""


class ShardRequest:
    """One request of one shard.

    Attributes:
        task: ends with the grant.
        granted_at_ns: when the grant was seen, on `nats_identify.clock.now_ns`; None before.
    """

    def __init__(self, queue: Queue, shard_id: int, priority: int, replaces: Grant | None) -> None:
        self.shard_id = shard_id
        self.granted_at_ns: int | None = None
        acquiring = self._acquire(queue, priority, replaces)
        self.task = asyncio.create_task(acquiring, name=f"shard {shard_id} asks")

    @property
    def is_granted(self) -> bool:
        """Whether the shard may send IDENTIFY."""
        return self.granted_at_ns is not None

    async def _acquire(self, queue: Queue, priority: int, replaces: Grant | None) -> Grant:
        grant = await queue.acquire(self.shard_id, priority=priority, replaces=replaces)
        self.granted_at_ns = now_ns()
        return grant


class QueueHarness:
    """A queue with every bucket idle, and test shards that request turns.

    Args:
        queue: under test.
        max_concurrency: its number of buckets.
        window_s: its window, margin not included.
    """

    def __init__(self, queue: Queue, max_concurrency: int, window_s: float) -> None:
        self.queue = queue
        self.max_concurrency = max_concurrency
        self.window_ns = round(window_s * NS_PER_S)
        self.waits_for = "the queue to start"
        self._requests: list[ShardRequest] = []
        self._decided: set[str] = set()
        self._bucket = 0
        self._yardstick: ShardRequest | None = None

    def shard(self, number: int) -> int:
        """Return the id of a shard in the bucket that is played in; ``number`` counts from 0."""
        return self._bucket + number * self.max_concurrency

    async def ask(self, shard_id: int, *, priority: int = 0, replaces: Grant | None = None) -> ShardRequest:
        """Request a turn; the request is in the queue when this returns, unless the queue itself waits first."""
        request = ShardRequest(self.queue, shard_id, priority, replaces)
        self._requests.append(request)
        await asyncio.sleep(0)
        return request

    async def hold(self, shard_id: int) -> Grant:
        """Request a turn, and wait for the grant."""
        return await self.granted(await self.ask(shard_id))

    async def line_up(self, waiting: int) -> tuple[Grant, list[ShardRequest]]:
        """Let the first shard of the bucket hold its turn, and ``waiting`` others wait behind it."""
        grant = await self.hold(self.shard(0))
        return grant, [await self.ask(self.shard(number + 1)) for number in range(waiting)]

    async def granted(self, request: ShardRequest) -> Grant:
        """Wait for a request's grant.

        Raises:
            RuleBrokenError: the queue raised something into the bot.
        """
        await self.first(request)
        return request.task.result()

    async def first(self, *requests: ShardRequest) -> ShardRequest:
        """Wait until one of them is granted, and return it: by the earliest grant, not by the order given."""
        self.waits_for = " or ".join(f"shard {request.shard_id}" for request in requests) + " to be granted"
        await asyncio.wait({request.task for request in requests}, return_when=asyncio.FIRST_COMPLETED)
        for request in requests:
            if request.task.done() and request.granted_at_ns is None:
                self.broken(f"the acquire of shard {request.shard_id} {_ending(request.task)}")
        return min(requests, key=lambda request: request.granted_at_ns or now_ns())

    def identified(self, grant: Grant) -> int:
        """Report that IDENTIFY was sent; return an instant no later than that, in nanoseconds."""
        self._decided.add(grant.grant_id)
        at_ns = now_ns()
        self.queue.identified(grant)
        return at_ns

    def decline(self, grant: Grant) -> None:
        """Report that IDENTIFY will not be sent."""
        self._decided.add(grant.grant_id)
        self.queue.decline(grant)

    async def pass_along(self, *requests: ShardRequest) -> list[int]:
        """Let each of them decline its turn, and return the shards in the order of their grants."""
        waiting, order = list(requests), []
        while waiting:
            request = await self.first(*waiting)
            self.decline(request.task.result())
            waiting.remove(request)
            order.append(request.shard_id)
        return order

    async def expect_order(self, *, asked: list[tuple[int, int]], expected: list[int]) -> None:
        """Let shards ask, each with its priority, behind a turn that is held; demand the order of their grants.

        Raises:
            RuleBrokenError: it was another.
        """
        grant = await self.hold(0)
        waiting = [await self.ask(shard_id, priority=priority) for shard_id, priority in asked]
        self.decline(grant)
        order = await self.pass_along(*waiting)
        if order != expected:
            told = ", ".join(f"{shard_id} (priority {priority})" for shard_id, priority in asked)
            self.broken(f"shards asked in the order {told}, and were granted in the order {order}")

    async def cancel(self, request: ShardRequest, *, after_steps: int = 0) -> None:
        """Cancel a wait some steps of the event loop from now, and see it end.

        A grant that came first is declined, as `Turn` does.
        """
        self.waits_for = f"the cancelled acquire of shard {request.shard_id} to end"
        for _ in range(after_steps):
            await asyncio.sleep(0)
        request.task.cancel()
        await asyncio.wait({request.task})
        if request.is_granted:
            self.decline(request.task.result())
        elif not request.task.cancelled():
            self.broken(f"the cancelled acquire of shard {request.shard_id} {_ending(request.task)}")

    async def pass_windows(self, windows: float) -> None:
        """Wait for this number of windows."""
        await asyncio.sleep(windows * self.window_ns / NS_PER_S)

    async def start_window(self) -> None:
        """Begin a window in a bucket beside, and let a quarter pass: a window that starts now ends clearly later."""
        self.identified(await self.hold(self.shard(0) + 1))
        self._yardstick = await self.ask(self.shard(1) + 1)
        await self.pass_windows(0.25)

    async def promptly(self, scenario: Callable[[], Awaitable[ShardRequest]], otherwise: str) -> None:
        """Demand that a request is granted before the window is over that its scenario started.

        Args:
            scenario: plays with the shards that `shard` names, awaits `start_window`, and returns the request
                whose turn is due.
            otherwise: what was seen if it never came first.

        Raises:
            RuleBrokenError: it was not, in any try.
        """
        for _ in range(TRIES):
            due = await scenario()
            yardstick = self._yardstick
            is_prompt = yardstick is None or await self.first(due, yardstick) is due
            await self.clear()
            if is_prompt:
                return
            self._bucket += 2
        self.broken(f"in each of {TRIES} tries {otherwise}")

    def window_since(self, since_ns: int, request: ShardRequest, *, since: str) -> None:
        """Demand that a request was granted no earlier than a window after ``since_ns``.

        Raises:
            RuleBrokenError: it was.
        """
        apart_ns = (request.granted_at_ns or now_ns()) - since_ns
        if apart_ns < self.window_ns:
            apart = f"{abs(apart_ns) // NS_PER_MS} ms {'after' if apart_ns >= 0 else 'before'} {since}"
            window_ms = self.window_ns // NS_PER_MS
            self.broken(f"shard {request.shard_id} was granted {apart}; the window is {window_ms} ms")

    def broken(self, seen: str) -> NoReturn:
        """End the check with what was seen."""
        raise RuleBrokenError(seen)

    async def clear(self) -> None:
        """Cancel every wait and decline every turn still held; a queue that does not let go is left behind."""
        requests, self._requests = self._requests, []
        for request in requests:
            request.task.cancel()
        if requests:
            await asyncio.wait([request.task for request in requests], timeout=1)
        for request in requests:
            with suppress(asyncio.CancelledError, asyncio.InvalidStateError):
                error = request.task.exception()  # retrieved: already reported, or too late to matter
                if error is None and request.task.result().grant_id not in self._decided:
                    self.decline(request.task.result())


def _ending(task: asyncio.Task[Grant]) -> str:
    return "was cancelled by the queue" if task.cancelled() else f"raised {task.exception()!r}"
