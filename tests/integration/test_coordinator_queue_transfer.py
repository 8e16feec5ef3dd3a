"""A coordinator that starts takes the queue from one that has it: a rolling update forgets nobody."""

import json

import nats
import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from tests.chaos.crowd import CONTROLS, NAME, worst
from tests.processes import WITHIN_S, until

PLAIN = 1_500  # more than a page
WORST = 600
AT_ONCE = 1_000
"""Requests of one portion; the next is sent when they are taken in. 20,000 at once were too many for a busy machine."""
LONG_S = "80000"
"""A window that no test outlives: after one grant there is no second."""

SHUT = {"IDENTIFY_FRESH_START": "0", "IDENTIFY_WINDOW": LONG_S, "IDENTIFY_MAX_CONCURRENCY": "16"}
"""Every bucket is held for a whole window first: none is granted."""


async def waiting(client, coordinator):
    """The requests of each bucket's head, as this coordinator knows them."""
    status = json.loads((await client.request("identify.status", b"", timeout=WITHIN_S)).data)
    return status["name"], status["waiting"]


async def test_the_queue_is_taken_before_it_is_ready(start_coordinator, client, nats_server):
    first = await start_coordinator(IDENTIFY_WINDOW=LONG_S)
    inbox, replies = client.new_inbox(), []

    async def note(message):
        replies.append(json.loads(message.data)["status"])

    await client.subscribe(inbox, cb=note)
    for number in range(PLAIN + 1):
        ask = json.dumps({"shard_id": 0, "request_id": f"r{number}", "timeout_ms": 600_000}).encode()
        await client.publish("identify.request.0", ask, reply=inbox)

    async def all_but_one_wait():
        """On a busy machine some are refused before one is granted: their grants were recorded too late, four times."""
        return "granted" in replies and (await waiting(client, first))[1] == PLAIN + 1 - len(replies)

    await until(all_but_one_wait, "one is granted, and all others stand in the queue or have their reply")
    left = PLAIN + 1 - len(replies)
    second = await start_coordinator(until_leader=False, IDENTIFY_WINDOW=LONG_S)
    await until(second.is_ready, "the second is ready")
    taken = second.logged("queue taken from another replica")[-1]["requests"]
    assert taken in {left, left + 1}  # the granted one is known until its hold is over
    await first.end()
    await until(second.is_leader, "the second leads")
    name, count = await waiting(client, second)
    assert (name, count) == ("pod-1", left)


async def test_one_that_is_alone_goes_without(start_coordinator):
    alone = await start_coordinator()
    assert not alone.logged("queue taken from another replica")


class Spy:
    """Notes the pages of the queue that pass."""

    def __init__(self):
        self.pages = []

    async def note(self, message):
        if message.data.startswith(b'{"instance":') and b'"askings":[' in message.data:
            self.pages.append(len(message.data))


@pytest.fixture
async def nats_server(tmp_path, request):
    """As everywhere, with the max_payload that a test names."""
    most = getattr(request, "param", 1_048_576)
    async with EmbeddedNats(tmp_path / "nats", extra=f"max_payload: {most}") as server:
        yield server


async def handed_over(start_coordinator, url, count, contents):
    """Have so many of the largest requests wait, start a second replica, and return the bytes of each page."""
    first = await start_coordinator(**SHUT)
    client, spy = await nats.connect(url), Spy()
    try:
        for number in range(count):
            if number % AT_ONCE == 0:
                await first.until_metric("identify_waiting", number)
            client_name = contents[number % len(contents)]
            subject, reply_to, body = worst(number, client=client_name)
            await client.publish(subject, body, reply=reply_to.replace("0", '"'))  # of two bytes each in JSON

        await first.until_metric("identify_waiting", count)
        await client.subscribe("_INBOX.>", cb=spy.note)
        await client.request("identify.info", b"", timeout=WITHIN_S)  # the server has taken in the subscription
        second = await start_coordinator(until_leader=False, **SHUT)
        await until(second.is_ready, "the second is ready")
        assert [line["requests"] for line in second.logged("queue taken from another replica")] == [count]
        assert not first.logged("a page of the queue is left out: it cannot be sent")
        assert await second.metric("identify_waiting") == count
        await client.request("identify.info", b"", timeout=WITHIN_S)  # what passed before has been noted
        return spy.pages
    finally:
        await client.close()


@pytest.mark.parametrize("nats_server", [1_048_576, 65_536], indirect=True)
async def test_requests_of_any_content_are_handed_over(start_coordinator, nats_server):
    max_payload = await served_max_payload(nats_server.url)
    pages = await handed_over(start_coordinator, nats_server.url, WORST, (CONTROLS, NAME, '"' * 128))
    print(f"max_payload {max_payload}: {len(pages)} pages, the largest of {max(pages)} bytes")  # noqa: T201
    assert len(pages) > 1
    assert max(pages) <= max_payload // 2


async def test_many_requests_of_the_largest_content_are_handed_over(start_coordinator, nats_server):
    pages = await handed_over(start_coordinator, nats_server.url, 20_000, (CONTROLS,))
    print(f"20,000 requests: {len(pages)} pages, the largest of {max(pages)} bytes")  # noqa: T201
    assert max(pages) <= 256 * 1024


async def served_max_payload(url):
    client = await nats.connect(url)
    try:
        return client.max_payload
    finally:
        await client.close()
