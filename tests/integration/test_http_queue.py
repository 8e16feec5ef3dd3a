"""The queue over HTTP on real parts: clients that take any response as permission, and those that look at it."""

import asyncio
import json
import signal
import time
from functools import partial

import pytest

from nats_identify.testing.judge import Day, Judge, Verdict
from tests.http_clients import Asking, address_of, sandwich, twilight
from tests.processes import WITHIN_S, samples_of, until

HTTP = {"IDENTIFY_QUEUE_HTTP_PORT": "0"}
STANDING = {**HTTP, "IDENTIFY_WINDOW": "3600"}
"""After the first grant the line stands still, so that places can be compared."""

SECRET = "a-token-of-the-queue"  # noqa: S105  # it opens nothing
MS = 1_000_000


async def waiting(client, bucket=0):
    """The shards of a bucket, in the order in which they will be served."""
    known = json.loads((await client.request("identify.status", b"", timeout=WITHIN_S)).data)
    found = [one for one in known["buckets"] if one["bucket"] == bucket]
    return [request["shard_id"] for request in found[0]["first"]] if found else []


async def until_waiting(client, *shards, bucket=0):
    async def look():
        return await waiting(client, bucket) == list(shards)

    await until(look, f"{shards} wait in this order")


async def until_asked(process, count):
    """Wait until this many requests wait or were granted, by one look: at an open bucket a request does not wait."""

    async def look():
        seen = samples_of((await process.page("/metrics"))[1])
        return seen.get("identify_waiting", 0) + seen.get('identify_events_total{event="granted"}', 0) >= count

    await until(look, f"{count} have asked")


async def standing_line(start_coordinator, client, shards=(1, 2, 3), **settings):
    """A coordinator whose line stands still behind shard 0, and the connections in it."""
    process = await start_coordinator(**{**STANDING, **settings})
    at = await address_of(process)
    assert (await (await Asking.ask(at, "/?shard=0")).ended()).startswith(b"HTTP/1.1 200 ")
    line = []
    for count, shard_id in enumerate(shards, 1):
        line.append(await Asking.ask(at, f"/?shard={shard_id}"))
        await until_waiting(client, *shards[:count])
    return process, at, line


async def test_clients_are_stalled_and_then_permitted_in_order(start_coordinator, client):
    process = await start_coordinator(**HTTP)
    at = await address_of(process)
    judge, judgements = Judge(Day(time.monotonic_ns()), window_ns=400 * MS), []

    def identify(shard_id):
        judgements.append(judge.identify(time.monotonic_ns(), shard_id, 1))

    clients = []
    for shard_id in range(5):
        clients.append(asyncio.create_task(twilight([at], shard_id, partial(identify, shard_id), 0.2)))
        await until_asked(process, shard_id + 1)
    await asyncio.wait_for(asyncio.gather(*clients), WITHIN_S)
    assert [one.shard_id for one in judgements] == list(range(5))
    assert {one.verdict for one in judgements} == {Verdict.ACCEPTED}
    await process.until_metric('identify_events_total{event="identified"}', 5)
    await process.until_metric('identify_http_queue_total{outcome="granted"}', 5)


async def test_a_disconnect_gives_the_place_back_and_a_reconnect_has_it_again(start_coordinator, client):
    _, at, line = await standing_line(start_coordinator, client)
    line[1].leave()
    await until_waiting(client, 1, 3)
    line.append(await Asking.ask(at, "/?shard=2&client=another"))  # a process that never was in the line
    await until_waiting(client, 1, 3, 2)
    line.append(await Asking.ask(at, "/?shard=2"))
    await until_waiting(client, 1, 2, 3, 2)


async def test_the_newer_connection_of_one_client_has_the_place(start_coordinator, client):
    process, at, line = await standing_line(start_coordinator, client)
    newer = await Asking.ask(at, "/?shard=2")
    assert await line[1].ended() == b""
    await until_waiting(client, 1, 2, 3)
    newer.leave()
    await until_waiting(client, 1, 3)
    await process.until_metric('identify_http_queue_total{outcome="replaced"}', 1)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_the_end_of_a_coordinator_permits_nothing(start_coordinator, client, how):
    process, at, line = await standing_line(start_coordinator, client)
    line.append(await Asking.send(at, b"GET /?shard=4 HTTP/1.1\r\n"))  # half a request
    assert await process.end(how) == (0 if how is signal.SIGTERM else -how)
    assert [await asking.ended() for asking in line] == [b""] * 4


async def test_those_that_wait_at_a_replica_that_stops_are_withdrawn(start_coordinator, client):
    first, _, _ = await standing_line(start_coordinator, client)
    second = await start_coordinator(**STANDING, until_leader=False)
    await until(second.is_ready, "the second is ready")
    assert await first.end() == 0
    await until(second.is_leader, "it leads")
    await until_waiting(client)


