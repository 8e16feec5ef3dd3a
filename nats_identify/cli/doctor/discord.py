"""Tries the bot's token by one GET /gateway/bot, and takes the time from its answer. It never shows the token."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

from nats_identify.cli.doctor.findings import Finding, note, todo, well
from nats_identify.discord.bot_token import BotTokenError, clean_bot_token, decode_bot_token

FILE_BYTES_MAX: Final = 65_536
CLOCK_TOLERANCE_S: Final = 5.0
"""The queue compares no clocks; certificates, JWTs, the log and the history go by them."""


@dataclass(slots=True)
class Answered:
    """What is known of a clock elsewhere.

    Attributes:
        ahead_s: by how many seconds this machine's clock is ahead of it; None: not known.
    """

    findings: list[Finding] = field(default_factory=list)
    ahead_s: float | None = None


async def check_token(environment: Mapping[str, str] = os.environ) -> Answered:
    """Try the token that the environment names, if it names one."""
    try:
        token = _token_of(environment)
    except (BotTokenError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Answered([todo("Discord's token", f"DISCORD_TOKEN or its file: {reason}")])
    if token is None:
        return Answered([note("Discord's token", "not tried: DISCORD_TOKEN is not set here, and need not be")])
    try:
        import aiohttp  # noqa: PLC0415  # an extra that the other checks do without
    except ModuleNotFoundError:
        return Answered([note("Discord's token", "not tried: it needs aiohttp; in a clone: pip install '.[http]'")])
    return await _try(aiohttp, token, environment)


async def _try(aiohttp: Any, token: str, environment: Mapping[str, str]) -> Answered:  # noqa: ANN401  # the module
    from nats_identify.discord import session_limit  # noqa: PLC0415  # as above

    answered = Answered()

    async def take_time(_session: object, _context: object, result: Any) -> None:  # noqa: ANN401  # aiohttp's own
        try:
            at = parsedate_to_datetime(result.response.headers.get("Date", ""))
        except ValueError:
            return
        answered.ahead_s = time.time() - at.timestamp()

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(take_time)
    url = environment.get("DISCORD_API_URL") or session_limit.API_URL
    try:
        async with aiohttp.ClientSession(trace_configs=[trace]) as session:
            limit = await session_limit.fetch_session_limit(session, token, api_url=url)
    except session_limit.TokenRefusedError as error:
        answered.findings = [todo("Discord's token", str(error))]
    except session_limit.RateLimitedError as error:
        answered.findings = [note("Discord's token", f"not known: {error}")]
    except session_limit.DiscordUnavailableError as error:
        answered.findings = [todo("Discord's token", f"not known: {error}; look at DISCORD_API_URL and the network")]
    except ValueError as error:
        answered.findings = [todo("Discord's token", f"not known: {error}; look at DISCORD_API_URL")]
    else:
        text = f"accepted; {limit.shards} shards recommended, max_concurrency {limit.max_concurrency}"
        answered.findings = [well("Discord's token", f"{text}, {limit.remaining} of {limit.total} starts left")]
    return answered


def _token_of(environment: Mapping[str, str]) -> str | None:
    if text := environment.get("DISCORD_TOKEN"):
        return clean_bot_token(text)
    if name := environment.get("DISCORD_TOKEN_FILE"):
        with Path(name).open("rb") as file:
            return decode_bot_token(file.read(FILE_BYTES_MAX))
    return None


def judge_clock(ahead_s: float | None, of: str, resolution_s: float) -> Finding:
    """Compare this machine's clock with another's.

    Args:
        ahead_s: by how much it is ahead.
        of: whose clock.
        resolution_s: how exact that is: the other's digits, and the way there and back.
    """
    if ahead_s is None:
        return note("clock", f"not compared with {of}: it names no time")
    difference_s = max(0.0, abs(ahead_s) - resolution_s)
    text = f"{'ahead of' if ahead_s > 0 else 'behind'} {of} by {abs(ahead_s):.1f} s"
    if difference_s > CLOCK_TOLERANCE_S:
        advice = "set it, by NTP: certificates, JWTs and the history go by it (the queue itself does not)"
        return todo("clock", f"{text}; {advice}")
    return well("clock", f"within {CLOCK_TOLERANCE_S:g} s of {of}")
