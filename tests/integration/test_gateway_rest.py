"""What the simulated gateway answers over REST: the figures in force, logins, and misbehaviour to order."""

import asyncio

import pytest

from nats_identify.testing import ErrorResponse, SimulatedGateway
from tests.integration.gateway_client import DEADLINE_S, TOKEN, get


async def test_gateway_bot_tells_the_figures_in_force() -> None:
    async with SimulatedGateway(16, total=2000, shards=32, token=TOKEN) as gateway:
        url = f"{gateway.rest_url}/gateway/bot"
        status, headers, body = await get(url, TOKEN)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert body == {
            "url": gateway.ws_url,
            "shards": 32,
            "session_start_limit": {
                "total": 2000,
                "remaining": 2000,
                "reset_after": 0,
                "max_concurrency": 16,
            },
        }
        gateway.set_limits(max_concurrency=1, remaining=7, reset_after_s=60)
        limit = (await get(url, TOKEN))[2]["session_start_limit"]
        assert (limit["max_concurrency"], limit["total"], limit["remaining"]) == (1, 2000, 7)
        assert 0 < limit["reset_after"] <= 60_000
        assert (await get(url, "other"))[0] == 401
        assert (await get(url))[0] == 401
        assert (await get(f"{gateway.rest_url}/gateway"))[2] == {"url": gateway.ws_url}


@pytest.mark.parametrize("path", ["users/@me", "oauth2/applications/@me"])
async def test_what_libraries_ask_at_login_is_answered(path: str) -> None:
    async with SimulatedGateway(token=TOKEN) as gateway:
        status, _, body = await get(f"{gateway.rest_url}/{path}", TOKEN)
        assert status == 200
        assert int(body["id"])
        assert (await get(f"{gateway.rest_url}/{path}", "other"))[0] == 401


async def test_rest_misbehaves_to_order_and_then_no_more() -> None:
    async with SimulatedGateway() as gateway:
        url = f"{gateway.rest_url}/gateway/bot"
        gateway.misbehave(
            ErrorResponse.too_many_requests(1.5),
            ErrorResponse.server_error(502),
            ErrorResponse.unauthorized(),
            ErrorResponse.nonsense(),
            ErrorResponse.figures(max_concurrency=0),
        )
        status, headers, body = await get(url)
        assert (status, headers["Retry-After"], body["retry_after"]) == (429, "2", 1.5)
        assert (await get(url))[0] == 502
        assert (await get(url))[0] == 401
        assert (await get(url))[::2] == (200, "<html>")
        assert (await get(url))[2]["session_start_limit"]["max_concurrency"] == 0
        assert (await get(url))[2]["session_start_limit"]["max_concurrency"] == 1


async def test_the_lookup_of_the_gateway_fails_to_order() -> None:
    async with SimulatedGateway() as gateway:
        gateway.misbehave(ErrorResponse.server_error(502), lookup=True)
        assert (await get(f"{gateway.rest_url}/gateway/bot"))[0] == 200
        assert (await get(f"{gateway.rest_url}/gateway"))[0] == 502
        assert (await get(f"{gateway.rest_url}/gateway"))[0] == 200


async def test_a_hanging_answer_does_not_keep_the_gateway_from_stopping() -> None:
    async with SimulatedGateway() as gateway:
        gateway.misbehave(ErrorResponse.hang())
        asked = asyncio.Event()
        gateway.record.listen(lambda _event: asked.set())
        asking = asyncio.ensure_future(get(f"{gateway.rest_url}/gateway/bot"))
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
        assert not asking.done()
    await asyncio.wait({asking}, timeout=DEADLINE_S)
    assert asking.done()
    assert asking.exception() is not None or asking.result()[0] == 503
