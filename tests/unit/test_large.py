"""LargeBotQueue with Discord's API away, and with a shard in a loop: what it asks, says and grants."""

import asyncio
from typing import Any

import pytest

from nats_identify import LargeBotQueue, LocalQueue
from nats_identify.discord import session_limit
from nats_identify.discord.backoff import Backoff
from nats_identify.schedule.model import SECOND
from nats_identify.testing import SimulatedGateway

# --- Discord's API away


class Api:
    """GET /gateway/bot: it fails as ordered, and each question takes ten seconds of the clock in hand."""

    def __init__(self, monkeypatch, *failures: Exception) -> None:
        self.now_ns = 1_000 * SECOND
        self.failures = list(failures)
        self.asked = 0
        monkeypatch.setattr(session_limit, "fetch_session_limit", self.fetch)

    async def fetch(self, *_, **__) -> session_limit.SessionLimit:
        await asyncio.sleep(0)
        self.asked += 1
        self.now_ns += 10 * SECOND
        if self.failures:
            raise self.failures.pop(0)
        return session_limit.SessionLimit(1, 1, 1000, 1000, 0)

    def queue(self) -> LargeBotQueue:
        return LargeBotQueue("token", clock=lambda: self.now_ns)


async def test_an_api_that_is_away_is_said_once_then_each_half_minute_and_when_it_is_back(monkeypatch, caplog):
    monkeypatch.setattr(Backoff, "answered", lambda *_, **__: 0)
    why = "no answer from Discord"
    api = Api(monkeypatch, *[session_limit.DiscordUnavailableError(why)] * 13)
    async with api.queue() as queue, asyncio.timeout(10):
        await queue.acquire(0)
    said = [record.getMessage() for record in caplog.records if record.name == "nats_identify"]  # asyncio logs, too
    assert len([message for message in said if why in message]) == 5  # in 120 seconds
    assert said[-1] == "Discord's API answers again, after 130 s"
    assert len(said) == 6


@pytest.mark.parametrize("address", ["discord.com/api", "ftp://discord.com", "https://a:secret@discord.com:99999/", ""])
def test_an_address_that_can_never_work_is_refused_at_once(address):
    with pytest.raises(ValueError, match=r"give one as in https://discord\.com/api/v10") as refused:
        LargeBotQueue("token", api_url=address)
    assert "secret" not in str(refused.value)


def test_another_event_loop_does_not_ask_before_discord_allows(monkeypatch):
    api = Api(monkeypatch, session_limit.RateLimitedError(3_600))
    queue = api.queue()

    async def wait() -> None:
        waiting = asyncio.create_task(queue.acquire(0))
        for _ in range(50):
            await asyncio.sleep(0)
        waiting.cancel()

    for _ in range(2):
        asyncio.run(wait())
        assert api.asked == 1


# --- a shard in a loop


@pytest.mark.parametrize(("is_large", "reason"), [(True, "crash_loop"), (False, "window")])
async def test_a_large_bot_s_looping_shard_waits_and_a_small_one_s_does_not(is_large, reason):
    async with SimulatedGateway() as gateway:
        options: dict[str, Any] = {"window_s": 0.02, "margin_s": 0}
        queue = LargeBotQueue("token", api_url=gateway.rest_url, **options) if is_large else LocalQueue(**options)
        for _ in range(10):
            async with queue.turn(0):
                pass
        told = []
        waiting = asyncio.create_task(queue.acquire(0, on_progress=lambda progress: told.append(progress.reason)))
        others = [asyncio.create_task(queue.acquire(shard_id)) for shard_id in (1, 2)]
        async with asyncio.timeout(60):
            for other in others:
                queue.identified(await other)
            while not told:  # noqa: ASYNC110  # the queue tells in a turn of its own
                await asyncio.sleep(0.001)  # between two looks
        assert told[0] == reason
        assert waiting.done() is not is_large
        waiting.cancel()
        await queue.close()
