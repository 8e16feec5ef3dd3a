"""What the package's front door gives: names, their documentation, and the reasons that a `Progress` may have."""

import asyncio
import dataclasses
import inspect
import json
import re
import subprocess
import sys
from enum import StrEnum

import pytest

import nats_identify
from nats_identify import Grant, LocalQueue, Progress, QueueClosedError, Reason, Shards, Turn, wire
from nats_identify.client.requester import AskAnew, Begin, Received, ReportProgress, Requester, SendRequest, State, Tick
from nats_identify.schedule import model
from nats_identify.schedule.model import SECOND
from nats_identify.testing import ErrorResponse, Judgement, Report
from tests.unit.hand_queue import until
from tests.unit.shard_in_hand import half

UNITS = {"_ms": "millisecond", "_ns": "nanosecond", "_s": "second"}

QUEUED = {
    "status": "queued",
    "shard_id": 5,
    "bucket": 1,
    "request_id": "r",
    "position": 2,
    "eta_ms": None,
    "renew_in_ms": 10_000,
}
REFUSED = {"status": "refused", "message": "why", "request_id": "r"}


def test_the_front_door_gives_every_public_name():
    program = f"from nats_identify import {', '.join(nats_identify.__all__)}"
    subprocess.run([sys.executable, "-c", program], check=True)
    wanted = {"NatsQueue", "LocalQueue", "LargeBotQueue", "Queue", "Turn", "Grant", "Progress", "Reason", "OnProgress"}
    wanted |= {"QueueClosedError", "queue_from_environment", "shard_options", "WrongEnvironmentError", "__version__"}
    assert wanted <= set(nats_identify.__all__)


def test_the_front_door_leaves_out_nothing_public_of_the_interface():
    module = inspect.getmodule(nats_identify.Queue)
    public = {name for name, value in vars(module).items() if inspect.isclass(value) and not name.startswith("_")}
    ours = {name for name in public if getattr(module, name).__module__.startswith("nats_identify")}
    assert ours <= set(nats_identify.__all__)


@pytest.mark.parametrize("name", sorted(set(nats_identify.__all__) - {"OnProgress", "__version__"}))
def test_every_public_thing_says_what_it_is(name):
    public = getattr(nats_identify, name)
    assert public.__doc__
    if inspect.isclass(public):
        methods = [member for key, member in vars(public).items() if inspect.isfunction(member) and key[0] != "_"]
        assert [method.__name__ for method in methods if not method.__doc__] == []


@pytest.mark.parametrize("public", [Grant, Progress, Shards, Judgement, ErrorResponse, Report])
def test_every_field_is_documented_with_its_unit(public):
    for field in dataclasses.fields(public):
        found = re.search(rf"^    {field.name}: (.*)$", str(inspect.getdoc(public)), re.MULTILINE)
        assert found, f"{public.__name__}.{field.name} is not documented"
        unit = next((unit for suffix, unit in UNITS.items() if field.name.endswith(suffix)), "")
        assert unit in found[1], f"{public.__name__}.{field.name} does not say its unit"


def test_every_attribute_of_a_turn_is_documented():
    turn = LocalQueue().turn(0)
    assert isinstance(turn, Turn)
    for name in (name for name in vars(turn) if not name.startswith("_")):
        assert f"\n    {name}: " in str(inspect.getdoc(Turn)), f"Turn.{name} is not documented"


# --- reasons


@pytest.mark.parametrize("enum", [model.Reason, model.Code])
def test_whatever_the_schedule_says_is_a_reason_of_the_same_value(enum: type[StrEnum]):
    for member in enum:
        assert Reason(member).value == member.value
        assert Reason(member) is not Reason.UNKNOWN


def test_every_reason_is_documented():
    named = re.findall(r"^    ([A-Z_]+): ", str(inspect.getdoc(Reason)), re.MULTILINE)
    assert named == [reason.name for reason in Reason]


def begun() -> Requester:
    requester = Requester(5, "r", jitter=half, max_concurrency=4)
    requester.handle(Begin(), 0)
    return requester


def told_by(requester: Requester, reply: dict[str, object]) -> list[ReportProgress]:
    received = Received(wire.decode_reply(json.dumps(reply).encode()))
    return [action for action in requester.handle(received, 0) if isinstance(action, ReportProgress)]


@pytest.mark.parametrize("value", [reason.value for reason in Reason])
def test_a_shard_is_told_each_reason_that_is_on_the_wire(value):
    (told,) = told_by(begun(), {**QUEUED, "reason": value})
    assert told.reason is Reason(value)


def test_a_reason_that_is_newer_than_this_library_is_unknown_and_the_wait_goes_on():
    requester = begun()
    (told,) = told_by(requester, {**QUEUED, "reason": "of next year"})
    assert (told.reason, told.position) == (Reason.UNKNOWN, 2)
    assert requester.state is State.ASKING
    (renewal,) = requester.handle(Tick(), 10 * SECOND)
    assert isinstance(renewal, SendRequest)


def test_a_refusal_that_is_newer_than_this_library_is_unknown_and_the_shard_asks_again():
    requester = begun()
    (told,) = told_by(requester, {**REFUSED, "code": "of next year", "retry_after_ms": 3_000})
    assert (told.reason, told.problem) == (Reason.UNKNOWN, "why")
    assert requester.state is State.ASKING
    assert requester.handle(Tick(), 2 * SECOND) == []
    (again,) = requester.handle(Tick(), 6 * SECOND)
    assert isinstance(again, SendRequest)


@pytest.mark.parametrize("code", [code.value for code in model.Code])
def test_a_shard_is_told_each_refusal_as_a_reason(code):
    requester = begun()
    reply = wire.decode_reply(json.dumps({**REFUSED, "code": code}).encode())
    actions = requester.handle(Received(reply), 0)
    assert [action.reason for action in actions if isinstance(action, ReportProgress)] == [Reason(code)]
    assert any(isinstance(action, AskAnew) for action in actions) is (code == "ended")


@pytest.mark.parametrize("reason", [7, None, ["window"]])
def test_a_reason_that_is_no_text_is_no_reply(reason):
    with pytest.raises(ValueError, match="reason"):
        wire.decode_reply(json.dumps({**QUEUED, "reason": reason}).encode())


async def test_a_queue_of_one_process_tells_the_same_enum():
    queue = LocalQueue()
    told: list[Progress] = []
    await queue.acquire(0)
    waits = asyncio.create_task(queue.acquire(1, on_progress=told.append))
    await until(lambda: bool(told))
    await queue.close()
    with pytest.raises(QueueClosedError):
        await waits
    assert {type(progress.reason) for progress in told} == {Reason}
