"""The bounded event queue of the loop: events that wait until the replica applies them. It reads nothing itself."""

import asyncio
from collections import OrderedDict, deque
from typing import Final

from coordinator.core.ledger import ReplicaEvent

QUEUED_MAX: Final = 32_768
"""Events from outside that wait at most: five seconds' work for one core, as long as a renewal is of use.

Some 20 MB, and 50 MB of the largest that are taken: see the memory limit of the manifest.
"""

SENDER_MAX: Final = QUEUED_MAX // 4
"""Of these, the requests of one sender: the others' are not refused for its sake."""


class EventQueue:
    """Three lanes: our own events first; then, in turn, confirms and requests, these sender by sender.

    A confirm gives a bucket back, and there is one for each grant: it is never behind more than one request. Nor is
    a request behind more than one confirm for each before it: any client can send confirms. The requests of one
    sender stay in their order; among senders it is round-robin, so that a flood delays its own sender alone.

    Args:
        queued_max: how many events of each of the two lanes from outside wait at most.
        sender_max: how many requests of one sender wait at most.
    """

    def __init__(self, queued_max: int = QUEUED_MAX, sender_max: int = SENDER_MAX) -> None:
        self._queued_max = queued_max
        self._sender_max = sender_max
        self._own: deque[tuple[ReplicaEvent, asyncio.Future[None] | None]] = deque()
        self._confirms: deque[ReplicaEvent] = deque()
        self._senders: OrderedDict[int, list[ReplicaEvent]] = OrderedDict()  # by hash: an inbox has up to 256 bytes
        self._requests = 0
        self._is_requests_turn = False
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._own) + len(self._confirms) + self._requests

    def put(self, event: ReplicaEvent) -> None:
        """Put in an event of our own: a result, a probe, a signal."""
        self._own.append((event, None))
        self._arrived.set()

    async def put_and_wait(self, event: ReplicaEvent) -> None:
        """Put in an event of our own, and wait until the replica has applied it."""
        handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._own.append((event, handled))
        self._arrived.set()
        await handled

    def try_put(self, event: ReplicaEvent) -> bool:
        """Put in an event from outside that is no request; False where there is no room for it."""
        if len(self._confirms) >= self._queued_max:
            return False
        self._confirms.append(event)
        self._arrived.set()
        return True

    def has_room(self, sender: str) -> bool:
        """Whether a request of this sender would be taken: one that would not is not worth parsing."""
        waiting = self._senders.get(hash(sender))
        return self._requests < self._queued_max and (waiting is None or len(waiting) < self._sender_max)

    def try_put_request(self, event: ReplicaEvent, sender: str) -> bool:
        """Put in a request or a cancel of this sender; False where there is no room for it."""
        if not self.has_room(sender):
            return False
        lane = hash(sender)  # of two senders with one hash, one in 2**64, each may delay the other
        waiting = self._senders.get(lane)
        if waiting is None:
            self._senders[lane] = [event]  # a deque of one has 700 bytes
        else:
            waiting.append(event)
        self._requests += 1
        self._arrived.set()
        return True

    def take(self) -> tuple[ReplicaEvent, asyncio.Future[None] | None] | None:
        """Return the next event, and the future to set when it has been applied, if there is one."""
        if self._own:
            return self._own.popleft()
        if self._confirms and not (self._is_requests_turn and self._senders):
            self._is_requests_turn = True
            return self._confirms.popleft(), None
        if not self._senders:
            return None
        self._is_requests_turn = False
        lane, waiting = self._senders.popitem(last=False)
        event = waiting.pop(0)  # some microseconds with a whole share behind it
        self._requests -= 1
        if waiting:
            self._senders[lane] = waiting  # behind the others
        return event, None

    async def wait(self, seconds: float) -> None:
        """Return when something has arrived, or after ``seconds``."""
        if len(self):
            return
        self._arrived.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._arrived.set)
        try:
            await self._arrived.wait()
        finally:
            timer.cancel()
