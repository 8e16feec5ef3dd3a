"""A coordinator that starts takes the queue from one that has it: a rolling update forgets nobody."""

import json

from tests.processes import WITHIN_S, until

PLAIN = 1_500  # more than a page


async def waiting(client, coordinator):
    """The askings of each bucket's head, as this coordinator knows them."""
    status = json.loads((await client.request("identify.status", b"", timeout=WITHIN_S)).data)
    return status["name"], status["waiting"]


async def test_the_queue_is_taken_before_it_is_ready(start_coordinator, client, nats_server):
    first = await start_coordinator(IDENTIFY_WINDOW="60")
    inbox = client.new_inbox()
    await client.subscribe(inbox)  # or NATS says that nobody is there
    for number in range(PLAIN + 1):
        ask = json.dumps({"shard_id": 0, "request_id": f"r{number}", "timeout_ms": 600_000}).encode()
        await client.publish("identify.request.0", ask, reply=inbox)

    async def all_wait():
        return (await waiting(client, first))[1] == PLAIN

    await until(all_wait, "all stand in the queue")
    second = await start_coordinator(until_leader=False, IDENTIFY_WINDOW="60")
    await until(second.is_ready, "the second is ready")
    assert second.logged("queue taken from another replica")[-1]["askings"] == PLAIN + 1  # one is granted
    await first.end()
    await until(second.is_leader, "the second leads")
    name, count = await waiting(client, second)
    assert (name, count) == ("pod-1", PLAIN)


async def test_one_that_is_alone_goes_without(start_coordinator):
    alone = await start_coordinator()
    assert not alone.logged("queue taken from another replica")
