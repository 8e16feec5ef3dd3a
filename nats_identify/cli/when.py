"""Reads durations and times as people type them, and writes them as people read them. It asks no clock."""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PARTS: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION: Final = re.compile(rf"(?:{_PARTS.pattern})+")
_CLOCK: Final = re.compile(r"(?:(today|yesterday)[ T]?)?(\d{1,2}:\d{2}(?::\d{2})?)")
_DAYS_MAX: Final = 3660
"""Ten years: a longer duration is a slip of the finger, and no time lies so far back."""


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds of a duration such as ``90s``, ``10m``, ``2h`` or ``1h30m``.

    Raises:
        ValueError: it is none, or it is zero.
    """
    shown = text.strip().lower()
    if not _DURATION.fullmatch(shown):
        message = f"{text!r}: give a duration with its unit, as in 90s, 10m, 2h or 1h30m"
        raise ValueError(message)
    total_ms = round(sum(float(number) * _UNITS_MS[unit] for number, unit in _PARTS.findall(shown)))
    if not 0 < total_ms <= _DAYS_MAX * _UNITS_MS["d"]:
        message = f"{text!r}: give a duration between 1ms and ten years"
        raise ValueError(message)
    return total_ms


@dataclass(frozen=True, slots=True)
class Instant:
    """A time that was typed.

    Attributes:
        at: with its zone.
        assumed: what was taken for granted to read it, for people; empty: nothing was.
    """

    at: datetime
    assumed: str = ""


def parse_instant(text: str, now: datetime) -> Instant:
    """Return the time that is meant: a duration before now, an RFC 3339 time, or a time of today or yesterday.

    Args:
        text: as in ``2h``, ``2026-11-26T23:33:00Z``, ``23:33``, ``yesterday 23:33``.
        now: with the local zone, which is assumed where the text names none.

    Raises:
        ValueError: it is none of these.
    """
    shown = text.strip()
    zone = now.tzname() or "local time"
    if _DURATION.fullmatch(shown.lower()):
        return Instant(now - timedelta(milliseconds=parse_duration_ms(shown)))
    if clock := _CLOCK.fullmatch(shown.lower()):
        return _of_clock(clock[1], clock[2], text, now)
    try:
        at = datetime.fromisoformat(shown)
    except ValueError:
        message = f"{text!r}: give a duration as in 2h, a time as in 23:33, or RFC 3339 as in 2026-11-26T23:33:00Z"
        raise ValueError(message) from None
    return Instant(at) if at.tzinfo else Instant(at.replace(tzinfo=now.tzinfo), f"{text} is read as {zone}")


def _of_clock(day: str | None, clock: str, text: str, now: datetime) -> Instant:
    """A time of day: of today, or of yesterday where today's is still to come."""
    try:
        wanted = time.fromisoformat(clock.zfill(5 if clock.count(":") == 1 else 8))
    except ValueError:
        message = f"{text!r}: give a time of day between 00:00 and 23:59"
        raise ValueError(message) from None
    at = datetime.combine(now.date(), wanted, now.tzinfo)
    if day == "yesterday" or (day is None and at > now):
        at -= timedelta(days=1)
        day = "yesterday"
    return Instant(
        at, f"{text} is read as {clock} {now.tzname() or 'local time'} of {day or 'today'}, {at.isoformat()}"
    )


def show_ms(duration_ms: float) -> str:
    """Write a duration for people: tenths of a second below a minute, else as in ``0:01:05`` or ``2 days, 3:00:00``."""
    if abs(duration_ms) < _UNITS_MS["m"]:
        return f"{duration_ms / 1000:.1f} s"
    return str(timedelta(seconds=-(-int(duration_ms) // 1000)))
