"""What an operator is told of a ledger that cannot be kept: how often, in which words, and of which bucket."""

from dataclasses import replace
from typing import Any

import pytest
from nats import errors
from nats.js import api
from nats.js.errors import APIError, NoStreamResponseError

from coordinator.edge.bucket import need_of, problems_of
from coordinator.edge.cures import cure_of, is_refusal, words_of
from coordinator.edge.ledger_json import LedgerWriter
from coordinator.edge.trouble import Trouble
from coordinator.settings import Settings
from nats_identify.clock import NS_PER_S
from nats_identify.operator_wire import Pause
from nats_identify.schedule.budget import StaticDay
from nats_identify.schedule.grants import Grant, HoldRecord
from nats_identify.schedule.model import DAY, MS, SECOND, Outcome
from nats_identify.schedule.pause import Paused
from nats_identify.schedule.plain import REPLIED_MAX, PlainReplies
from tests.contract.test_ledger import LEDGER


class Pad:
    """A log that keeps its lines, and a clock that is moved by hand."""

    def __init__(self):
        self.lines = []
        self.now_ns = 1000 * NS_PER_S

    def error(self, event, **facts):
        self.lines.append(("error", event, facts))

    def warning(self, event, **facts):
        self.lines.append(("warning", event, facts))

    def trouble(self):
        log: Any = self
        return Trouble("it cannot be done", "it is done", lambda: self.now_ns, log)


def test_a_trouble_is_said_at_once_then_each_half_minute_and_when_it_is_over():
    pad = Pad()
    trouble = pad.trouble()
    for _ in range(100):
        trouble.met("too large", "make it larger")
        pad.now_ns += NS_PER_S
    assert [(level, facts["lasts_s"]) for level, _, facts in pad.lines] == [
        *(("error", 0), ("error", 30), ("error", 60), ("error", 90)),
    ]
    assert trouble.reason == "it cannot be done: too large; make it larger"
    assert trouble.lasts_s == 100
    trouble.ended()
    trouble.ended()
    assert pad.lines[4:] == [("warning", "it is done", {"after_s": 100})]
    assert (trouble.reason, trouble.lasts_s) == (None, 0)


def test_a_trouble_that_comes_and_goes_each_second_is_said_no_oftener():
    pad = Pad()
    trouble = pad.trouble()
    for _ in range(60):
        trouble.met("too large", "make it larger")
        trouble.ended()
        pad.now_ns += NS_PER_S
    assert [level for level, _, _ in pad.lines] == ["error", "warning"] * 2


@pytest.mark.parametrize(
    ("error", "is_refused", "words", "do"),
    [
        (APIError(400, "too large", 10054), True, "too large (10054)", "nats stream edit KV_x --max-msg-size=-1"),
        (APIError(503, "maximum bytes exceeded", 10077), True, "maximum bytes", "nats stream edit KV_x --max-bytes=-1"),
        (APIError(503, "write 1.blk: no space left on device", 10077), True, "no space left", "make room"),
        (APIError(500, "something new", 10999), True, "something new (10999)", "log of the NATS server"),
        (APIError(400, "wrong last sequence: 7", 10071), False, "wrong last sequence", "log of the NATS server"),
        (APIError(503, "JetStream system temporarily unavailable", 10008), False, "unavailable", "log of the"),
        (errors.MaxPayloadError(), True, "max_payload", "raise max_payload"),
        (NoStreamResponseError(), True, "no stream takes", "nats stream info KV_x"),
        (errors.TimeoutError(), False, "timeout", "a disk that was full"),
    ],
)
def test_each_refusal_is_said_in_the_server_s_words_with_what_to_do(error, is_refused, words, do):
    assert is_refusal(error) is is_refused
    assert words in words_of(error)
    assert do in cure_of(error, "KV_x")


@pytest.mark.parametrize("max_concurrency", [1, 16, 1000])
def test_the_largest_ledger_is_larger_than_one_with_a_grant_in_each_bucket(max_concurrency):
    settings = Settings(nats_url="nats://host", identify_replica_name="pod-0")
    need = need_of(settings, max_concurrency)
    grant = Grant("a-1", "r1", 17, 1, max_concurrency, 3, 5 * SECOND)
    record = HoldRecord(grant, 10_200 * MS, Outcome.IDENTIFIED)
    ledger = replace(LEDGER, grants=(record,) * max_concurrency)
    assert need.least < len(LedgerWriter().write(ledger)) < need.largest


def test_the_largest_ledger_has_room_for_all_that_others_can_put_into_it():
    """Plain requests with the longest ids had their reply, and the pause has the longest texts that JSON can make."""
    need = need_of(Settings(nats_url="nats://host", identify_crash_loop_grants=0), 1)
    replied = PlainReplies()
    for number in range(2 * REPLIED_MAX):
        replied.add(f"{number:x>64}", 0)
    pause = Pause(why="\U0001f600" * 200, by="\U0001f600" * 128, below_priority=-10)
    ledger = replace(
        LEDGER,
        replied=replied.left(0),
        paused=Paused(pause.below_priority, 10**6 * SECOND, by=pause.by, why=pause.why),
        static_day=StaticDay(DAY, 10**5, DAY),
        full_hold_ns=DAY,
    )
    size = len(LedgerWriter().write(ledger))
    assert 75_000 < size < need.largest


def test_a_bucket_as_the_command_line_makes_it_is_well():
    need = need_of(Settings(nats_url="nats://host"), 16)
    config = api.StreamConfig(
        name="KV_identify", max_msgs_per_subject=1, max_bytes=-1, max_msg_size=-1, discard=api.DiscardPolicy.NEW
    )
    assert problems_of("identify", config, need) == ([], [])
