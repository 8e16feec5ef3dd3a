"""Requests, grants and answers over a real NATS, against a real coordinator process."""

import asyncio
import json
import time

from tests.processes import WITHIN_S, Mailbox, until


async def ledger_grants(client):
    entry = await (await client.jetstream().key_value("identify")).get("ledger")
    return json.loads(entry.value)["grants"]


async def test_an_empty_payload_is_granted_with_all_that_the_contract_names(coordinator, client):
    reply = await client.request("identify.request.0", b"", timeout=WITHIN_S)
    grant = json.loads(reply.data)
    assert grant | {"grant_id": "", "request_id": "", "waited_ms": 0} == {
        "status": "granted",
        "shard_id": 0,
        "bucket": 0,
        "request_id": "",
        "grant_id": "",
        "renewal": 0,
        "use_within_ms": 100,
        "waited_ms": 0,
        "remaining": 999,
        "max_concurrency": 1,
        "term": 1,
    }
    assert reply.reply == f"identify.confirm.0.{grant['grant_id']}"


async def test_a_plain_requester_gets_one_reply_after_the_window(coordinator, client):
    began = time.monotonic()
    replies = await asyncio.gather(*(client.request("identify.request.0", b"", timeout=WITHIN_S) for _ in range(3)))
    assert [json.loads(reply.data)["status"] for reply in replies] == ["granted"] * 3
    assert time.monotonic() - began >= 2 * 0.6  # window plus grace, twice


async def test_a_managed_shard_waits_renews_is_granted_and_lets_the_next_one_in(coordinator, client, mailbox):
    await mailbox.ask(0, managed=True, request_id="first", renewal=0, client="pod-a")
    granted, first = await mailbox.next("granted")
    assert (granted["request_id"], granted["use_within_ms"], first.reply) == (
        "first",
        1000,
        f"identify.confirm.0.{granted['grant_id']}",
    )
    await mailbox.ask(0, managed=True, request_id="second", shard_id=0)
    queued, _ = await mailbox.next("queued")
    assert (queued["request_id"], queued["position"], queued["reason"]) == ("second", 1, "window")
    assert queued["eta_ms"] > 1000  # nothing is known of the first yet

    await first.respond(b"")
    answered = time.monotonic()
    nudged, _ = await mailbox.next("queued")
    assert nudged["renew_in_ms"] == 0
    await mailbox.ask(0, managed=True, request_id="second", renewal=1)
    granted, _ = await mailbox.next("granted")
    assert (granted["request_id"], granted["renewal"]) == ("second", 1)
    assert time.monotonic() - answered >= 0.45 - 0.005  # window and margin, less what the answer travelled


async def test_a_renewal_of_an_unanswered_grant_gets_the_same_grant(coordinator, mailbox):
    await mailbox.ask(0, managed=True, request_id="one")
    first, _ = await mailbox.next("granted")
    await mailbox.ask(0, managed=True, request_id="one", renewal=1)
    second, _ = await mailbox.next("granted")
    assert (second["grant_id"], second["renewal"]) == (first["grant_id"], first["renewal"])


async def test_a_declined_turn_goes_to_the_next_at_once(coordinator, client, mailbox):
    await mailbox.ask(0, managed=True, request_id="one")
    granted, message = await mailbox.next("granted")
    await mailbox.ask(0, managed=True, request_id="two")
    await message.respond(b'{"outcome": "declined"}')
    again, _ = await mailbox.next("granted")
    assert (again["request_id"], again["remaining"]) == ("two", granted["remaining"])


async def test_a_cancelled_request_is_passed_over(coordinator, client, mailbox):
    await mailbox.ask(0, managed=True, request_id="one")
    _, message = await mailbox.next("granted")
    await mailbox.ask(0, managed=True, request_id="two")
    await mailbox.ask(0, managed=True, request_id="three")
    await client.publish("identify.cancel.0", b'{"request_id": "two"}')
    await message.respond(b"")
    await mailbox.ask(0, managed=True, request_id="three", renewal=1)
    granted, _ = await mailbox.next("granted")
    assert granted["request_id"] == "three"


async def test_a_request_whose_inbox_is_gone_spends_neither_window_nor_budget(coordinator, client, mailbox):
    gone = Mailbox(client)
    await gone.ask(0, managed=True, request_id="gone")
    await until(lambda: coordinator.metric('identify_events_total{event="undeliverable"}'), "it came back")
    await mailbox.ask(0, managed=True, request_id="here")
    granted, _ = await mailbox.next("granted")
    assert (granted["request_id"], granted["remaining"]) == ("here", 999)
    assert [grant["request_id"] for grant in await ledger_grants(client)] == ["here"]


async def test_a_nudge_that_nobody_receives_passes_the_turn_on(coordinator, client, mailbox):
    dead = Mailbox(client)
    await dead.open()
    await mailbox.ask(0, managed=True, request_id="first")
    _, message = await mailbox.next("granted")
    await dead.ask(0, managed=True, request_id="dead")
    await dead.next("queued")
    await dead.close()
    await message.respond(b"")
    await mailbox.ask(0, managed=True, request_id="alive")
    granted, _ = await mailbox.until_granted("alive", renewal=1)
    assert granted["remaining"] == 998
    assert await coordinator.metric('identify_events_total{event="undeliverable"}') == 0


