"""Fetches Discord's limits when the replica requests it, no faster than the backoff. It judges no figure."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import aiohttp

from coordinator.edge.event_queue import EventQueue
from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.settings import Settings
from nats_identify.clock import NS_PER_S
from nats_identify.discord.backoff import Backoff, FetchResult
from nats_identify.discord.session_limit import (
    DiscordUnavailableError,
    RateLimitedError,
    SessionLimit,
    TokenRefusedError,
    fetch_session_limit,
)
from nats_identify.schedule.model import MS, Limits, LimitsFetched, LimitsFetchStarted

STANDBY_ASKS_AFTER_S: Final = 3.0
"""A standby asks by itself, once: this checks its token, and fetches the recommended number of shards.

Sooner than the manifests' minReadySeconds, 5 s: a rollout with a wrong token stops at its first pod."""

WHAT_TO_DO: Final = "set DISCORD_TOKEN or DISCORD_TOKEN_FILE to the bot's present token, and start this process again"

RESERVE_IS_ALL: Final = "IDENTIFY_SESSION_RESERVE keeps the whole day for priority 1: no other request is ever granted"


class StaticLimits:
    """Without a token there is no request to Discord: the limits are settings."""

    shards: int | None = None
    trouble: str | None = None
    refusal: str | None = None

    def request_refresh(self, why: str) -> None:
        """Do nothing: the limits are settings."""

    async def refresh(self) -> str | None:
        """Return None: the settings are always known."""
        return None

    async def run(self) -> None:
        """Return at once."""


