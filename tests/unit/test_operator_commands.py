"""The edge of an operator's commands: what is read, what is refused, and by which replica."""

import json
from typing import Any

import pytest

from coordinator.core.ledger import Handover
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.operator import FOR_PEOPLE, OperatorCommands, decode_command
from coordinator.edge.query import pause_status
from nats_identify.operator_wire import COMMAND_BYTES_MAX, Command, PauseStatus
from nats_identify.schedule import model
from nats_identify.schedule.model import SECOND, Code, Operator
from nats_identify.schedule.pause import Paused
from nats_identify.wire import Subjects

WHO = {"by": "alice", "why": "a test"}
ALICE = Operator("alice", "a test", "inbox")


class Answers:
    """Notes the replies to operators."""

    def __init__(self):
        self.given = []

    def reply_to_command(self, reply, term):
        self.given.append((reply.to, reply.command, reply.code, term))


def commands(*, is_leading=True, queued_max=10):
    event_queue, answers = EventQueue(queued_max), Answers()
    publisher: Any = answers
    part = OperatorCommands(Subjects(), event_queue, publisher=publisher, is_leading=lambda: is_leading)
    return part, event_queue, answers


@pytest.mark.parametrize(
    ("command", "fields", "event"),
    [
        (Command.PAUSE, {}, model.Pause(ALICE)),
        (Command.PAUSE, {"for_ms": 1000, "below_priority": 1}, model.Pause(ALICE, SECOND, 1)),
        (Command.RESUME, {}, model.Resume(ALICE)),
        (Command.KICK, {"request_id": "r1"}, model.Kick(ALICE, "r1")),
        (Command.RELEASE, {"grant_id": "g1", "outcome": "declined"}, model.Release(ALICE, "g1")),
        (Command.PARDON, {"shard_id": 7}, model.Pardon(ALICE, 7)),
        (Command.HANDOVER, {"of a later version": True}, Handover(ALICE)),
    ],
)
def test_a_payload_is_read_as_an_event(command, fields, event):
    assert decode_command(command, json.dumps({**WHO, **fields}).encode(), "inbox") == event


def test_each_command_is_described():
    assert set(FOR_PEOPLE) == set(Command)


@pytest.mark.parametrize(("ends_ns", "left_ms"), [(None, None), (10 * SECOND + 1, 9_001), (SECOND, 0)])
def test_a_pause_is_shown_with_what_is_left_of_it(ends_ns, left_ms):
    expected = PauseStatus(below_priority=1, left_ms=left_ms, by="alice", why="a test")
    assert pause_status(Paused(1, ends_ns, "alice", "a test"), SECOND) == expected
    assert pause_status(None, SECOND) is None


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"{}", b"[]", b"\xff", b'{"by":""}', b'{"by":1}', b'{"by":"a","for_ms":0}'),
        *(b'{"by":"a","for_ms":604800001}', b'{"by":"a","below_priority":12}', b" " * COMMAND_BYTES_MAX + b"{}"),
    ],
)
def test_what_is_no_command_is_refused_by_the_leader_alone(payload):
    part, event_queue, answers = commands()
    part.receive(Command.PAUSE, payload, "inbox")
    assert (answers.given, len(event_queue)) == ([("inbox", "pause", Code.BAD_REQUEST, 0)], 0)
    part, event_queue, answers = commands(is_leading=False)
    part.receive(Command.PAUSE, payload, "inbox")
    assert (answers.given, len(event_queue)) == ([], 0)


def test_a_command_beyond_the_room_of_the_event_queue_is_refused_overloaded():
    part, event_queue, answers = commands(queued_max=1)
    payload = json.dumps(WHO).encode()
    part.receive(Command.RESUME, payload, "one")
    part.receive(Command.RESUME, payload, "two")
    assert (len(event_queue), answers.given) == (1, [("two", "resume", Code.OVERLOADED, 0)])
