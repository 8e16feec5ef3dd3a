"""The one loop: a turn that is given back goes to the first in order among the requests that came before."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from coordinator.core.ledger import LedgerRead, LedgerSeen, Stop, TrafficReceived, Written
from coordinator.core.replica import Replica, Role
from coordinator.core.settings import Settings
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.log import make_log
from coordinator.runtime import HANDLED_AT_ONCE, TURN_NS, Runtime
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
    """Notes the grants that leave, and all else that is done but replies to commands in ``steps``."""

    def __init__(self, steps):
        self.granted, self.steps = [], steps
        self.arrived = asyncio.Event()

    def reply(self, reply, term):
        self.steps.append((type(reply.body).__name__, reply.body.request_id))
        if isinstance(reply.body, Granted):
            self.granted.append(reply.body)
            self.arrived.set()

    def reply_to_command(self, reply, term):
        pass

    def publish_event(self, event):
        self.steps.append(("event", event.name))

    def request_refresh(self, why):
        pass

    def write_out(self):
        self.steps.append(("write_out", ""))

    def set_wanted(self, *, is_wanted):
        self.steps.append(("watch", is_wanted))

    async def next(self):
        while not self.granted:
            self.arrived.clear()
            await self.arrived.wait()
        return self.granted.pop(0)


def ask(shard_id, priority):
    request_id = f"r{shard_id}"
    return RequestReceived(request_id, shard_id, 0, f"inbox.{request_id}", priority=priority, managed=True)


@asynccontextmanager
async def leading(*, jump_ns=0):
    """Run a loop that leads, with one bucket; return its event queue, its store, its publisher and the loop itself.

    ``jump_ns``: as much time passes at each look at the clock: the machine is busy with other processes.
    """
    event_queue, store, skipped_ns = EventQueue(), MemoryStore(), 0
    publisher = Recorder(store.steps)
    settings = Settings(
        "one", "identify", "one", Timing(), 60 * NS_PER_S, static=Limits(1, 1000, 1000), fresh_start=True
    )
    replica, log = Replica(settings), make_log("error", "text")

    def clock():
        nonlocal skipped_ns
        skipped_ns += jump_ns
        return now_ns() + skipped_ns

    runtime = Runtime(
        replica,
        event_queue,
        store=store,
        publisher=publisher,
        watch=publisher,
        figures=publisher,
        clock=clock,
        log=log,
    )
    running = asyncio.create_task(runtime.run())
    async with asyncio.timeout(60):
        await event_queue.put_and_wait(TrafficReceived())
        skipped_ns += settings.lease_ns  # a lease without a leader
        while replica.role is not Role.LEADER:
            await event_queue.put_and_wait(TrafficReceived())
        yield event_queue, store, publisher, runtime
    runtime.give_up()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_decline_that_arrives_with_requests_frees_the_turn_for_the_first_in_order():
    """The decline must not be applied before the requests that came earlier: the turn would go to the first of them."""
    async with leading() as (event_queue, _, publisher, _):
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
    count = 3 * HANDLED_AT_ONCE
    async with leading() as (event_queue, store, publisher, _):
        for shard_id in range(count):
            event_queue.try_put_request(ask(shard_id, 0), "bot")
        await publisher.next()
        while len(event_queue):  # a slow machine takes more than one turn of the loop
            await event_queue.put_and_wait(TrafficReceived())
        assert [step for step in store.steps if step[0] == "Queued"] == [("Queued", f"r{n}") for n in range(1, count)]
        assert [step for step in store.steps if step[1] == "r0"] == [("written", "r0"), ("Granted", "r0")]


async def test_a_turn_of_the_loop_is_as_long_on_a_busy_machine(monkeypatch):
    """Else what is read in each turn would take nearly all of the time, and next to nothing would be answered."""
    count, turns = 20 * HANDLED_AT_ONCE, set()
    monkeypatch.setattr("coordinator.runtime.thread_time_ns", lambda: 0, raising=False)
    async with leading(jump_ns=TURN_NS) as (event_queue, _, publisher, runtime):
        publisher.reply = lambda reply, _: turns.add((runtime.turned_at_ns, reply.body.request_id))
        for shard_id in range(count):
            event_queue.try_put_request(ask(shard_id, 0), "bot")
        while len(event_queue):
            await event_queue.put_and_wait(TrafficReceived())
    assert len({request_id for _, request_id in turns}) >= count - 1  # all but the one that is granted
    assert len({turned_at_ns for turned_at_ns, _ in turns}) <= 2


async def test_replies_leave_before_what_is_published_for_those_who_watch():
    async with leading() as (event_queue, store, publisher, _):
        event_queue.try_put_request(ask(0, 0), "bot")
        await publisher.next()
        await event_queue.put_and_wait(TrafficReceived())
        granted = store.steps.index(("Granted", "r0"))
        assert store.steps[granted + 1 : granted + 3] == [("write_out", ""), ("event", "granted")]


async def test_the_ledger_is_watched_while_another_replica_leads():
    async with leading() as (event_queue, store, _, _):
        watched = [step for step in store.steps if step[0] == "watch"]
        assert watched == [("watch", True), ("watch", False)]  # a candidate, then the leader
        newer = replace(store.ledger, instance="two", term=store.ledger.term + 1)
        while store.steps[-1] != ("watch", True):
            await event_queue.put_and_wait(LedgerSeen(newer, store.revision + 1))


async def test_one_that_leaves_needs_no_watch():
    async with leading() as (event_queue, store, _, _):
        event_queue.put(Stop())
        while store.ledger.leader is not None:  # noqa: ASYNC110  # the loop that is tried has its turn
            await asyncio.sleep(0)
        assert [step for step in store.steps if step[0] == "watch"][-1] == ("watch", False)
