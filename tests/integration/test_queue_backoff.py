"""Many requests of one process that no coordinator answers: what they cost, and how soon they are answered after it."""

import asyncio
import random
from functools import partial

import nats
import pytest

from nats_identify import Grant, NatsQueue, Progress
from nats_identify.client.requester import RENEW_MAX_NS
from nats_identify.clock import NS_PER_S, now_ns
from tests.processes import until

SHARDS = 200
FOR_S = 15
SETTINGS = {"IDENTIFY_WINDOW": "60", "IDENTIFY_MAX_CONCURRENCY": "16", "IDENTIFY_USE_WITHIN": "5"}
SLOWEST_PACE_BEFORE_S = 2.4
"""Each unanswered request was repeated after 2 to 2.4 s, however long that lasted."""


class Fleet:
    """The shards of one process, and the newest reason that each was told."""

    def __init__(self, queue: NatsQueue) -> None:
        self.reasons: dict[int, str] = {}
        self._waiting = [self._ask(queue, shard_id) for shard_id in range(SHARDS)]

    def _ask(self, queue: NatsQueue, shard_id: int) -> asyncio.Task[Grant]:
        return asyncio.create_task(queue.acquire(shard_id, on_progress=partial(self._note, shard_id)))

    def _note(self, shard_id: int, progress: Progress) -> None:
        self.reasons[shard_id] = progress.reason

    async def are_unanswered(self) -> bool:
        return len(self.reasons) == SHARDS and set(self.reasons.values()) == {"no_answer"}

    async def are_answered(self) -> bool:
        granted = sum(waiting.done() for waiting in self._waiting)
        return granted + sum(reason != "no_answer" for reason in self.reasons.values()) >= SHARDS

    async def end(self) -> None:
        for waiting in self._waiting:
            waiting.cancel()
        await asyncio.wait(self._waiting)


def sent_messages(queue: NatsQueue) -> int:
    assert queue._connection is not None
    return queue._connection.stats["out_msgs"]


@pytest.mark.parametrize("is_silent", [False, True], ids=["none is connected", "one is silent"])
async def test_unanswered_requests_of_one_process_send_less_and_less(nats_server, start_coordinator, is_silent):
    silent = await nats.connect(nats_server.url)
    listening = await silent.subscribe("identify.request.*") if is_silent else None
    async with NatsQueue.connect(nats_server.url) as queue:
        fleet, began_ns = Fleet(queue), now_ns()

        async def is_over() -> bool:
            return now_ns() - began_ns >= FOR_S * NS_PER_S

        await until(fleet.are_unanswered, "all are told that there is no answer")
        await until(is_over, "the time is over")
        lasted_s, count = (now_ns() - began_ns) / NS_PER_S, sent_messages(queue)
        before = int(SHARDS * lasted_s / SLOWEST_PACE_BEFORE_S)
        assert count < before * 3 // 4
        if listening is not None:
            await listening.unsubscribe()
        await start_coordinator(**SETTINGS)
        await until(fleet.are_answered, "all are answered")
        await fleet.end()
    await silent.close()


async def test_a_coordinator_that_is_back_is_found_sooner_than_by_the_pace_of_the_requests(
    nats_server, start_coordinator, monkeypatch
):
    monkeypatch.setattr(random, "random", lambda: 1.0)
    async with NatsQueue.connect(nats_server.url) as queue:
        monkeypatch.setattr(queue, "_pace_ns", lambda: RENEW_MAX_NS)
        fleet, began_ns = Fleet(queue), now_ns()
        await until(fleet.are_unanswered, "all are told that there is no answer")
        asked = {name: pending.requester._renewal for name, pending in queue._pending.items()}
        await start_coordinator(until_leader=False, **SETTINGS)

        async def have_renewed() -> bool:
            return all(pending.requester._renewal > asked[name] for name, pending in queue._pending.items())

        await until(have_renewed, "all have renewed")
        assert now_ns() - began_ns < RENEW_MAX_NS
        await fleet.end()
