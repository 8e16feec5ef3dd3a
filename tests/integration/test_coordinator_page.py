"""The page of a real coordinator over HTTP: its live part lasts, is bounded, and shows no secret."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from coordinator.edge.watchers import WATCHERS_MAX
from tests.integration.test_coordinator_http import KEPT_MAX, asked, half_requests
from tests.processes import WITHIN_S, fetch_page, until

LONGER_THAN_A_REQUEST = 8
"""Pictures, one a second: a connection that does not watch is closed after 5 s."""


def url_of(process):
    return f"http://{process.logged('HTTP is served')[-1]['addresses'][0]}"


class Watcher:
    """One that watches: `pictures` and `events` grow as they come."""

    def __init__(self, answer):
        self.answer = answer
        self.pictures = []
        self.events = []
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        kind = ""
        async for line in self.answer.content:
            text = line.decode().strip()
            if text.startswith("event: "):
                kind = text.removeprefix("event: ")
            elif text.startswith("data: "):
                body = json.loads(text.removeprefix("data: "))
                if kind == "picture":
                    self.pictures.append(body)
                else:
                    self.events += body["list"]

    async def until(self, condition, what):
        async def look():
            return self.pictures and condition(self)

        await until(look, what)


@asynccontextmanager
async def watch(url):
    """Watch the page during the block."""
    limit = 2**22  # a line is a picture
    no_limit = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(read_bufsize=limit, timeout=no_limit) as session,
        session.get(f"{url}/page/stream") as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        watcher = Watcher(answer)
        try:
            yield watcher
        finally:
            watcher.task.cancel()


async def has_room(url):
    async with aiohttp.ClientSession() as session, session.get(f"{url}/page/stream") as answer:
        return answer.status == 200


@pytest.fixture
async def page(start_coordinator):
    process = await start_coordinator(IDENTIFY_MAX_CONCURRENCY="2")
    return process, url_of(process)


async def test_a_watcher_sees_a_grant_and_outlives_a_requests_time(page, mailbox):
    _, url = page
    async with watch(url) as watcher:
        await watcher.until(lambda seen: seen.pictures[-1]["is_leading"], "it leads")
        grant, _ = await mailbox.until_granted("r", shard_id=0, client="pod-7")
        await watcher.until(lambda seen: any(event["name"] == "granted" for event in seen.events), "the grant")
        (event,) = [event for event in watcher.events if event["name"] == "granted"]
        assert event["fields"]["client"] == "pod-7"
        assert grant["grant_id"] not in json.dumps([watcher.events, watcher.pictures])
        await watcher.until(lambda seen: len(seen.pictures) > LONGER_THAN_A_REQUEST, "it goes on")
        numbers = [event["number"] for event in watcher.events]
        assert numbers == sorted(set(numbers))


async def test_probes_are_answered_while_pages_and_half_requests_are_open(page):
    """Neither takes the room of the other: half requests close no page, and pages keep no probe waiting."""
    process, url = page
    host, _, port = url.removeprefix("http://").rpartition(":")
    async with AsyncExitStack() as stack:
        watching = [await stack.enter_async_context(watch(url)) for _ in range(WATCHERS_MAX)]
        held = await stack.enter_async_context(half_requests(host, int(port), 2 * KEPT_MAX))
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await process.page(path))[0] == 200

        async def is_bounded():
            return sum(not half.closed.done() for half in held) <= KEPT_MAX

        await until(is_bounded, "the oldest half requests are closed")
        seen = [len(watcher.pictures) for watcher in watching]
        for watcher, before in zip(watching, seen, strict=True):
            await watcher.until(lambda one, before=before: len(one.pictures) > before, "the page goes on")


async def test_one_page_too_many_is_told_so_and_room_comes_back(page):
    _, url = page
    async with AsyncExitStack() as stack:
        for _ in range(WATCHERS_MAX):
            await stack.enter_async_context(watch(url))
        status, text = await asyncio.to_thread(fetch_page, f"{url}/page/stream")
        assert (status, text) == (503, f"{WATCHERS_MAX} pages are open already; close one\n")
        assert (await asyncio.to_thread(fetch_page, url))[0] == 200
    await until(lambda: has_room(url), "there is room again")


async def test_a_page_that_does_not_read_is_dropped(start_coordinator, mailbox):
    """It is not buffered for: where nothing more can be written to it, its place is free."""
    url = url_of(await start_coordinator(IDENTIFY_MAX_CONCURRENCY="16", IDENTIFY_WINDOW="600"))
    host, _, port = url.removeprefix("http://").rpartition(":")
    for number in range(300):  # a picture of 60 kB
        client = "\U0001f600" * 32  # the longest
        await mailbox.ask(number % 16, shard_id=number, request_id=f"r{number}", timeout_ms=600_000, client=client)
    async with AsyncExitStack() as stack:
        for _ in range(WATCHERS_MAX):
            held = stack.enter_context(socket.socket())
            held.settimeout(WITHIN_S)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(held.connect, (host, int(port)))
            held.sendall(b"GET /page/stream HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await asyncio.to_thread(held.recv, 12) == b"HTTP/1.1 200"  # it has a place, and reads no more
        await until(lambda: has_room(url), "those that do not read are dropped")


@pytest.mark.parametrize("line", [b"HEAD /", b"HEAD /page/stream", b"GET /"])
async def test_the_page_is_answered_and_its_connection_closed(page, line):
    _, url = page
    host, _, port = url.removeprefix("http://").rpartition(":")
    answer = await asked(host, int(port), line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.split()[1] == b"200"
    assert (b"<!doctype html>" in answer) == (line == b"GET /")


async def test_a_name_of_the_internet_is_refused(page):
    _, url = page
    host, _, port = url.removeprefix("http://").rpartition(":")
    answer = await asked(host, int(port), b"GET /page/stream HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert answer.split()[1] == b"421"
    probe = await asked(host, int(port), b"GET /livez HTTP/1.1\r\nHost: coordinator.nats-identify.svc\r\n\r\n")
    assert probe.split()[1] == b"200"


async def test_a_standby_has_the_queue_and_names_the_leader(page, start_coordinator, mailbox):
    process, _ = page
    standby = await start_coordinator(until_leader=False, IDENTIFY_MAX_CONCURRENCY="2")
    await until(standby.is_ready, "it is ready")
    await mailbox.until_granted("first", shard_id=0)
    await mailbox.ask(0, managed=True, request_id="r", shard_id=4, client="pod-7")
    async with watch(url_of(standby)) as watcher:
        await watcher.until(lambda one: waits_for(one.pictures[-1], 0) == [(4, "pod-7")], "it has the queue")
        seen = watcher.pictures[-1]
        assert (seen["name"], seen["role"], seen["leader"], seen["is_leading"]) == ("pod-1", "standby", "pod-0", False)
        await process.end()
        await watcher.until(lambda one: one.pictures[-1]["is_leading"], "it leads")
        await watcher.until(lambda one: one.pictures[-1]["leaders"][-1]["leader"] == "pod-1", "it is the last leader")


def waits_for(picture, bucket):
    """Those that wait in a bucket; on a standby one that is granted waits until the ledger shows the grant."""
    return [(request["shard_id"], request["client"]) for request in picture["buckets"][bucket]["first"]]


async def test_the_page_is_there_before_nats_is(start_coordinator):
    process = await start_coordinator(until_leader=False, NATS_URL="nats://127.0.0.1:1")
    await process.until_logged("HTTP is served")
    async with watch(url_of(process)) as watcher:
        await watcher.until(lambda seen: seen.pictures[-1]["not_ready"], "it says so")
        assert watcher.pictures[-1]["not_ready"] == "NATS has not been reached yet"
        assert watcher.pictures[-1]["leader"] is None
        await asyncio.wait_for(process.end(), WITHIN_S)  # an open page does not keep it


async def test_no_secret_is_shown(start_coordinator, nats_server, mailbox):
    """None of what logs in, or of the bot's token, is on the page, in its live part or in an error."""
    secret = "c2VjcmV0LXRva2Vu"  # noqa: S105  # of this test alone
    process = await start_coordinator(
        until_leader=False,
        DISCORD_TOKEN=f"{secret}.token.of.discord",
        DISCORD_API_URL="http://127.0.0.1:1",
        NATS_URL=nats_server.url.replace("nats://", f"nats://{secret}-user:{secret}-password@"),
        IDENTIFY_QUEUE_HTTP_PORT="0",
        IDENTIFY_QUEUE_HTTP_TOKEN=f"{secret}-http",
    )
    await until(process.is_leader, "it leads")
    await mailbox.ask(0, managed=True, request_id="r", shard_id=0)
    url = url_of(process)
    async with watch(url) as watcher:
        await watcher.until(lambda seen: seen.pictures[-1]["trouble"] and seen.events, "Discord is away")
        shown = json.dumps([watcher.pictures, watcher.events])
    for path in ("/", "/page/page.js", "/page/find?shard_id=0", "/page/find?client=x", "/page/find", "/x"):
        shown += (await asyncio.to_thread(fetch_page, url + path))[1]
    assert '"trouble": "' in shown
    assert secret not in shown
