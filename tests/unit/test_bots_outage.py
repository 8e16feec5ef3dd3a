"""What the log says of a shard's connection: once, not again and again, and once more when it is over."""

import logging

import pytest

from nats_identify.integrations import _outage
from nats_identify.integrations._close_codes import cure, named
from nats_identify.integrations._outage import SAY_EVERY_S, Outage
from nats_identify.testing.codes import FATAL, CloseCode


@pytest.fixture
def clock():
    class Clock:
        now_s = 100.0

        def __call__(self):
            return self.now_s

    return Clock()


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "nats_identify")
    return lambda: [record.getMessage() for record in caplog.records]


def test_what_goes_on_is_said_once_in_half_a_minute(clock, said):
    outage = Outage(3, clock)
    for _ in range(1_000):
        outage.note("4000", "lost its connection")
        clock.now_s += 0.1  # 100 s in all
    assert said() == ["shard 3 lost its connection"] * 4


def test_a_change_is_said_at_once_and_coming_and_going_is_none(clock, said):
    outage = Outage(3, clock)
    for _ in range(10):
        outage.note("a", "is ill")
        outage.note("b", "is worse")
    assert said() == ["shard 3 is ill", "shard 3 is worse"]


def test_the_end_is_said_once_and_what_follows_is_new(clock, said):
    outage = Outage(3, clock)
    outage.over()
    outage.note("a", "is ill")
    clock.now_s += 12.34
    outage.over()
    outage.over()
    outage.note("a", "is ill")
    assert said() == ["shard 3 is ill", "shard 3 is up again after 12.3 s", "shard 3 is ill"]


def test_so_many_kinds_are_told_apart_and_no_more(clock, said):
    outage = Outage(3, clock)
    for number in range(1_000):
        outage.note(f"{number}", "is ill")
    assert len(said()) == _outage.KINDS_MAX + 1
    clock.now_s += SAY_EVERY_S
    outage.note("0", "is still ill")
    assert said()[-1] == "shard 3 is still ill"


def test_each_code_has_its_meaning_and_those_that_no_retry_mends_what_to_do():
    assert named(4014) == "4014 (disallowed intents)"
    assert named(4999) == "4999"
    assert {code for code in CloseCode if cure(code)} == FATAL
    assert all("(" in named(code) for code in CloseCode)