class DiscordLimits:
    """Fetches the limits from Discord.

    Args:
        settings: where Discord is, and what overrides its figures.
        token: the bot's.
        event_queue: gets an event when a fetch begins, and one with its result.
        is_leading: whether this replica leads; a standby's figure would be ignored.
        metrics: counts the fetches.
        log: for failed fetches.

    Attributes:
        shards: how many Discord recommends, once known.
        trouble: why the last fetch failed, or None.
        refusal: Discord's error where it refuses the token, or None.
    """

    def __init__(
        self,
        settings: Settings,
        token: str,
        event_queue: EventQueue,
        *,
        is_leading: Callable[[], bool],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self.shards: int | None = None
        self.trouble: str | None = None
        self.refusal: str | None = None
        self._settings = settings
        self._token = token
        self._event_queue = event_queue
        self._is_leading = is_leading
        self._metrics = metrics
        self._log = log
        self._refresh_requested = asyncio.Event()
        self._next: asyncio.Future[str | None] | None = None
        self._backoff = Backoff()
        self._has_warned = False
        self._has_asked = False
        self._failed_at_s: float | None = None  # by the event loop's clock
        self._ask_at_s = 0.0  # by the event loop's clock: not before this

    def request_refresh(self, why: str) -> None:
        """Fetch the limits as soon as the backoff allows it; requests made meanwhile count as one."""
        self._log.debug("Discord's figures are wanted", why=why)
        self._refresh_requested.set()

    async def refresh(self) -> str | None:
        """Wait for a figure that is asked for from now on; return why there is none, else None."""
        loop = asyncio.get_running_loop()
        wait_s = self._ask_at_s - loop.time()
        if self.trouble is not None and wait_s > 0:
            return f"{self.trouble}; Discord is asked again in {wait_s:.0f} s"
        if self._next is None:
            self._next = loop.create_future()
        waiting = self._next
        self.request_refresh("refresh")
        return await asyncio.shield(waiting)

    async def run(self) -> None:
        """Fetch whenever that is requested, until cancelled."""
        # Minutes lie between two questions: a connection that was kept would be dead by then.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            while True:
                await self._until_refresh_requested()
                self._has_asked = True
                waiting, self._next = self._next, None
                self.trouble, wait_s = await self._fetch(session)
                self._ask_at_s = asyncio.get_running_loop().time() + wait_s
                if waiting is not None and not waiting.done():
                    waiting.set_result(self.trouble)
                await asyncio.sleep(wait_s)
                # A standby asks again only when it leads. With a refused token it is not ready, and asks until it is.
                if self.refusal is not None or (self.trouble is not None and self._is_leading()):
                    self._refresh_requested.set()

    async def _until_refresh_requested(self) -> None:
        """Wait for a request, or, as a standby that has never fetched, at most `STANDBY_ASKS_AFTER_S`."""
        if not self._has_asked:
            with suppress(TimeoutError):
                async with asyncio.timeout(STANDBY_ASKS_AFTER_S):  # `wait_for` may drop a cancellation
                    await self._refresh_requested.wait()
        else:
            await self._refresh_requested.wait()
        self._refresh_requested.clear()

    async def _fetch(self, session: aiohttp.ClientSession) -> tuple[str | None, float]:
        """Fetch once; return the trouble, if any, and how long to wait before the next fetch."""
        await self._event_queue.put_and_wait(LimitsFetchStarted())  # what is granted from now on may not be counted
        try:
            limit = await fetch_session_limit(session, self._token, api_url=self._settings.discord_api_url)
        except RateLimitedError as error:
            return self._failed(FetchResult.RATE_LIMITED, error, round(error.retry_after_s * NS_PER_S))
        except TokenRefusedError as error:
            return self._failed(FetchResult.TOKEN_REFUSED, error)
        except DiscordUnavailableError as error:
            return self._failed(FetchResult.UNAVAILABLE, error)
        self.shards = limit.shards
        self._succeeded()
        self._warn_of_reserve(limit)
        await self._event_queue.put_and_wait(LimitsFetched(limits_of(limit, self._settings)))
        return None, self._rest_s(FetchResult.OK)

    def _failed(self, answer: FetchResult, error: Exception, retry_after_ns: int = 0) -> tuple[str, float]:
        wait_s = self._rest_s(answer, retry_after_ns)
        again_in_s = round(wait_s, 1)
        if self._failed_at_s is None:
            self._failed_at_s = asyncio.get_running_loop().time()
        if answer is FetchResult.TOKEN_REFUSED:
            self.refusal = str(error)
            self._log.error("no figures from Discord", error=str(error), do=WHAT_TO_DO, again_in_s=again_in_s)
        else:
            self._log.warning("no figures from Discord", error=str(error), again_in_s=again_in_s)
        return str(error), wait_s

    def _succeeded(self) -> None:
        self.refusal = None
        if self._failed_at_s is not None:
            after_s = asyncio.get_running_loop().time() - self._failed_at_s
            self._log.info("Discord answers again", after_s=round(after_s, 1))
            self._failed_at_s = None

    def _rest_s(self, answer: FetchResult, retry_after_ns: int = 0) -> float:
        self._metrics.fetches.labels(answer).inc()
        jitter = random.random()  # noqa: S311  # spread, not a secret
        return self._backoff.answered(answer, jitter=jitter, retry_after_ns=retry_after_ns) / NS_PER_S

    def _warn_of_reserve(self, limit: SessionLimit) -> None:
        reserve, total = self._settings.identify_session_reserve, limits_of(limit, self._settings).total or 0
        if reserve >= total and not self._has_warned:
            self._log.warning(RESERVE_IS_ALL, reserve=reserve, total=total)
        self._has_warned = reserve >= total


def limits_of(limit: SessionLimit, settings: Settings) -> Limits:
    """Return Discord's figure; a total of our own lowers it, and never raises it."""
    total, remaining = limit.total, limit.remaining
    if settings.identify_session_total is not None:
        used = max(0, limit.total - limit.remaining)
        total = settings.identify_session_total
        remaining = min(remaining, total - used)  # below zero where more was used: it stays used
    return Limits(
        max_concurrency=settings.identify_max_concurrency or limit.max_concurrency,
        total=total,
        remaining=remaining,
        reset_in_ns=limit.reset_after_ms * MS or None,  # 0: the day begins with its first identify
    )
