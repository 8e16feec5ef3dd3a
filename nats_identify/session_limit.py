"""Asks Discord for a bot's limits: GET /gateway/bot, once for each call. It never retries and keeps nothing."""

from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Final

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nats_identify.schedule.model import MAX_BUCKETS

API_URL: Final = "https://discord.com/api/v10"
ANSWER_WITHIN_S: Final = 10.0

_BYTES_MOST: Final = 65_536
_RETRY_AFTER_S: Final = 5.0  # where Discord does not say
_RETRY_AFTER_MOST_S: Final = 86_400.0  # a day: whatever was meant, the day's limit is another one by then

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Buckets = Annotated[int, Field(ge=1, le=MAX_BUCKETS)]


@dataclass(frozen=True, slots=True)
class SessionLimit:
    """What Discord allows a bot today.

    Attributes:
        shards: how many shards Discord recommends.
        max_concurrency: identify requests allowed per window, one for each bucket.
        total, remaining: session starts of the day, and those left.
        reset_after_ms: until the day ends; 0 while none was used.
    """

    shards: int
    max_concurrency: int
    total: int
    remaining: int
    reset_after_ms: int


class TokenRefusedError(Exception):
    """Discord does not know the bot's token: its owner must set the right one."""


class RateLimitedError(Exception):
    """Discord wants to be left alone for ``retry_after_s``."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"Discord asks to wait {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class DiscordUnavailableError(Exception):
    """Discord, or the way to it, is in trouble: ask again later."""


async def fetch_session_limit(session: aiohttp.ClientSession, token: str, *, api_url: str = API_URL) -> SessionLimit:
    """Return what Discord says now.

    Args:
        session: carries the request.
        token: the bot's token; it goes into the one header and nowhere else.
        api_url: where Discord's API is.

    Raises:
        TokenRefusedError: the token is wrong.
        RateLimitedError: too many requests.
        DiscordUnavailableError: anything else that is not an answer.
    """
    headers = {
        "Accept-Encoding": "identity",  # 200 bytes; what is not asked for packed need not be unpacked
        "Authorization": f"Bot {token}",
        "User-Agent": f"DiscordBot (nats-identify, {version('nats-identify')})",
    }
    address = f"{api_url.rstrip('/')}/gateway/bot"
    patience = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    try:
        # A redirect would carry the token to another host.
        asking = session.get(address, headers=headers, timeout=patience, allow_redirects=False, middlewares=(_once,))
        async with asking as response:
            body = await response.content.read(_BYTES_MOST)
            return _read(response.status, response.headers.get("Retry-After"), body)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        message = f"no answer from {address}: {type(error).__name__}"
        raise DiscordUnavailableError(message) from None  # its text could repeat the header


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Hide from aiohttp that a connection was cut: it would ask again at once, behind our back."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        message = f"no answer from {request.url}: {type(error).__name__}"
        raise DiscordUnavailableError(message) from None  # as above


def _read(status: int, retry_after: str | None, body: bytes) -> SessionLimit:
    if status == 429:  # noqa: PLR2004  # Too Many Requests
        raise RateLimitedError(_retry_after_s(retry_after, body))
    if status in {401, 403}:
        message = f"Discord refuses the bot's token (HTTP {status}); set the right one"
        raise TokenRefusedError(message)
    if status != 200:  # noqa: PLR2004  # OK
        message = f"Discord answered HTTP {status}"
        raise DiscordUnavailableError(message)
    try:
        answer = _GatewayBot.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        message = f"Discord's answer makes no sense: {field or 'the body'}: {first['msg']}"
        raise DiscordUnavailableError(message) from None
    limit = answer.session_start_limit
    remaining = min(limit.remaining, limit.total)
    return SessionLimit(answer.shards, limit.max_concurrency, limit.total, remaining, limit.reset_after)


def _retry_after_s(header: str | None, body: bytes) -> float:
    """Return the longer of what the header and the body ask for."""
    asked = []
    with suppress(ValueError):
        asked.append(float(header or "none"))
    with suppress(ValidationError):
        asked.append(_TooMany.model_validate_json(body).retry_after)
    sensible = [min(seconds, _RETRY_AFTER_MOST_S) for seconds in asked if seconds >= 0]
    return max(sensible, default=_RETRY_AFTER_S)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _SessionStartLimit(_Answer):
    total: _Count
    remaining: _Count
    reset_after: _Count
    max_concurrency: _Buckets


class _GatewayBot(_Answer):
    shards: _Count
    session_start_limit: _SessionStartLimit


class _TooMany(_Answer):
    retry_after: float
