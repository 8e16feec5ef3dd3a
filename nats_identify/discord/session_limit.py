"""Asks Discord for a bot's limits: GET /gateway/bot, once for each call. It never retries and keeps nothing."""

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any, Final
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yarl import URL

from nats_identify.schedule.model import BUCKETS_MAX

API_URL: Final = "https://discord.com/api/v10"

ANSWER_WITHIN_S: Final = 10.0

BODY_BYTES_MAX: Final = 65_536
"""Discord's answer has about 200 bytes. A larger one is not Discord's, and is refused before it fills the memory."""

_RETRY_AFTER_S: Final = 5.0  # where Discord names none
_RETRY_AFTER_MAX_S: Final = 86_400.0  # a day: whatever was meant, the day's limit is another one by then

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Buckets = Annotated[int, Field(ge=1, le=BUCKETS_MAX)]


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


class _BodyTooLargeError(Exception):
    """The body is larger than `BODY_BYTES_MAX`."""


def check_api_url(address: str) -> None:
    """Refuse an address of Discord's API that no request can be sent to; nothing of it is repeated.

    Raises:
        ValueError: it is no http or https address of a host, or its port is none.
    """
    try:
        parts = URL(address).with_user(None)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.host) and parts.port != 0
    except ValueError:  # its text could repeat a password
        is_usable = False
    if not is_usable:
        message = f"the address of Discord's API cannot be one; give one as in {API_URL}"
        raise ValueError(message)


async def fetch_session_limit(session: aiohttp.ClientSession, token: str, *, api_url: str = API_URL) -> SessionLimit:
    """Fetch the present limits from Discord.

    Args:
        session: carries the request, through the proxy of ``HTTPS_PROXY`` unless ``NO_PROXY`` names the host.
        token: the bot's token; it goes into the one header and nowhere else.
        api_url: where Discord's API is.

    Raises:
        TokenRefusedError: the token is wrong.
        RateLimitedError: too many requests.
        DiscordUnavailableError: anything else that is not an answer.
        ValueError: ``api_url`` cannot be an address.
    """
    headers = {
        "Accept-Encoding": "identity",  # 200 bytes; what is not asked for packed need not be unpacked
        "Authorization": f"Bot {token}",
        "User-Agent": f"DiscordBot (nats-identify, {version('nats-identify')})",
    }
    check_api_url(api_url)
    address = f"{api_url.rstrip('/')}/gateway/bot"
    shown = _without_secrets(address)
    options: dict[str, Any] = {
        "headers": headers,
        "timeout": aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
        "proxy": _proxy_of(address),
    }
    try:
        # A redirect would carry the token to another host.
        async with session.get(address, **options, allow_redirects=False, middlewares=(_once,)) as response:
            body = await _whole_body(response)
            return _read(response.status, response.headers.get("Retry-After"), body)
    except _BodyTooLargeError:
        message = f"the answer from {shown} is larger than {BODY_BYTES_MAX} bytes: something else than Discord answers"
    except aiohttp.ClientPayloadError:
        message = f"the answer from {shown} was cut short"
    except (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError) as error:
        status = f"HTTP {error.status}" if isinstance(error, aiohttp.ClientHttpProxyError) else "no connection"
        message = f"no way to {shown} through the proxy ({status}); look at HTTPS_PROXY and NO_PROXY"
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        message = f"no answer from {shown}: {type(error).__name__}"
    raise DiscordUnavailableError(message)  # not from the error: its text could repeat the header


def _proxy_of(address: str) -> str | None:
    """Return the proxy that the environment names for this address, or None.

    aiohttp's own ``trust_env`` also reads ~/.netrc, whose default entry would replace the bot's token.

    Raises:
        DiscordUnavailableError: it is not the address of an HTTP proxy.
    """
    target = URL(address)
    host = target.host or ""
    proxies = getproxies_environment()
    proxy = proxies.get(target.scheme)
    if not proxy or _is_loopback(host) or proxy_bypass(host):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parsed = URL(proxy)
        is_usable = parsed.scheme in {"http", "https"} and bool(parsed.host)
    except ValueError:
        is_usable = False
    if not is_usable:
        name = f"{target.scheme.upper()}_PROXY"
        message = f"{name} is not the address of an HTTP proxy; give one, as in http://proxy.example:3128"
        raise DiscordUnavailableError(message)
    return proxy


def _is_loopback(host: str) -> bool:
    """Whether this machine is meant, which no proxy can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _whole_body(response: aiohttp.ClientResponse) -> bytes:
    """Read to the end: a proxy or the network may deliver any number of pieces.

    The status of any answer but 200 is enough: where its body is cut short or too large, what came is returned.
    """
    body = bytearray()
    try:
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                break
    except (aiohttp.ClientPayloadError, TimeoutError):
        if response.status == HTTPStatus.OK:
            raise
    if len(body) > BODY_BYTES_MAX and response.status == HTTPStatus.OK:
        raise _BodyTooLargeError
    return bytes(body[:BODY_BYTES_MAX])


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Hide from aiohttp that a connection was cut: it would ask again at once, behind our back."""
    try:
        return await handler(request)
    except aiohttp.ClientProxyConnectionError:
        raise  # nothing was sent
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        message = f"no answer from {_without_secrets(str(request.url))}: {type(error).__name__}"
        raise DiscordUnavailableError(message) from None  # as above


def _without_secrets(address: str) -> str:
    """Return the address without a user's name and password."""
    return str(URL(address).with_user(None))


def _read(status: int, retry_after: str | None, body: bytes) -> SessionLimit:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimitedError(_retry_after_s(retry_after, body))
    if status in {401, 403}:
        message = f"Discord refuses the bot's token (HTTP {status}); set the right one"
        raise TokenRefusedError(message)
    if status != HTTPStatus.OK:
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
    sensible = [min(seconds, _RETRY_AFTER_MAX_S) for seconds in asked if seconds >= 0]
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
