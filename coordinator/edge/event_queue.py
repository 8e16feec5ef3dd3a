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


IN_ORDER_MAX: Final = 256
"""While no more events from outside wait, 10 ms of work, a confirm is taken after the requests that came before it."""


class EventQueue:
    """Three lanes: our own events first; then confirms, and requests sender by sender.

    A turn that is given back goes to the first in order among the requests that were sent before the confirm: so a
    confirm is taken after those, while few events wait. With many, confirms and requests take turns. A confirm gives a
    bucket back, and is then never behind more than one request; nor is a request behind more than one confirm for each
    before it, since any client can send confirms. The requests of one sender stay in their order; among senders it is
    round-robin, so that a flood delays its own sender alone.

    Args:
        queued_max: how many events of each of the two lanes from outside wait at most.
        sender_max: how many requests of one sender wait at most.
    """

    def __init__(self, queued_max: int = QUEUED_MAX, sender_max: int = SENDER_MAX) -> None:
        self._queued_max = queued_max
        self._sender_max = sender_max
        self._own: deque[tuple[ReplicaEvent, asyncio.Future[None] | None]] = deque()
        self._confirms: deque[tuple[int, ReplicaEvent]] = deque()  # with the number of its arrival
        self._senders: OrderedDict[int, list[tuple[int, ReplicaEvent]]] = OrderedDict()  # by hash, for its size
        self._arrivals = 0
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
        self._confirms.append((self._arrivals, event))
        self._arrivals += 1
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
            self._senders[lane] = [(self._arrivals, event)]  # a deque of one has 700 bytes
        else:
            waiting.append((self._arrivals, event))
        self._arrivals += 1
        self._requests += 1
        self._arrived.set()
        return True

    def take(self) -> tuple[ReplicaEvent, asyncio.Future[None] | None] | None:
        """Return the next event, and the future to set when it has been applied, if there is one."""
        if self._own:
            return self._own.popleft()
        if self._confirms and self._is_confirm_next():
            self._is_requests_turn = True
            return self._confirms.popleft()[1], None
        if not self._senders:
            return None
        self._is_requests_turn = False
        lane, waiting = self._senders.popitem(last=False)
        _, event = waiting.pop(0)  # some microseconds with a whole share behind it
        self._requests -= 1
        if waiting:
            self._senders[lane] = waiting  # behind the others
        return event, None

    def _is_confirm_next(self) -> bool:
        if not self._senders:
            return True
        if len(self._confirms) + self._requests > IN_ORDER_MAX:
            return not self._is_requests_turn
        return self._confirms[0][0] < min(waiting[0][0] for waiting in self._senders.values())

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
