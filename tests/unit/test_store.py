"""How the ledger store asks a stream that has no leader for a moment."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from coordinator.edge import store
from coordinator.edge.connections import Connection, ConnectionContext
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics


async def test_who_is_not_answered_asks_again():
    asked: list[Any] = []

    async def ask():
        asked.append(asyncio.current_task())
        if len(asked) == 1:
            await asyncio.Event().wait()  # dropped by a stream between two leaders
        return len(asked)

    assert await store.first_answer(ask) == 2
    await asyncio.sleep(0)
    assert asked[0].cancelled()


async def test_a_late_answer_to_the_first_asking_counts_too(monkeypatch):
    monkeypatch.setattr(store, "ASK_AGAIN_S", 0.001)
    fifth = asyncio.Event()
    asked: list[None] = []

    async def ask():
        asked.append(None)
        number = len(asked)
        if number == 5:
            fifth.set()
        await (fifth if number == 1 else asyncio.Event()).wait()
        return number

    assert await store.first_answer(ask) == 1


async def test_an_error_is_an_answer():
    async def ask():
        raise LookupError

    with pytest.raises(LookupError):
        await store.first_answer(ask)


async def test_nobody_is_asked_for_ever(monkeypatch):
    monkeypatch.setattr(store, "ASK_AGAIN_S", 0.001)
    monkeypatch.setattr(store, "ANSWER_WITHIN_S", 0.01)
    asked: list[Any] = []

    async def ask():
        asked.append(asyncio.current_task())
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await store.first_answer(ask)
    await asyncio.sleep(0)
    assert all(task.cancelled() for task in asked)


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_cancellation_that_comes_with_the_answer_is_let_through(monkeypatch, is_answered):
    """Python 3.11 drops it there; a watch that is cancelled only once would then go on for ever."""

    async def request(_self, *_args, **_options):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if not is_answered:
            raise errors.NoRespondersError
        return Msg(Client())

    monkeypatch.setattr(Client, "request", request)
    monkeypatch.setattr(Client, "is_connected", True)
    lost = asyncio.get_running_loop().create_future()
    context = ConnectionContext("store", "nats://host", (), make_log("warning", "text"), Metrics(), lost)
    task = asyncio.create_task(Connection(context).request("$JS.API.INFO"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
