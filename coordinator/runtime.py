"""The one loop of a coordinator: it waits, tells the replica what was heard, and does as it says, in order.

It decides nothing, and knows neither NATS nor Discord: what was heard comes through the inbox, and what is to
be done goes to the edge.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol

from coordinator.core.ledger import (
    LedgerRead,
    LedgerUnreadable,
    Read,
    ReplicaAction,
    ReplicaEvent,
    Stopped,
    Write,
    WriteUnsettled,
    Written,
)
from coordinator.core.replica import Replica
from coordinator.edge.inbox import Inbox
from coordinator.edge.log import Log
from nats_identify.clock import NS_PER_S, Clock
from nats_identify.schedule.model import Event, FetchLimits, Reply, Wake

HANDLED_AT_ONCE: Final = 256
"""So many events are handled before the event loop turns: some 10 ms, so that pings and probes are heard."""

REST_MOST_S: Final = 1.0
"""The loop turns at least so often: whoever watches it needs no other heartbeat."""

REST_LEAST_S: Final = 0.0005
"""A deadline that has just been missed does not spin the loop."""


class Store(Protocol):
    """Where the ledger is."""

    def read(self) -> Awaitable[LedgerRead | LedgerUnreadable]:
        """Read it."""
        ...

    def write(self, write: Write) -> Awaitable[Written | WriteUnsettled]:
        """Write it by compare-and-set."""
        ...


class Voice(Protocol):
    """Who speaks to the world."""

    def reply(self, reply: Reply, term: int) -> Awaitable[None]:
        """Answer a requester."""
        ...

    def happened(self, happened: Event) -> Awaitable[None]:
        """Tell whoever listens."""
        ...


class Figures(Protocol):
    """Who asks Discord."""

    def wish(self, why: str) -> None:
        """Fetch a new figure when that is allowed."""
        ...


class Runtime:
    """Runs one replica.

    Args:
        replica: decides everything.
        inbox: what was heard.
        store: where the ledger is.
        voice: who speaks.
        figures: who asks Discord.
        clock: the replica's time.
        log: told when the replica's role changes.

    Attributes:
        turned_at_ns: when the loop last turned.
    """

    def __init__(
        self, replica: Replica, inbox: Inbox, *, store: Store, voice: Voice, figures: Figures, clock: Clock, log: Log
    ) -> None:
        self.turned_at_ns = clock()
        self._replica = replica
        self._inbox = inbox
        self._store = store
        self._voice = voice
        self._figures = figures
        self._clock = clock
        self._log = log
        self._role = replica.role
        self._has_stopped = False

    async def run(self) -> None:
        """Run until the replica says that nothing is owed any more."""
        async with asyncio.TaskGroup() as calls:
            while not self._has_stopped:
                await self._turn(calls)

    def give_up(self) -> None:
        """End without the replica's word: it may wait for a ledger that cannot be reached."""
        self._has_stopped = True

    async def _turn(self, calls: asyncio.TaskGroup) -> None:
        self.turned_at_ns = self._clock()
        await self._tell(Wake(), calls)
        for _ in range(HANDLED_AT_ONCE):
            entry = self._inbox.take()
            if entry is None:
                break
            event, waiter = entry
            await self._tell(event, calls)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        if self._replica.role is not self._role:
            self._role = self._replica.role
            self._log.info("role", role=self._role.value, term=self._replica.term)
        await asyncio.sleep(0)  # let the calls leave, and more arrive
        if not self._has_stopped:
            await self._inbox.wait(self._rest_s())

    def _rest_s(self) -> float:
        deadline_ns = self._replica.next_deadline_ns()
        if deadline_ns is None:
            return REST_MOST_S
        return min(max((deadline_ns - self._clock()) / NS_PER_S, REST_LEAST_S), REST_MOST_S)

    async def _tell(self, event: ReplicaEvent, calls: asyncio.TaskGroup) -> None:
        for action in self._replica.handle(event, self._clock()):
            await self._do(action, calls)

    async def _do(self, action: ReplicaAction, calls: asyncio.TaskGroup) -> None:
        match action:
            case Reply():
                await self._voice.reply(action, self._replica.term)
            case Event():
                await self._voice.happened(action)
            case Write():
                calls.create_task(self._call(self._store.write(action)))
            case Read():
                calls.create_task(self._call(self._store.read()))
            case FetchLimits(why):
                self._figures.wish(why)
            case Stopped():
                self._has_stopped = True

    async def _call(self, call: Awaitable[LedgerRead | LedgerUnreadable] | Awaitable[Written | WriteUnsettled]) -> None:
        self._inbox.tell(await call)
