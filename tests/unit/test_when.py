"""Durations and times as an operator types them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from nats_identify.cli.when import parse_duration_ms, parse_instant, show_ms

NOW = datetime(2026, 11, 27, 16, 0, 5, tzinfo=timezone(timedelta(hours=1), "CET"))


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("1.5s", 1500), (" 250ms ", 250)],
)
def test_a_duration_has_units(text, milliseconds):
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-5m", "0s", "1y", "9999999d", "1m2", "٣m2x"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="give a duration"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("2026-11-26T23:33:00Z", datetime(2026, 11, 26, 23, 33, tzinfo=UTC)),
        ("2026-11-26T23:33:00+02:00", datetime(2026, 11, 26, 21, 33, tzinfo=UTC)),
    ],
)
def test_a_time_that_needs_no_zone_assumes_none(text, at):
    instant = parse_instant(text, NOW)
    assert (instant.at, instant.assumed) == (at, "")


@pytest.mark.parametrize(
    ("text", "day", "hour", "said"),
    [
        ("15:30", 27, 15, "CET of today"),
        ("23:30", 26, 23, "CET of yesterday"),
        ("yesterday 15:30", 26, 15, "CET of yesterday"),
        ("today 15:30", 27, 15, "CET of today"),
        ("9:30", 27, 9, "CET of today"),
        ("2026-11-25T15:30", 25, 15, "is read as CET"),
    ],
)
def test_a_time_without_a_zone_is_local_and_says_so(text, day, hour, said):
    instant = parse_instant(text, NOW)
    assert instant.at == NOW.replace(day=day, hour=hour, minute=30, second=0)
    assert said in instant.assumed


@pytest.mark.parametrize("text", ["soon", "25:00", "12:61", "2026-13-01T00:00:00Z", "", "tomorrow 12:00"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="give a"):
        parse_instant(text, NOW)


@pytest.mark.parametrize(
    ("milliseconds", "shown"), [(0, "0.0 s"), (2400, "2.4 s"), (60_000, "0:01:00"), (3_600_001, "1:00:01")]
)
def test_durations_are_written_for_people(milliseconds, shown):
    assert show_ms(milliseconds) == shown
