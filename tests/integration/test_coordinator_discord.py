"""A coordinator with a token, against a server that answers GET /gateway/bot as Discord does."""

import json
import time

import pytest
from aiohttp import web

from tests.processes import WITHIN_S, Mailbox, until

SECRET = "hunter2"  # noqa: S105  # what must never be shown


class Discord:
    """Answers with these figures, or with this status; keeps when it was asked."""

    def __init__(self):
        self.figures = {"total": 1000, "remaining": 900, "reset_after": 3_600_000, "max_concurrency": 2}
        self.status = 200
        self.headers = {}
        self.asked_at = []
        self.url = ""

    async def handle(self, request):
        self.asked_at.append(time.monotonic())
        assert request.headers["Authorization"] == f"Bot {SECRET}"
        body = {"url": "wss://gateway.example", "shards": 4, "session_start_limit": self.figures}
        return web.json_response(body, status=self.status, headers=self.headers)


@pytest.fixture
async def discord():
    server = Discord()
    app = web.Application()
    app.router.add_get("/api/v10/gateway/bot", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v10"
    yield server
    await runner.cleanup()


@pytest.fixture
def start(start_coordinator, discord):
    async def start_with_token(**environment):
        return await start_coordinator(DISCORD_TOKEN=SECRET, DISCORD_API_URL=discord.url, **environment)

    return start_with_token


async def asked(client, subject, payload=b""):
    return json.loads((await client.request(subject, payload, timeout=WITHIN_S)).data)


async def test_discord_s_figures_are_the_limits(start, client):
    process = await start()
    grant = await asked(client, "identify.request.1", b'{"shard_id": 3}')
    assert (grant["bucket"], grant["max_concurrency"], grant["remaining"]) == (1, 2, 899)
    info = await asked(client, "identify.info")
    assert info["shards"] == 4
    assert info["session_start_limit"]["total"] == 1000
    assert 0 < info["session_start_limit"]["reset_after_ms"] <= 3_600_000
    assert SECRET not in process.log


async def test_nothing_is_granted_before_discord_has_answered(start, client, discord, mailbox):
    discord.status = 500
    process = await start()
    await mailbox.ask(0, managed=True, request_id="patient")
    queued, _ = await mailbox.next("queued")
    assert queued["reason"] == "limits_unknown"
    assert (await asked(client, "identify.info"))["max_concurrency"] is None
    await process.until_logged("no figures from Discord")
    discord.status = 200
    granted, _ = await mailbox.until_granted("patient", renewal=1)
    assert granted["remaining"] == 899


async def test_a_refresh_brings_new_figures(start, client, discord):
    await start(IDENTIFY_WINDOW="80000")
    await asked(client, "identify.request.0")
    discord.figures = {"total": 1000, "remaining": 500, "reset_after": 3_600_000, "max_concurrency": 16}
    info = await asked(client, "identify.refresh")
    assert info["max_concurrency"] == 16
    assert info["session_start_limit"]["remaining"] == 499  # one is in the air
    assert (await asked(client, "identify.request.9", b'{"shard_id": 9}'))["bucket"] == 9


async def test_sighup_does_what_a_refresh_does(start, client, discord):
    process = await start()
    await asked(client, "identify.request.0")
    discord.figures = {**discord.figures, "max_concurrency": 8}
    process.process.send_signal(1)

    async def is_known():
        return (await asked(client, "identify.info"))["max_concurrency"] == 8

    await until(is_known, "the new figure is known")


async def test_discord_is_asked_once_a_second_at_most_and_not_before_it_wants(start, client, discord):
    await start()
    await asked(client, "identify.request.0")
    box = Mailbox(client)
    await box.open()
    for shard_id in range(50):  # each claims what only Discord can know
        await box.ask(shard_id % 7, managed=True, shard_id=shard_id, max_concurrency=7)
    discord.status, discord.headers = 429, {"Retry-After": "2"}
    trouble = await client.request("identify.refresh", b"", timeout=WITHIN_S)
    assert "wait 2.0 s" in trouble.headers["Nats-Service-Error"]
    assert json.loads(trouble.data)["max_concurrency"] == 2
    again = await client.request("identify.refresh", b"", timeout=WITHIN_S)
    assert "is asked again in" in again.headers["Nats-Service-Error"]
    discord.status, discord.headers = 200, {}

    async def is_refreshed():
        return not (await client.request("identify.refresh", b"", timeout=WITHIN_S)).headers

    await until(is_refreshed, "Discord is asked again")
    gaps = [later - earlier for earlier, later in zip(discord.asked_at, discord.asked_at[1:], strict=False)]
    assert min(gaps) >= 0.99  # by two clocks
    assert max(gaps) >= 1.99


async def test_a_wrong_token_is_said_and_nothing_is_granted(start, client, discord, mailbox):
    discord.status = 401
    process = await start()
    complaint = await process.until_logged("no figures from Discord")
    assert "set the right one" in complaint["error"]
    assert complaint["level"] == "error"
    assert "set DISCORD_TOKEN or DISCORD_TOKEN_FILE" in complaint["do"]

    async def is_unready_for_it():
        return await process.page("/readyz") == (503, f"{complaint['error']}\n")

    await until(is_unready_for_it, "/readyz says so")
    for subject in ("identify.info", "identify.status"):
        assert (await asked(client, subject))["trouble"] == complaint["error"]
    await mailbox.ask(0, managed=True, request_id="patient")
    assert (await mailbox.next("queued"))[0]["reason"] == "limits_unknown"
    assert await process.end() == 0
    assert SECRET not in process.log


async def test_settings_override_discord_and_never_raise_its_day(start, client, discord):
    await start(IDENTIFY_MAX_CONCURRENCY="1", IDENTIFY_SESSION_TOTAL="150", IDENTIFY_WINDOW="80000")
    grant = await asked(client, "identify.request.0")
    assert (grant["max_concurrency"], grant["remaining"]) == (1, 49)  # 100 of 1000 are used already
    discord.figures = {**discord.figures, "remaining": 20, "total": 100}
    info = await asked(client, "identify.refresh")
    assert info["session_start_limit"]["remaining"] == 19
