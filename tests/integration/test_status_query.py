"""What operators ask of a real coordinator: a query, its pages, a bad one, and the answer of a standby."""

import asyncio
import json

import pytest
from jsonschema import Draft202012Validator

from nats_identify.operator_wire import FullStatus
from nats_identify.schemas import schema_of
from nats_identify.wire import Refused
from tests.processes import WITHIN_S, Mailbox, until

SLOW = {"IDENTIFY_USE_WITHIN": "60"}
"""Turns that stay with whom they were granted to: nothing moves while a test looks."""


async def asked(client, query=None):
    payload = b"" if query is None else json.dumps(query).encode()
    reply = await client.request("identify.status", payload, timeout=WITHIN_S)
    assert reply.headers is None
    Draft202012Validator(schema_of("status")).validate(json.loads(reply.data))
    return FullStatus.model_validate_json(reply.data)


async def wait_in_line(client, count, bucket=0, buckets=1):
    """Let shards of one bucket ask, the first of which is granted; return the queued replies of the others."""
    box = Mailbox(client)
    await box.open()
    replies = {}
    for number in range(count):
        ask = {"request_id": f"r{number}", "shard_id": bucket + number * buckets, "client": f"pod-{number % 3}"}
        await box.ask(bucket, managed=True, **ask)
        replies[f"r{number}"], _ = await box.next("queued" if number else "granted")
    return replies


async def test_a_query_says_what_the_requests_own_replies_say(start_coordinator, client):
    await start_coordinator(IDENTIFY_MAX_CONCURRENCY="2", **SLOW)
    replies = await wait_in_line(client, 14, bucket=1, buckets=2)
    known = await asked(client, {"shard_id": 27})
    (one,) = known.requests
    own = replies["r13"]
    assert (one.request_id, one.client, one.bucket) == ("r13", "pod-1", 1)
    assert (one.position, one.reason, one.ahead_count) == (own["position"], own["reason"], 12)
    assert own["eta_ms"] - 1000 * WITHIN_S < one.eta_ms <= own["eta_ms"]
    assert [before.request_id for before in one.ahead] == [f"r{number}" for number in range(3, 13)]
    assert known.grants == []
    (granted,) = (await asked(client, {"shard_id": 1})).requests
    (grant,) = (await asked(client, {"shard_id": 1})).grants
    assert (granted.position, granted.grant_id) == (0, grant.grant_id)
    assert (grant.state, grant.client, grant.request_id) == ("unconfirmed", "pod-0", "r0")
    assert grant.opens_in_ms > 0
    whole = await asked(client)
    assert (whole.requests, whole.grants, whole.paused) == ([], [], None)
    assert {one.client: (one.new_requests, one.messages) for one in whole.busiest} == {
        "pod-0": (5, 5),
        "pod-1": (5, 5),
        "pod-2": (4, 4),
    }
    assert all(0 < one.over_ms <= 300_000 for one in whole.busiest)


async def test_a_client_s_requests_come_in_pages(start_coordinator, client):
    await start_coordinator(**SLOW)
    await wait_in_line(client, 10)
    pages, offset = [], 0
    while offset is not None:
        known = await asked(client, {"client": "pod-0", "offset": offset, "limit": 2})
        assert known.requests_total == 4
        pages.append([one.request_id for one in known.requests])
        offset = known.next_offset
    assert pages == [["r0", "r3"], ["r6", "r9"]]
    assert [grant.client for grant in known.grants] == ["pod-0"]
    of_bucket = await asked(client, {"bucket": 0, "limit": 100})
    assert [one.position for one in of_bucket.requests] == list(range(10))


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"nothing", "the body: "),
        (b'{"bucket":1}', "bucket: there is no bucket 1; max_concurrency is 1, so give 0 to 0"),
        (b'{"shard_id":1,"client":"a"}', "the body: give one of shard_id, bucket and client"),
        (b"x" * 5000, "the payload has 5000 bytes"),
    ],
)
async def test_a_bad_query_is_refused_with_what_to_change(coordinator, client, payload, said):
    reply = await client.request("identify.status", payload, timeout=WITHIN_S)
    assert reply.headers["Nats-Service-Error-Code"] == "400"
    body = json.loads(reply.data)
    Refused.model_validate_json(reply.data)
    assert (body["status"], body["code"]) == ("refused", "bad_request")
    assert body["message"].startswith(said)
    assert reply.headers["Nats-Service-Error"] == body["message"]
    assert (await asked(client, {"bucket": 0})).requests == []


async def test_a_standby_answers_from_its_own_copy(coordinator, start_coordinator, client):
    standby = await start_coordinator(until_leader=False)
    await until(standby.is_ready, "the standby is ready")
    box = Mailbox(client)
    await box.open()
    await box.ask(0, managed=True, request_id="one", client="pod-9", timeout_ms=3_600_000)
    _, message = await box.next("granted")
    await message.respond(b"")

    async def answers():
        """Ask at once as often as needed to have both of them answer, before the grant is over."""
        known = await asyncio.gather(*(asked(client, {"client": "pod-9"}) for _ in range(8)))
        by_name = {each.name: each for each in known}
        return by_name if set(by_name) == {"pod-0", "pod-1"} else None

    by_name = await until(answers, "both answer")
    assert {name: each.role for name, each in by_name.items()} == {"pod-0": "leader", "pod-1": "standby"}
    for each in by_name.values():
        assert [(busy.client, busy.messages) for busy in each.busiest] == [("pod-9", 1)]