GARBAGE = [
    (0, b"{", "no request"),
    (0, b"[]", "no request"),
    (0, b"\xff\xfe", "no request"),
    (0, b'{"shard_id": "0"}', "shard_id"),
    (0, b'{"shard_id": -1}', "shard_id"),
    (0, b'{"priority": 11}', "priority"),
    (0, b'{"request_id": "a.b"}', "request_id"),
    (0, b'{"request_id": ""}', "request_id"),
    (0, b'{"timeout_ms": 0}', "timeout_ms"),
    (0, b'{"renewal": 1.5}', "renewal"),
    (0, b'{"client": "' + b"x" * 129 + b'"}', "client"),
    (0, b'"' + b"x" * 4096 + b'"', "4096"),
    ("x", b"", "'x'"),
    ("-1", b"", "'-1'"),
    ("1e3", b"", "'1e3'"),
    ("2147483649", b"", "2147483648"),
    ("\u0663", b"", "a number"),
]


async def test_what_is_wrong_is_said(coordinator, client):
    for bucket, payload, says in GARBAGE:
        reply = await client.request(f"identify.request.{bucket}", payload, timeout=WITHIN_S)
        body = json.loads(reply.data)
        assert (body["status"], body["code"]) == ("refused", "bad_request"), payload
        assert says in body["message"]
        assert reply.headers["Nats-Service-Error-Code"] == "400"
        assert reply.headers["Nats-Service-Error"] == body["message"]
    granted = await client.request("identify.request.0", b"", timeout=WITHIN_S)
    assert json.loads(granted.data)["status"] == "granted"


async def test_a_wrong_bucket_is_refused_by_naming_the_right_one(start_coordinator, client):
    await start_coordinator(IDENTIFY_MAX_CONCURRENCY="4")
    reply = await client.request("identify.request.2", b'{"shard_id": 5}', timeout=WITHIN_S)
    body = json.loads(reply.data)
    assert (body["code"], body["max_concurrency"], reply.headers["Nats-Service-Error-Code"]) == (
        "wrong_bucket",
        4,
        "409",
    )
    assert "bucket 1" in body["message"]
    moved = await client.request("identify.request.5", b'{"shard_id": 5, "max_concurrency": 16}', timeout=WITHIN_S)
    assert json.loads(moved.data)["bucket"] == 1


async def counted(coordinator, why, number):
    name = f'identify_dropped_total{{why="{why}"}}'

    async def is_so():
        return await coordinator.metric(name) == number

    await until(is_so, f"{number} dropped as {why}")


async def test_no_reply_is_sent_where_only_a_coordinator_may_write(coordinator, client):
    reply_tos = ["", "$KV.identify.ledger", "$JS.API.STREAM.DELETE.KV_identify", "identify.request.0"]
    for reply_to in reply_tos:
        await client.publish("identify.request.0", b"{", reply=reply_to)
        await client.publish("identify.request.0", b"", reply=reply_to)
        for question in ("identify.info", "identify.status", "identify.refresh", "$SRV.PING"):
            await client.publish(question, b"", reply=reply_to)
    await counted(coordinator, "no_reply_subject", 2 * len(reply_tos))
    assert await ledger_grants(client) == []


async def test_a_garbage_answer_frees_and_settles_nothing(start_coordinator, client, mailbox):
    coordinator = await start_coordinator(IDENTIFY_USE_WITHIN="60")
    await mailbox.ask(0, managed=True, request_id="one")
    _, message = await mailbox.next("granted")
    garbage = [b"+ACK", b"{", b'{"outcome": "maybe"}', b"null", b'"identified"', b" ", b"{" * 5000]
    for answer in garbage:
        await client.publish(message.reply, answer)
    # Only NATS itself can prove that nobody was there, and its proof is empty.
    await client.publish(message.reply, b"{}", headers={"Status": "503"})
    await counted(coordinator, "bad_answer", len(garbage) + 1)
    assert [grant["outcome"] for grant in await ledger_grants(client)] == [None]


async def test_an_exhausted_day_is_said_at_once(start_coordinator, client, mailbox):
    await start_coordinator(IDENTIFY_SESSION_TOTAL="1", IDENTIFY_SESSION_RESERVE="0")
    await client.request("identify.request.0", b"", timeout=WITHIN_S)
    reply = await client.request("identify.request.0", b"", timeout=WITHIN_S)
    body = json.loads(reply.data)
    assert (body["code"], reply.headers["Nats-Service-Error-Code"]) == ("session_limit", "429")
    assert body["retry_after_ms"] > 0
    await mailbox.ask(0, managed=True, request_id="patient")
    queued, _ = await mailbox.next("queued")
    assert queued["reason"] == "session_limit"


async def test_a_plain_request_that_is_not_granted_in_time_is_told(coordinator, client):
    await client.request("identify.request.0", b"", timeout=WITHIN_S)
    reply = await client.request("identify.request.0", b'{"timeout_ms": 100}', timeout=WITHIN_S)
    assert json.loads(reply.data)["code"] == "timeout"
    assert reply.headers["Nats-Service-Error-Code"] == "408"
