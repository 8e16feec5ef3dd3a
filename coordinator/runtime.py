"""The one loop of a coordinator: it waits, passes events to the replica, and carries out its actions.

It decides nothing, and knows neither NATS nor Discord: events come through the event queue, and actions go to the edge.
"""

import asyncio
from collections.abc import Awaitable
from time import thread_time_ns
from typing import Final, Protocol

from coordinator.core.ledger import (
    LedgerRead,
    LedgerUnreadable,
    Read,
    ReplicaAction,
    Stopped,
    Write,
    WriteUnsettled,
    Written,
)
from coordinator.core.replica import Replica, Role
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.log import Log
from nats_identify.clock import NS_PER_S, Clock
from nats_identify.schedule.model import CommandReply, Event, FetchLimits, Reply, Wake

TURN_NS: Final = 1_000_000
"""How long events are handled before the event loop runs its other tasks.

A call to the ledger needs several turns of the event loop. Each turn takes this time, plus about 1 ms at most for
reading messages. It is processor time, not wall-clock time: a busy machine may stop this process for longer than a
whole turn, and by the wall clock almost no time would be left for the events that wait.
"""

HANDLED_AT_ONCE: Final = 16
"""How many events are handled before their actions are carried out and before the time is checked. It is a tenth less
work than to do so after each event."""

FOLLOWING: Final = frozenset({Role.STANDBY, Role.CANDIDATE})
"""The roles in which another replica's commits matter."""

REST_MAX_S: Final = 1.0
"""The longest wait of the loop; the health check needs no other heartbeat."""

REST_MIN_S: Final = 0.0005
"""A deadline that has just been missed does not spin the loop."""


class Store(Protocol):
    """Reads and writes the ledger."""

    def read(self) -> Awaitable[LedgerRead | LedgerUnreadable]:
        """Read it."""
        ...

    def write(self, write: Write) -> Awaitable[Written | WriteUnsettled]:
        """Send it at once, to be written by compare-and-set; return the future outcome."""
        ...


class Publisher(Protocol):
    """Publishes replies and events."""

    def reply(self, reply: Reply, term: int) -> None:
        """Answer a requester."""
        ...

    def reply_to_command(self, reply: CommandReply, term: int) -> None:
        """Answer an operator."""
        ...

    def publish_event(self, event: Event) -> None:
        """Publish an event."""
        ...

    def write_out(self) -> None:
        """Write to NATS what is published so far, before other tasks run."""
        ...


class Watch(Protocol):
    """Watches the ledger."""

    def set_wanted(self, *, is_wanted: bool) -> None:
        """Watch, or do not: a replica that leads or leaves needs no watch."""
        ...


class Figures(Protocol):
    """Fetches Discord's limits."""

    def request_refresh(self, why: str) -> None:
        """Fetch a new figure when that is allowed."""
        ...


class Runtime:
    """Runs one replica.

    Args:
        replica: makes every decision.
        event_queue: the events.
        store: where the ledger is.
        publisher: publishes replies and events.
        watch: watches the ledger of another replica.
        figures: fetches Discord's limits.
        clock: the replica's time.
        log: for changes of the role.

    Attributes:
        turned_at_ns: when the loop last turned.
    """

    def __init__(
        self,
        replica: Replica,
        event_queue: EventQueue,
        *,
        store: Store,
        publisher: Publisher,
        watch: Watch,
        figures: Figures,
        clock: Clock,
        log: Log,
    ) -> None:
        self.turned_at_ns = clock()
        self._replica = replica
        self._event_queue = event_queue
        self._store = store
        self._publisher = publisher
        self._watch = watch
        self._figures = figures
        self._clock = clock
        self._log = log
        self._role = replica.role
        self._has_stopped = False

    async def run(self) -> None:
        """Run until the replica has stopped."""
        async with asyncio.TaskGroup() as calls:
            while not self._has_stopped:
                await self._turn(calls)

    def give_up(self) -> None:
        """End although the replica has not stopped: it may wait for a ledger that cannot be reached."""
        self._has_stopped = True

    async def _turn(self, calls: asyncio.TaskGroup) -> None:
        self.turned_at_ns = self._clock()
        ends_at_ns = thread_time_ns() + TURN_NS
        if not len(self._event_queue):
            self._event_queue.put(Wake())  # not needed beside other events: handling any event also does what is due
        while len(self._event_queue) and not self._has_stopped:
            self._handle_some(calls)
            if thread_time_ns() > ends_at_ns:
                break
        if self._replica.role is not self._role:
            self._role = self._replica.role
            self._watch.set_wanted(is_wanted=self._role in FOLLOWING)
            self._log.info("role", role=self._role.value, term=self._replica.term)
        if len(self._event_queue):
            await asyncio.sleep(0)  # let the calls leave, and more arrive
        elif not self._has_stopped:
            await self._event_queue.wait(self._rest_s())

    def _rest_s(self) -> float:
        deadline_ns = self._replica.next_deadline_ns()
        if deadline_ns is None:
            return REST_MAX_S
        return min(max((deadline_ns - self._clock()) / NS_PER_S, REST_MIN_S), REST_MAX_S)

    def _handle_some(self, calls: asyncio.TaskGroup) -> None:
        """Handle the next events, then carry out their actions: calls and replies to requests, then all others.

        Each of the two is in order. A reply to a command stays behind the command's event.
        """
        handled: list[tuple[list[ReplicaAction], int]] = []
        while len(handled) < HANDLED_AT_ONCE and (entry := self._event_queue.take()) is not None:
            event, waiter = entry
            handled.append((self._replica.handle(event, self._clock()), self._replica.term))
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        for actions, term in handled:
            for action in actions:
                if not isinstance(action, Event | CommandReply):
                    self._do(action, term, calls)
        self._publisher.write_out()
        for actions, term in handled:
            for action in actions:
                if isinstance(action, Event | CommandReply):
                    self._do(action, term, calls)

    def _do(self, action: ReplicaAction, term: int, calls: asyncio.TaskGroup) -> None:
        match action:
            case Reply():
                self._publisher.reply(action, term)
            case CommandReply():
                self._publisher.reply_to_command(action, term)
            case Event():
                self._publisher.publish_event(action)
            case Write():
                calls.create_task(self._call(self._store.write(action)))
            case Read():
                calls.create_task(self._call(self._store.read()))
            case FetchLimits(why):
                self._figures.request_refresh(why)
            case Stopped():
                self._has_stopped = True

    async def _call(self, call: Awaitable[LedgerRead | LedgerUnreadable] | Awaitable[Written | WriteUnsettled]) -> None:
        self._event_queue.put(await call)
