"""A request id that is spent: its shard asks anew and is granted, a script is refused. Real parts, a real client."""

import asyncio
import json
import logging

import pytest

from nats_identify import NatsQueue
from tests.processes import until

LONG = {"IDENTIFY_USE_WITHIN": "5"}  # nobody is passed over because this machine is busy


@pytest.fixture
async def queue(nats_server, start_coordinator):
    await start_coordinator(**LONG)
    async with NatsQueue.connect(nats_server.url) as queue:
        yield queue


async def request_ids(client, shard_id):
    """The ids under which a shard stands in line."""
    status = json.loads((await client.request("identify.status", b"")).data)
    return [one["request_id"] for bucket in status["buckets"] for one in bucket["first"] if one["shard_id"] == shard_id]


def lines_of(caplog, shard_id):
    return [line for line in caplog.messages if line.startswith(f"shard {shard_id} waits: its request ended")]


async def cancel(client, request_id):
    await client.publish("identify.cancel.0", json.dumps({"request_id": request_id}).encode())


async def test_a_shard_whose_request_somebody_cancels_asks_anew_and_says_so_once(queue, client, caplog):
    caplog.set_level(logging.WARNING, "nats_identify")
    held = await queue.acquire(0)
    reasons = []
    waits = asyncio.create_task(queue.acquire(1, on_progress=lambda told: reasons.append(told.reason)))
    behind = asyncio.create_task(queue.acquire(2))

    async def stands(shard_id=1):
        return await request_ids(client, shard_id)

    await until(lambda: stands(2), "both wait")
    (old,) = await stands()
    await cancel(client, old)

    async def is_anew():
        now = await stands()
        return now and now != [old] and now

    (new,) = await until(is_anew, "it asks anew")
    queue.identified(held)
    second = await behind  # it had asked before the new request
    assert not waits.done()
    queue.identified(second)
    grant = await waits
    assert (grant.shard_id, grant.request_id) == (1, new)
    queue.identified(grant)
    (line,) = lines_of(caplog, 1)
    assert "ask again with a new request_id" in line
    assert "ended" in reasons


async def test_a_turn_whose_id_changed_is_used_withdrawn_and_declined_as_any_other(queue, client, caplog):
    held = await queue.acquire(0)

    async def stands(*, but=()):
        return [name for name in await request_ids(client, 1) if name not in but]

    async def enter():
        async with queue.turn(1, near=True) as turn:
            await turn.granted()
            turn.decline()

    withdrawn = asyncio.create_task(enter())
    (old,) = await until(stands, "it waits")
    await cancel(client, old)
    (new,) = await until(lambda: stands(but=(old,)), "it asks anew")
    withdrawn.cancel()

    async def is_gone():
        return not await stands()

    await until(is_gone, "the new request is withdrawn")
    declined = asyncio.create_task(enter())
    (old,) = await until(lambda: stands(but=(new,)), "the next one waits")
    await cancel(client, old)
    await until(lambda: stands(but=(old,)), "it asks anew")
    queue.identified(held)
    await declined
    assert (await queue.acquire(2)).remaining == held.remaining - 1  # what was declined came back


async def test_a_script_that_uses_an_id_twice_is_refused(coordinator, client):
    payload = json.dumps({"request_id": "again"}).encode()
    first = await client.request("identify.request.0", payload, timeout=30)
    assert json.loads(first.data)["status"] == "granted"
    for _ in range(2):  # before its hold is over, and after its answer
        second = await client.request("identify.request.0", payload, timeout=30)
        refused = json.loads(second.data)
        assert (refused["status"], refused["code"], refused["request_id"]) == ("refused", "ended", "again")
        assert second.headers["Nats-Service-Error-Code"] == "410"
        assert "new request_id" in refused["message"]
        assert second.headers["Nats-Service-Error"] == refused["message"]
        await client.publish(first.reply, b"")
    fresh = await client.request("identify.request.0", b'{"request_id": "fresh"}', timeout=30)
    assert json.loads(fresh.data)["status"] == "granted"
