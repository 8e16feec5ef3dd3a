"""The bounded inbox of the one loop: what was heard, until the replica is told. It reads nothing itself."""

import asyncio
from collections import deque
from typing import Final

from coordinator.core.ledger import ReplicaEvent

OFFERED_MOST: Final = 65_536
"""So many events from outside wait at most, some 30 MB: ten seconds' work for one core."""


class Inbox:
    """Two lanes: our own events, few by their nature and always taken, and those that anyone may send.

    Args:
        offered_most: how many events from outside wait at most.
    """

    def __init__(self, offered_most: int = OFFERED_MOST) -> None:
        self._offered_most = offered_most
        self._own: deque[tuple[ReplicaEvent, asyncio.Future[None] | None]] = deque()
        self._offered: deque[ReplicaEvent] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._own) + len(self._offered)

    def tell(self, event: ReplicaEvent) -> None:
        """Put in an event of our own: a result, a probe, a signal."""
        self._own.append((event, None))
        self._arrived.set()

    async def tell_and_wait(self, event: ReplicaEvent) -> None:
        """Put in an event of our own, and wait until the replica has taken it in."""
        handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._own.append((event, handled))
        self._arrived.set()
        await handled

    def offer(self, event: ReplicaEvent) -> bool:
        """Put in an event from outside; False where there is no room for it."""
        if len(self._offered) >= self._offered_most:
            return False
        self._offered.append(event)
        self._arrived.set()
        return True

    def take(self) -> tuple[ReplicaEvent, asyncio.Future[None] | None] | None:
        """Return the next event and who waits for its being handled; our own come first."""
        if self._own:
            return self._own.popleft()
        return (self._offered.popleft(), None) if self._offered else None

    async def wait(self, seconds: float) -> None:
        """Return when something has arrived, or after so many seconds."""
        if self._own or self._offered:
            return
        self._arrived.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._arrived.set)
        try:
            await self._arrived.wait()
        finally:
            timer.cancel()
