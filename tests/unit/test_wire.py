"""The contract on the wire, as JSON: what is read, what is ignored, and the number of each refusal."""

import pytest
from pydantic import ValidationError

from nats_identify.schedule import model
from nats_identify.schedule.model import Code
from nats_identify.wire import ERROR_NUMBERS, Request, decode_reply, encode_reply, reply_of


def ask_of(payload):
    return Request.model_validate_json(payload).ask(bucket=0, reply_to="in", request_id="r")


def test_every_refusal_has_a_number_of_its_own():
    assert set(ERROR_NUMBERS) == set(Code)
    assert len(set(ERROR_NUMBERS.values())) == len(Code)
    assert ERROR_NUMBERS[Code.ENDED] == 410


def test_a_source_and_its_count_are_read_together_or_not_at_all():
    ask = ask_of('{"source": "S-1", "asked_us": 0}')
    assert (ask.source, ask.asked_us) == ("S-1", 0)
    for half in ('{"source": "S-1"}', '{"asked_us": 7}', "{}"):
        assert (ask_of(half).source, ask_of(half).asked_us) == ("", 0)


@pytest.mark.parametrize(
    "fields", ['"source": ""', '"source": "a.b"', '"source": 1', '"asked_us": -1', '"asked_us": "1"']
)
def test_a_source_that_is_no_token_or_a_count_that_is_no_number_is_refused(fields):
    with pytest.raises(ValidationError):
        ask_of(f"{{{fields}}}")


def test_what_is_newer_than_this_library_is_ignored():
    assert ask_of('{"request_id": "x", "later": {"a": 1}}').request_id == "x"


REPLIES = [
    model.Queued(3, 1, "r-1_x", 17, 2_500_000_001, 60_000_000_000, model.Reason.WINDOW, 16),
    model.Queued(2**53, 0, "r", 1, None, 0, model.Reason.LIMITS_UNKNOWN, None, nudge=True),
    model.Queued(2**53, 0, "r", 1, 2**63, 2**80, model.Reason.CRASH_LOOP, 1),
    model.Granted(3, 1, "r", "7-abc", 2, 5_000_999_999, 2_000_001, None, 16),
    model.Granted(3, 1, "r", "7-abc", 2**53, 0, 2**80, 0, 4096),
    model.Refused("", Code.OVERLOADED, 'a "text"\n', retry_after_ns=1),
]


@pytest.mark.parametrize("body", REPLIES, ids=str)
def test_a_reply_that_is_written_by_hand_is_what_its_model_writes(body):
    by_model = reply_of(body, 9).model_dump_json(exclude_none=isinstance(body, model.Refused)).encode()
    assert encode_reply(body, 9) == by_model
    assert decode_reply(encode_reply(body, 9)) == reply_of(body, 9)
