"""Discord's API failing in every way: a real coordinator against a real server for seconds, and how often it asked."""

import asyncio
import json
import time

import pytest
from aiohttp import web

from coordinator.edge.limits import RESERVE_IS_ALL
from tests.processes import WITHIN_S, until

SECRET = "hunter2"  # noqa: S105  # what must never be shown
GOOD = {"total": 1000, "remaining": 900, "reset_after": 3_600_000, "max_concurrency": 2}


def body_of(**figures):
    return json.dumps({"url": "wss://gateway.example", "shards": 4, "session_start_limit": {**GOOD, **figures}})


WITHOUT = json.dumps({"shards": 4, "session_start_limit": {k: v for k, v in GOOD.items() if k != "max_concurrency"}})

# status, headers, body, how far apart two questions must be at least while it lasts, what its metric is called
TROUBLES = {
    "429 with Retry-After": (429, {"Retry-After": "2"}, "", 2.0, "rate_limited"),
    "429 that says more in its body": (429, {"Retry-After": "1"}, '{"retry_after": 2.5}', 2.5, "rate_limited"),
    "429 that says nothing": (429, {}, "", 5.0, "rate_limited"),
    "500": (500, {}, "oops", 1.0, "unavailable"),
    "503": (503, {"Content-Type": "text/plain"}, "upstream connect error", 1.0, "unavailable"),
    "a redirect": (302, {"Location": "http://127.0.0.1:1/"}, "", 1.0, "unavailable"),
    "no JSON": (200, {}, "<html>", 1.0, "unavailable"),
    "max_concurrency 0": (200, {}, body_of(max_concurrency=0), 1.0, "unavailable"),
    "max_concurrency out of all reason": (200, {}, body_of(max_concurrency=10**6), 1.0, "unavailable"),
    "max_concurrency missing": (200, {}, WITHOUT, 1.0, "unavailable"),
    "a negative rest": (200, {}, body_of(remaining=-1), 1.0, "unavailable"),
    "a wrong token": (401, {}, '{"message": "401: Unauthorized"}', None, "token_refused"),
    "a connection that is cut": (0, {}, "", 1.0, "unavailable"),
    "a hang": (None, {}, "", 10.0, "unavailable"),
}


class Discord:
    """Answers as it is told, and keeps when it was asked."""

    def __init__(self):
        self.trouble = None
        self.asked_at = []
        self.closing = asyncio.Event()
        self.url = ""

    async def handle(self, request):
        self.asked_at.append(time.monotonic())
        if self.trouble is None:
            return web.Response(text=body_of())
        status, headers, body, *_ = self.trouble
        if status is None:
            await self.closing.wait()
        if not status:
            request.transport.abort()
            raise web.HTTPServiceUnavailable
        return web.Response(status=status, headers=headers, text=body)


@pytest.fixture
async def discord():
    server = Discord()
    app = web.Application()
    app.router.add_get("/api/v10/gateway/bot", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v10"
    yield server
    server.closing.set()
    await runner.cleanup()


# A question that hangs is given up after ten seconds. The others are read as "500" and "max_concurrency 0" are, by what
# tests/unit/test_session_limit.py tries with each of them: `make limits` tries them with a coordinator, too.
SLOW = {"a hang", "503", "max_concurrency out of all reason", "max_concurrency missing", "a negative rest"}
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in TROUBLES]


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_is_granted_on_a_guess_and_one_retry_mends_it(name, start_coordinator, client, discord, mailbox):
    discord.trouble = TROUBLES[name]
    *_, least_s, metric = TROUBLES[name]
    process = await start_coordinator(DISCORD_TOKEN=SECRET, DISCORD_API_URL=discord.url)
    await mailbox.ask(0, managed=True, request_id="patient")
    queued, _ = await mailbox.next("queued")
    assert (queued["reason"], queued["eta_ms"]) == ("limits_unknown", None)
    asks = 1 if least_s is None else 2  # a wrong token is asked with once a minute

    async def has_asked():
        return len(discord.asked_at) >= asks

    await until(has_asked, "it asks again")
    answer = await client.request("identify.refresh", b"", timeout=WITHIN_S)
    assert "Nats-Service-Error" in answer.headers  # why there is nothing new; and Discord was not asked for it
    assert len(discord.asked_at) <= asks + 1
    gaps = [later - earlier for earlier, later in zip(discord.asked_at, discord.asked_at[1:], strict=False)]
    assert least_s is None or all(gap >= least_s - 0.05 for gap in gaps)  # by two clocks
    assert await process.metric(f'identify_discord_fetches_total{{result="{metric}"}}') >= 1
    complaints = process.logged("no figures from Discord")
    assert complaints
    assert SECRET not in process.log
    assert (await client.request("identify.info", b"", timeout=WITHIN_S)).data.count(b'"remaining":null') == 1
    if least_s is None:
        assert "set the right one" in complaints[0]["error"]
        assert complaints[0]["level"] == "error"
        assert complaints[0]["again_in_s"] == 60
        return
    discord.trouble = None
    count = len(discord.asked_at)
    granted, _ = await mailbox.until_granted("patient", renewal=1)
    assert granted["remaining"] == 899
    assert len(discord.asked_at) == count + 1  # within one retry
    print(f"\n{name}: asked {count} times, at least {min(gaps):.2f} s apart; mended by the next")


@pytest.mark.parametrize("name", ["500", "429 with Retry-After", "max_concurrency 0", "no JSON"])
async def test_what_was_known_stays_in_force_while_discord_is_away(name, start_coordinator, client, discord):
    await start_coordinator(DISCORD_TOKEN=SECRET, DISCORD_API_URL=discord.url)
    first = json.loads((await client.request("identify.request.0", b"", timeout=WITHIN_S)).data)
    discord.trouble = TROUBLES[name]
    await client.request("identify.refresh", b"", timeout=WITHIN_S)
    second = json.loads((await client.request("identify.request.1", b"", timeout=WITHIN_S)).data)
    assert (first["remaining"], second["remaining"], second["max_concurrency"]) == (899, 898, 2)


async def test_a_reserve_that_keeps_the_whole_day_is_warned_of(start_coordinator, client, discord):
    process = await start_coordinator(
        DISCORD_TOKEN=SECRET, DISCORD_API_URL=discord.url, IDENTIFY_SESSION_RESERVE="1000"
    )
    refused = json.loads((await client.request("identify.request.0", b"", timeout=WITHIN_S)).data)
    assert refused["code"] == "session_limit"
    (warning,) = process.logged(
        "IDENTIFY_SESSION_RESERVE keeps the whole day for priority 1: no other request is ever granted"
    )
    assert (warning["reserve"], warning["total"]) == (1000, 1000)


async def test_without_a_token_too(start_coordinator):
    process = await start_coordinator(IDENTIFY_SESSION_RESERVE="50", IDENTIFY_SESSION_TOTAL="50")
    assert process.logged(RESERVE_IS_ALL)
