"""The queue of one large process: LocalQueue with Discord's own limits. It shares nothing with other processes."""

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from nats_identify.client.local_queue import LocalQueue
from nats_identify.clock import NS_PER_MS, NS_PER_S, Clock, now_ns
from nats_identify.discord.backoff import Backoff, FetchResult
from nats_identify.discord.bot_token import clean_bot_token
from nats_identify.loops import Move, cancel
from nats_identify.printable import printable
from nats_identify.schedule import model
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import Limits
from nats_identify.trouble import Trouble

if TYPE_CHECKING:
    from nats_identify.discord.session_limit import SessionLimit

FIGURE_EVERY_NS: Final = 300 * NS_PER_S
"""An older figure is fetched anew while a shard waits; `GET /gateway/bot` is not to be cached for long."""

CRASH_LOOP_GRANTS: Final = 10
"""Turns of one shard in an hour before its crash-loop delay begins: a shard that loses its sessions over and over must
not spend the whole day's session starts. Also a coordinator's default."""

logger = logging.getLogger("nats_identify")


class LargeBotQueue(LocalQueue):
    """The release schedule in this process, with ``max_concurrency`` and the day's limit from Discord.

    The buckets are released side by side. Until the first figure has come, and whenever the day has ended,
    nothing is granted: unknown is closed. A shard that takes more than ten turns in an hour waits longer each time.

    Args:
        token: the bot's token, for ``GET /gateway/bot``; it is sent to Discord and shown nowhere. Blanks, quotes and
            ``Bot `` around it are removed.
        api_url: where Discord's API is.
        reserve: the last session starts of a day, for priority 1 and above only.
        window_s, margin_s, use_within_s: in seconds, as `LocalQueue` has them.
        clock: nanoseconds that only grow; tests bring their own.

    Raises:
        ImportError: the extra ``http`` is not installed.
        BotTokenError: the token cannot be one; it is a `ValueError`.
        ValueError: ``api_url`` cannot be an address, or a duration is not in its range.
    """

    def __init__(
        self,
        token: str,
        *,
        api_url: str = "https://discord.com/api/v10",
        reserve: int = 0,
        window_s: float = 5.0,
        margin_s: float = 0.2,
        use_within_s: float = 5.0,
        clock: Clock = now_ns,
    ) -> None:
        try:
            from nats_identify.discord import session_limit  # noqa: PLC0415  # an extra, imported only where it is used
        except ImportError as error:
            message = "LargeBotQueue asks Discord over HTTP; in a clone of nats-identify: pip install '.[http]'"
            raise ImportError(message) from error
        session_limit.check_api_url(api_url)
        self._token = clean_bot_token(token)
        self._reserve = reserve
        super().__init__(window_s=window_s, margin_s=margin_s, use_within_s=use_within_s, clock=clock)
        self._api_url = api_url
        self._learned_at_ns: int | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._ask_again_at_ns = 0
        self._trouble = Trouble()

    async def close(self) -> None:
        """Withdraw every request, and end every wait with `QueueClosedError`. Idempotent."""
        await super().close()
        if self._fetching is not None:
            self._fetching.cancel()

    def _begin_anew(self, move: Move) -> None:
        cancel(self._fetching, move)
        self._fetching = None
        super()._begin_anew(move)

    def _make_budget(self) -> SessionBudget:
        return SessionBudget(reserve=self._reserve, static=False)

    def _make_guard(self) -> CrashLoopGuard:
        return CrashLoopGuard(CRASH_LOOP_GRANTS)

    def _tick(self) -> None:
        learned_at_ns = self._learned_at_ns
        if learned_at_ns is None or self._clock() - learned_at_ns > FIGURE_EVERY_NS:
            self._fetch()
        super()._tick()

    def _perform(self, actions: list[model.ScheduleAction]) -> None:
        super()._perform(actions)
        if any(isinstance(action, model.FetchLimits) for action in actions):
            self._fetch()

    def _fetch(self) -> None:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._learn(), name="LargeBotQueue figures")

    async def _learn(self) -> None:
        """Fetch the limits, with backoff, until Discord answers."""
        import aiohttp  # noqa: PLC0415  # an extra, imported only where it is used

        from nats_identify.discord import session_limit  # noqa: PLC0415  # it needs the same extra

        async with aiohttp.ClientSession() as session:
            while True:
                wait_ns = self._ask_again_at_ns - self._clock()  # set by an earlier event loop too
                if wait_ns > 0:
                    await asyncio.sleep(wait_ns / NS_PER_S)
                    continue
                retry_after_s = 0.0
                self._perform(self._schedule.handle(model.LimitsFetchStarted(), self._clock()))
                try:
                    limit = await session_limit.fetch_session_limit(session, self._token, api_url=self._api_url)
                except session_limit.RateLimitedError as error:
                    answer, retry_after_s, why = FetchResult.RATE_LIMITED, error.retry_after_s, str(error)
                except session_limit.TokenRefusedError as error:
                    answer, why = FetchResult.TOKEN_REFUSED, str(error)
                except session_limit.DiscordUnavailableError as error:
                    answer, why = FetchResult.UNAVAILABLE, str(error)
                else:
                    self._learned(limit)
                    return
                self._failed(answer, round(retry_after_s * NS_PER_S), why)

    def _failed(self, answer: FetchResult, retry_after_ns: int, why: str) -> None:
        """Back off, and log why."""
        jitter = random.random()  # noqa: S311  # spread, not a secret
        wait_ns = self._backoff.answered(answer, jitter=jitter, retry_after_ns=retry_after_ns)
        now_ns = self._clock()
        self._ask_again_at_ns = now_ns + wait_ns
        if (lasted_ns := self._trouble.note(now_ns)) is not None:
            since = f" (for {lasted_ns / NS_PER_S:.0f} s now)" if lasted_ns else ""
            level = logging.ERROR if answer is FetchResult.TOKEN_REFUSED else logging.WARNING
            logger.log(level, "%s%s; asked again in %.1f s, the shards wait", printable(why), since, wait_ns / NS_PER_S)

    def _learned(self, limit: "SessionLimit") -> None:
        self._backoff.answered(FetchResult.OK, jitter=0)
        if (lasted_ns := self._trouble.over(self._clock())) is not None:
            logger.warning("Discord's API answers again, after %.0f s", lasted_ns / NS_PER_S)
        reset_in_ns = limit.reset_after_ms * NS_PER_MS or None  # 0: the day begins with its first identify
        limits = Limits(limit.max_concurrency, limit.total, limit.remaining, reset_in_ns)
        self._learned_at_ns = self._clock()
        self._adopt(limit.max_concurrency)
        self._perform(self._schedule.handle(model.LimitsFetched(limits), self._clock()))
        self._wake.set()
