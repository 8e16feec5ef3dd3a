"""GET /gateway/bot, against a real HTTP server that answers as Discord does, and as it should not."""

import aiohttp
import pytest
from aiohttp import web

from nats_identify.discord.session_limit import (
    DiscordUnavailableError,
    RateLimitedError,
    SessionLimit,
    TokenRefusedError,
    fetch_session_limit,
)

GOOD = {
    "url": "wss://gateway.example",
    "shards": 64,
    "session_start_limit": {"total": 1000, "remaining": 990, "reset_after": 14_400_000, "max_concurrency": 16},
    "new_field": True,
}


class Discord:
    """Answers every request with what it was told last, and keeps the requests' headers."""

    def __init__(self):
        self.answer = web.json_response(GOOD)
        self.asked = []
        self.url = ""

    async def handle(self, request):
        self.asked.append((request.path, dict(request.headers)))
        return self.answer


@pytest.fixture
async def discord():
    server = Discord()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v10"
    yield server
    await runner.cleanup()


@pytest.fixture
async def fetch(discord):
    async with aiohttp.ClientSession() as session:
        yield lambda: fetch_session_limit(session, "hunter2", api_url=discord.url)


async def test_the_limits_are_read(discord, fetch):
    assert await fetch() == SessionLimit(64, 16, 1000, 990, 14_400_000)
    ((path, headers),) = discord.asked
    assert path == "/api/v10/gateway/bot"
    assert headers["Authorization"] == "Bot hunter2"
    assert headers["User-Agent"].startswith("DiscordBot (")


@pytest.mark.parametrize(
    ("header", "body", "waits_s"),
    [
        ({"Retry-After": "3"}, '{"retry_after": 1.5}', 3),
        ({"Retry-After": "1"}, '{"retry_after": 1.5, "global": false}', 1.5),
        ({"Retry-After": "2"}, "not json", 2),
        ({}, '{"retry_after": 0.25}', 0.25),
        ({}, "", 5),
        ({"Retry-After": "soon"}, '{"retry_after": -1}', 5),
        ({"Retry-After": "1e99"}, '{"retry_after": "nan"}', 86_400),
        ({"Retry-After": "nan"}, '{"retry_after": 90000}', 86_400),
    ],
)
async def test_too_many_requests_says_how_long_to_wait(discord, fetch, header, body, waits_s):
    discord.answer = web.Response(status=429, text=body, headers=header)
    with pytest.raises(RateLimitedError) as caught:
        await fetch()
    assert caught.value.retry_after_s == waits_s


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_token_is_its_owner_s_business(discord, fetch, status):
    discord.answer = web.Response(status=status)
    with pytest.raises(TokenRefusedError) as caught:
        await fetch()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        "[]",
        '{"shards": 1}',
        '{"shards": 1, "session_start_limit": {"total": 1, "remaining": -1, "reset_after": 0, "max_concurrency": 1}}',
        '{"shards": 1, "session_start_limit": {"total": 1, "remaining": 1, "reset_after": null, "max_concurrency": 1}}',
        '{"shards": 1, "session_start_limit": {"total": 1, "remaining": 1, "reset_after": 1}}',
        '{"shards": 1, "session_start_limit": {"total": 1, "remaining": 1, "reset_after": 1, "max_concurrency": 0}}',
        '{"shards": 1, "session_start_limit": {"total": 1, "remaining": 1, "reset_after": 1, "max_concurrency": 9999}}',
        "{" * 100_000,
    ],
)
async def test_an_answer_that_makes_no_sense_is_none(discord, fetch, body):
    discord.answer = web.Response(text=body)
    with pytest.raises(DiscordUnavailableError):
        await fetch()


@pytest.mark.parametrize("status", [500, 502, 503, 404])
async def test_trouble_at_discord_is_said(discord, fetch, status):
    discord.answer = web.Response(status=status)
    with pytest.raises(DiscordUnavailableError, match=str(status)):
        await fetch()


async def test_a_redirect_never_takes_the_token_elsewhere(discord, fetch):
    discord.answer = web.Response(status=302, headers={"Location": f"{discord.url}/elsewhere"})
    with pytest.raises(DiscordUnavailableError):
        await fetch()
    assert len(discord.asked) == 1


async def test_nobody_there_is_said_without_the_token():
    async with aiohttp.ClientSession() as session:
        with pytest.raises(DiscordUnavailableError) as caught:
            await fetch_session_limit(session, "hunter2", api_url="http://127.0.0.1:1")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