async def test_a_standby_serves_as_the_leader_does(start_coordinator, client):
    _, at, line = await standing_line(start_coordinator, client, shards=(1,))
    standby = await start_coordinator(**STANDING, until_leader=False)
    await until(standby.is_ready, "the standby is ready")
    assert not await standby.is_leader()
    there = await address_of(standby)
    assert there != at
    line.append(await Asking.ask(there, "/?shard=2"))
    await until_waiting(client, 1, 2)


async def test_max_concurrency_is_followed(start_coordinator, client):
    _, at, line = await standing_line(start_coordinator, client, shards=(4,), IDENTIFY_MAX_CONCURRENCY="4")
    assert (await (await Asking.ask(at, "/?shard=5")).ended()).startswith(b"HTTP/1.1 200 ")
    line.append(await Asking.ask(at, "/?shard=9"))
    await until_waiting(client, 9, bucket=1)


REFUSED = {
    "shard": ["/?shard=x", "/?shard=-1", "/?shard=", "/?shard=1&shard=2", "/?shard=1.0", f"/?shard={2**53 + 1}"],
    "path": ["/favicon.ico", "/metrics", "/identify", "/identify/3", "//", "/identify/../"],
}
UNREADABLE = [
    b"nonsense\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % number for number in range(500)) + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + b"a" * 20_000,
    b"POST /identify HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + b"a" * 20_000,
    b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
]


async def test_what_is_refused_has_no_response(start_coordinator, client):
    """Any response is permission. Each of these is closed without a byte, takes no place, is counted and logged."""
    process = await start_coordinator(**STANDING)
    at = await address_of(process)
    asking = [await Asking.ask(at, target) for targets in REFUSED.values() for target in targets]
    asking += [await Asking.send(at, request) for request in UNREADABLE]
    assert [await one.ended() for one in asking] == [b""] * len(asking)
    assert await waiting(client) == []
    for outcome, targets in REFUSED.items():
        await process.until_metric(f'identify_http_queue_total{{outcome="{outcome}"}}', len(targets))
    await process.until_metric('identify_http_queue_total{outcome="unreadable"}', len(UNREADABLE))


async def test_a_wrong_token_has_no_response(start_coordinator, client, tmp_path):
    (tmp_path / "token").write_text(f"{SECRET}\n")
    process = await start_coordinator(**STANDING, IDENTIFY_QUEUE_HTTP_TOKEN_FILE=str(tmp_path / "token"))
    at = await address_of(process)
    wrong = [
        await Asking.ask(at, "/"),
        *[await Asking.ask(at, "/", Authorization=f"Bearer {bad}") for bad in ("x", "ü")],
    ]
    assert [await one.ended() for one in wrong] == [b""] * 3
    await process.until_metric('identify_http_queue_total{outcome="token"}', 3)
    assert (await (await Asking.ask(at, "/", Authorization=f"Bearer {SECRET}")).status())[0] == 200
    status, headers, _ = await (await Asking.ask(at, "/identify/1", "POST")).status()
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert SECRET not in process.log


async def test_sandwich_daemon_is_served_and_told_when_to_come_back(start_coordinator, client):
    """Full is a 503 with X-Retry-After-Ms; the bot's token, which it sends, is in no log."""
    process, at, line = await standing_line(start_coordinator, client, (1,), IDENTIFY_QUEUE_HTTP_MAX_WAITING="1")
    slept = []

    async def wait(seconds):
        slept.append(seconds)
        line[0].leave()
        await until_waiting(client)

    asking = asyncio.create_task(sandwich(at, 1_000_000, wait))
    await until_waiting(client, 1_000_000)
    assert slept == [5.0]
    asking.cancel()
    assert "the.bots.token" not in process.log


async def test_the_checked_way_says_what_is_wrong(start_coordinator):
    process = await start_coordinator(**HTTP)
    at = await address_of(process)

    async def unneeded(seconds):
        raise AssertionError(seconds)

    assert await sandwich(at, 3, unneeded) == [200]
    assert (await (await Asking.ask(at, "/identify/4", "POST")).status())[0] == 200
    assert (await (await Asking.ask(at, "/identify?shard=5", "POST")).status())[0] == 200
    for body in (
        b"",
        b"{",
        b"[]",
        b'{"shard_id": -1}',
        b'{"shard_id": "x"}',
        b'{"shard_id": true}',
        b"\xff",
        b"[" * 9000,
    ):
        assert (await (await Asking.ask(at, "/identify", "POST", body)).status())[0] == 400
    assert (await (await Asking.ask(at, "/identify/x", "POST")).status())[0] == 400
    assert (await (await Asking.ask(at, "/identify/3/4", "POST")).status())[0] == 400
