"""Carries frames one way with a latency for each, in order as TCP would; it never looks into a frame."""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

FrameT = TypeVar("FrameT")

IN_FLIGHT_MAX: Final = 1000
"""Frames on the way at once; beyond it `put` waits, like a sender whose window is full."""


class DelayLine(Generic[FrameT]):
    """One direction of one connection: what is put in comes out later, and never before an earlier frame."""

    def __init__(self, latency_s: Callable[[], float]) -> None:
        self._latency_s = latency_s
        self._in_flight: asyncio.Queue[tuple[float, FrameT]] = asyncio.Queue(IN_FLIGHT_MAX)
        self._last_due_s = 0.0

    async def put(self, frame: FrameT) -> None:
        """Send a frame; its latency starts now, not when the frames before it are through."""
        due_s = asyncio.get_running_loop().time() + self._latency_s()
        self._last_due_s = max(self._last_due_s, due_s)
        await self._in_flight.put((self._last_due_s, frame))

    async def get(self) -> FrameT:
        """Wait for the next frame to arrive."""
        due_s, frame = await self._in_flight.get()
        await asyncio.sleep(due_s - asyncio.get_running_loop().time())
        return frame
