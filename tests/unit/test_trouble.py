"""When a trouble is logged: at its beginning, each 30 s, at its end; and what a queue's log makes of it."""

import logging

import pytest

from nats_identify.client.outage import OutageLog, addresses_in
from nats_identify.clock import NS_PER_S
from nats_identify.trouble import Trouble


def said(trouble: Trouble, *seconds: float) -> list[int | None]:
    """What `note` returns at these instants, in seconds."""
    noted = [trouble.note(round(second * NS_PER_S)) for second in seconds]
    return [None if lasted_ns is None else lasted_ns // NS_PER_S for lasted_ns in noted]


def test_it_is_said_at_once_and_then_each_thirty_seconds_however_often_it_is_seen():
    assert said(Trouble(), 100, 100, 101, 129.9, 130, 131, 161, 200) == [0, None, None, None, 30, None, 61, 100]


def test_its_end_is_said_once_with_how_long_it_was():
    trouble = Trouble()
    said(trouble, 100, 110)
    assert [trouble.over(112 * NS_PER_S), trouble.over(113 * NS_PER_S)] == [12 * NS_PER_S, None]


def test_where_nothing_was_wrong_nothing_is_over():
    assert Trouble().over(5) is None


def test_one_that_comes_and_goes_is_said_no_more_often():
    trouble = Trouble()
    lines = 0
    for second in range(0, 600, 2):
        lines += trouble.note(second * NS_PER_S) is not None
        lines += trouble.over((second + 1) * NS_PER_S) is not None
    assert lines == 2 * 600 // 30


def test_one_that_came_back_is_said_when_it_lasts():
    trouble = Trouble()
    said(trouble, 0)
    trouble.over(1 * NS_PER_S)
    assert said(trouble, 10, 29, 30) == [None, None, 20]
    assert trouble.over(31 * NS_PER_S) == 21 * NS_PER_S


# --- the log of a queue


@pytest.fixture
def log(caplog) -> OutageLog:
    caplog.set_level(logging.DEBUG, "nats_identify")
    return OutageLog("identify.request.*")


def test_nats_away_is_said_with_where_and_why_and_that_it_is_back(log, caplog):
    for tick in range(-4, 240):  # a minute, with four failed attempts in each second
        log.error(ConnectionRefusedError(111, "refused"))
        log.connection(is_there=False, where="nats-0:4222", now_ns=tick * NS_PER_S // 4)
    log.connection(is_there=True, where="nats-1:4222", now_ns=60 * NS_PER_S)
    log.connection(is_there=True, where="nats-1:4222", now_ns=61 * NS_PER_S)
    why = "(ConnectionRefusedError: [Errno 111] refused); the shards wait"
    assert caplog.messages == [
        f"NATS at nats-0:4222 is away {why}",
        f"NATS at nats-0:4222 has been away for 30 s {why}",
        "NATS is back: connected to nats-1:4222 after 60 s",
    ]


def test_a_connection_that_is_back_within_a_second_is_not_said(log, caplog):
    for tick in range(100):
        log.connection(is_there=tick % 3 == 2, where="nats-0:4222", now_ns=tick * NS_PER_S // 4)
    assert caplog.messages == []


def test_coordinators_away_are_said_once_with_what_to_do_and_that_one_answers_again(log, caplog):
    for tick in range(31):
        log.no_coordinator("nats-0:4222", tick * NS_PER_S, is_absent=tick == 0)
    log.coordinator_answers(42 * NS_PER_S)
    log.coordinator_answers(43 * NS_PER_S)
    assert len(caplog.messages) == 3
    assert all("none is connected" in message and "IDENTIFY_PREFIX" in message for message in caplog.messages[:2])
    assert caplog.messages[-1] == "a coordinator answers again, after 42 s"


def test_errors_over_a_live_connection_are_kept_apart_and_bounded(log, caplog):
    for tick in range(100):
        log.error_while_connected(PermissionError("publish"), "nats-0:4222", tick * NS_PER_S // 10)
        log.error_while_connected(ValueError("slow consumer"), "nats-0:4222", tick * NS_PER_S // 10)
    assert len(caplog.messages) == 2
    for number in range(100):
        log.error_while_connected(type(f"Kind{number}Error", (Exception,), {})(), "nats-0:4222", 20 * NS_PER_S)
    assert len(caplog.messages) < 20


def test_no_secret_is_told(log, caplog):
    where = addresses_in(["nats://bot:hunter2@nats-0:4222", "hunter2@nats-1"])
    log.error(OSError("cannot reach nats://bot:hunter2@nats-0:4222"))
    for second in (0, 1):
        log.connection(is_there=False, where=where, now_ns=second * NS_PER_S)
    assert where == "nats-0:4222, nats-1"
    assert "hunter2" not in caplog.text
