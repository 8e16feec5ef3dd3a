"""What a bot and its log are told while NATS or the coordinators are away: once, why, and when it is over."""

import asyncio
import logging
import signal
import socket
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from nats_identify import Grant, NatsQueue, Progress
from nats_identify.integrations._client import QueuedClient
from tests.processes import until

SLOW = {"IDENTIFY_WINDOW": "80000", "IDENTIFY_USE_WITHIN": "60"}
"""The second shard waits for the whole test, and the window is longer than any machine takes for it."""


def note(told: list[str], progress: Progress) -> None:
    told.append(progress.reason)


class Shards:
    """Shards that wait, and the newest reason that each was told."""

    def __init__(self, queue: NatsQueue) -> None:
        self._queue = queue
        self._waiting: list[asyncio.Task[Grant]] = []
        self.told: dict[int, list[str]] = {}

    def ask(self, *shard_ids: int) -> None:
        for shard_id in shard_ids:
            told = self.told.setdefault(shard_id, [])
            acquiring = self._queue.acquire(shard_id, on_progress=partial(note, told))
            self._waiting.append(asyncio.create_task(acquiring))

    async def until_told(self, reason: str, *shard_ids: int) -> None:
        async def are_told():
            return all(self.told[shard_id][-1:] == [reason] for shard_id in shard_ids)

        await until(are_told, f"shards {shard_ids} are told {reason}")

    async def end(self) -> None:
        for waiting in self._waiting:
            waiting.cancel()
        await asyncio.wait(self._waiting)


@pytest.fixture
async def queue(nats_server, caplog):
    caplog.set_level(logging.DEBUG, "nats_identify")
    async with NatsQueue.connect(nats_server.url) as queue:
        yield queue


@pytest.fixture
async def shards(queue):
    shards = Shards(queue)
    yield shards
    await shards.end()


def lines(caplog, *words: str) -> list[str]:
    said = [record.getMessage() for record in caplog.records if record.name == "nats_identify"]
    return [line for line in said if all(word in line for word in words)]


async def test_nats_away_is_said_once_to_the_log_and_to_each_shard(
    start_coordinator, nats_server, queue, shards, caplog, monkeypatch
):
    requesters = []
    keep = queue._log.error

    def keep_too(error):
        requesters.append(error)
        keep(error)

    monkeypatch.setattr(queue._log, "error", keep_too)
    await start_coordinator(**SLOW)
    await queue.acquire(9)
    shards.ask(1, 2, 3)
    await shards.until_told("window", 1, 2, 3)
    caplog.clear()
    await nats_server.stop()
    await shards.until_told("no_answer", 1, 2, 3)

    async def has_tried_often():
        return len(requesters) >= 20

    await until(has_tried_often, "it tries on")
    (line,) = lines(caplog, "NATS")  # each attempt was a line of its own once
    assert f"NATS at 127.0.0.1:{nats_server.port} is away (ConnectionRefusedError" in line
    assert all(told.count("no_answer") == 1 for told in shards.told.values())
    await nats_server.start()
    await shards.until_told("window", 1, 2, 3)

    async def is_back():
        return lines(caplog, "NATS is back: connected to 127.0.0.1:")

    assert len(await until(is_back, "it says that NATS is back")) == 1


async def test_nats_that_was_never_there_is_said_too(caplog):
    caplog.set_level(logging.DEBUG, "nats_identify")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with NatsQueue.connect(f"nats://bot:hunter2@127.0.0.1:{port}") as queue:
        shards = Shards(queue)
        shards.ask(0)
        await shards.until_told("no_answer", 0)
        await shards.end()
    assert len(lines(caplog, f"NATS at 127.0.0.1:{port} is away (ConnectionRefusedError")) == 1
    assert "hunter2" not in caplog.text


async def test_coordinators_away_are_said_once_and_that_one_answers_again(start_coordinator, queue, shards, caplog):
    coordinator = await start_coordinator(**SLOW)
    await queue.acquire(9)
    await coordinator.end(signal.SIGKILL)
    shards.ask(1, 2, 3, 4)
    await shards.until_told("no_answer", 1, 2, 3, 4)
    (line,) = lines(caplog, "no coordinator answers on identify.request.*")
    assert "none is connected" in line
    assert all(told == ["no_answer"] for told in shards.told.values())
    await start_coordinator(**SLOW)

    async def answers_again():
        return lines(caplog, "a coordinator answers again")

    assert len(await until(answers_again, "it says so")) == 1


async def test_a_coordinator_that_is_there_and_answers_nothing_is_said_too(start_coordinator, queue, shards, caplog):
    coordinator = await start_coordinator(**SLOW)
    await queue.acquire(9)
    coordinator.process.send_signal(signal.SIGSTOP)
    try:
        shards.ask(1, 2)
        await shards.until_told("no_answer", 1, 2)

        async def is_said():
            return lines(caplog, "no coordinator answers on identify.request.*", "requests have no answer")

        assert len(await until(is_said, "it says so")) == 1
    finally:
        coordinator.process.send_signal(signal.SIGCONT)

    async def answers_again():
        return lines(caplog, "a coordinator answers again")

    assert len(await until(answers_again, "it says so")) == 1


async def test_a_borrowed_connection_that_was_closed_is_said_with_what_to_do(client, coordinator, caplog):
    caplog.set_level(logging.DEBUG, "nats_identify")
    queue = NatsQueue(client)
    async with queue.turn(0):
        pass
    await client.close()
    shards = Shards(queue)
    shards.ask(1)
    await shards.until_told("no_answer", 1)
    await shards.end()
    await queue.close()
    assert len(lines(caplog, "NATS at", "closed for good: make a new one, and a NatsQueue with it")) == 1


async def test_the_event_of_a_bot_says_so_too():
    """A library's client, as much of it as is looked at."""

    class Client:
        def __init__(self) -> None:
            self.events: list[tuple[Any, ...]] = []

        def dispatch(self, name: str, *facts: object) -> None:
            self.events.append((name, *facts))

        async def close(self) -> None: ...

    class AutoShardedClient(Client): ...

    class Bot(QueuedClient, AutoShardedClient):
        library = SimpleNamespace(client=Client, auto_sharded=AutoShardedClient)  # type: ignore[assignment]

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    bot = Bot(queue=f"nats://127.0.0.1:{port}")
    starting = asyncio.create_task(bot.identify_shard(7))

    async def was_told():
        return [(name, shard_id, progress.reason) for name, shard_id, progress in bot.events]

    assert await until(was_told, "on_shard_queued was called") == [("shard_queued", 7, "no_answer")]
    starting.cancel()
    await asyncio.wait({starting})
    await bot.close()
