"""The one who asks Discord, without NATS: what is known of a refused token, and that it is asked again."""

import asyncio
from typing import Any, cast

import pytest

from coordinator import settings
from coordinator.edge import limits
from coordinator.edge.limits import DiscordLimits
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from nats_identify.discord import backoff
from nats_identify.discord.session_limit import DiscordUnavailableError, SessionLimit, TokenRefusedError
from nats_identify.schedule.model import LimitsFetched

GOOD = SessionLimit(shards=4, max_concurrency=2, total=1000, remaining=900, reset_after_ms=0)


class EventQueue:
    """Takes everything in at once, and keeps it."""

    def __init__(self):
        self.events = []

    async def put_and_wait(self, event):
        self.events.append(event)


@pytest.fixture
def ask(monkeypatch):
    """Ask with these answers, one each, as a standby; return the one who asks, right before each question."""

    async def asking(*answers):
        script, seen, done = list(answers), [], asyncio.Event()
        made = DiscordLimits(
            settings.Settings(),
            "token",
            cast("Any", EventQueue()),
            is_leading=lambda: False,
            metrics=Metrics(),
            log=log,
        )

        async def fetch(*_arguments, **_options):
            seen.append((made.refusal, made.trouble))
            answer = script.pop(0)
            if not script:
                done.set()
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(limits, "fetch_session_limit", fetch)
        running = asyncio.create_task(made.run())
        await asyncio.wait_for(done.wait(), 60)
        await asyncio.sleep(0)  # the last answer is taken in
        running.cancel()
        return made, seen

    log = make_log("error", "text")
    monkeypatch.setattr(limits, "STANDBY_ASKS_AFTER_S", 0)
    monkeypatch.setattr(backoff, "TOKEN_REFUSED_NS", 1)
    return asking


async def test_a_standby_that_was_refused_asks_until_discord_takes_its_token(ask):
    made, seen = await ask(TokenRefusedError("refused"), TokenRefusedError("refused"), GOOD)
    assert seen == [(None, None), ("refused", "refused"), ("refused", "refused")]
    assert (made.refusal, made.shards) == (None, 4)
    assert [event for event in made._event_queue.events if isinstance(event, LimitsFetched)]


async def test_discord_being_away_is_no_refusal(ask):
    made, _ = await ask(DiscordUnavailableError("away"))
    assert (made.refusal, made.shards) == (None, None)
