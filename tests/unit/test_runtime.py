"""The one loop: a turn that is given back goes to the first in order among the requests that came before."""

import asyncio
from contextlib import asynccontextmanager, suppress

from coordinator.core.ledger import LedgerRead, TrafficReceived, Written
from coordinator.core.replica import Replica, Role
from coordinator.core.settings import Settings
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.log import make_log
from coordinator.runtime import HANDLED_MIN, Runtime
from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.schedule.model import Confirmation, Granted, Limits, Outcome, RequestReceived, Timing


class MemoryStore:
    """A ledger that takes every write at once.

    Attributes:
        steps: what is noted in the order in which it is done; a write is noted when it is done.
    """

    def __init__(self):
        self.revision, self.ledger, self.steps = 0, None, []

    async def read(self):
        return LedgerRead(self.ledger, self.revision, self.revision == 0, self.revision or None)

    async def write(self, write):
        self.ledger, self.revision = write.ledger, self.revision + 1
        self.steps += [("written", record.grant.request_id) for record in write.ledger.grants]
        return Written(self.revision)


class Recorder:
    """Notes the grants that leave, and all replies in ``steps``; drops the rest."""

    def __init__(self, steps):
        self.granted, self.steps = [], steps
        self.arrived = asyncio.Event()

    def reply(self, reply, term):
        self.steps.append((type(reply.body).__name__, reply.body.request_id))
        if isinstance(reply.body, Granted):
            self.granted.append(reply.body)
            self.arrived.set()

    def publish_event(self, event):
        pass

    def request_refresh(self, why):
        pass

    async def next(self):
        while not self.granted:
            self.arrived.clear()
            await self.arrived.wait()
        return self.granted.pop(0)


def ask(shard_id, priority):
    request_id = f"r{shard_id}"
    return RequestReceived(request_id, shard_id, 0, f"inbox.{request_id}", priority=priority, managed=True)


@asynccontextmanager
async def leading():
    """Run a loop that leads, with one bucket; return its event queue, its store and its publisher."""
    event_queue, store, skipped_ns = EventQueue(), MemoryStore(), 0
    publisher = Recorder(store.steps)
    settings = Settings(
        "one", "identify", "one", Timing(), 60 * NS_PER_S, static=Limits(1, 1000, 1000), fresh_start=True
    )
    replica, log = Replica(settings), make_log("error", "text")

    def clock():
        return now_ns() + skipped_ns

    runtime = Runtime(replica, event_queue, store=store, publisher=publisher, figures=publisher, clock=clock, log=log)
    running = asyncio.create_task(runtime.run())
    async with asyncio.timeout(60):
        await event_queue.put_and_wait(TrafficReceived())
        skipped_ns = settings.lease_ns  # a lease without a leader
        while replica.role is not Role.LEADER:
            await event_queue.put_and_wait(TrafficReceived())
        yield event_queue, store, publisher
    runtime.give_up()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_decline_that_arrives_with_requests_frees_the_turn_for_the_first_in_order():
    """The decline must not be applied before the requests that came earlier: the turn would go to the first of them."""
    async with leading() as (event_queue, _, publisher):
        event_queue.try_put_request(ask(9, 0), "bot")
        held = await publisher.next()
        for shard_id, priority in ((1, -1), (2, 0), (3, 1), (4, 0), (5, 1)):
            event_queue.try_put_request(ask(shard_id, priority), "bot")
        order: list[int] = []
        while len(order) < 5:
            event_queue.try_put(Confirmation(held.grant_id, Outcome.DECLINED))
            held = await publisher.next()
            order.append(held.shard_id)
        assert order == [3, 5, 2, 4, 1]


async def test_of_many_events_at_once_each_is_answered_in_order_and_a_grant_after_its_write():
    count = 3 * HANDLED_MIN
    async with leading() as (event_queue, store, publisher):
        for shard_id in range(count):
            event_queue.try_put_request(ask(shard_id, 0), "bot")
        await publisher.next()
        assert [step for step in store.steps if step[0] == "Queued"] == [("Queued", f"r{n}") for n in range(1, count)]
        assert [step for step in store.steps if step[1] == "r0"] == [("written", "r0"), ("Granted", "r0")]
