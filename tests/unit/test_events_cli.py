"""`nats-identify events` and `history`: which events pass, and what a line of them is."""

import json

import pytest

from nats_identify.cli.events import CLIENTS_KEPT, EVENT_BYTES_MAX, EventFilter, in_a_line, read_event, show

QUEUED = {"at": "2026-11-27T16:02:03.1Z", "shard_id": 17, "bucket": 1, "request_id": "abc", "client": "shards-17"}
GRANTED = {"at": "2026-11-27T16:02:04.1Z", "shard_id": 17, "bucket": 1, "request_id": "abc", "waited_ms": 5}


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (EventFilter(), True),
        (EventFilter(frozenset({"granted"})), True),
        (EventFilter(frozenset({"queued", "ready"})), False),
        (EventFilter(without=frozenset({"granted"})), False),
        (EventFilter(without=frozenset({"queued"})), True),
        (EventFilter(shard_id=17), True),
        (EventFilter(shard_id=1), False),
        (EventFilter(bucket=1, shard_id=17), True),
        (EventFilter(bucket=2, shard_id=17), False),
        (EventFilter(client="shards-17"), False),
    ],
)
def test_a_filter(wanted, passes):
    assert wanted.passes("granted", GRANTED) is passes


def test_the_client_of_a_request_is_remembered_for_its_grant():
    wanted = EventFilter(client="shards-17")
    assert wanted.passes("queued", QUEUED)
    assert wanted.passes("granted", GRANTED)
    for number in range(CLIENTS_KEPT):
        wanted.passes("queued", {"request_id": f"r{number}", "client": "other"})
    assert not wanted.passes("granted", GRANTED)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"1", b"\xff", b"{" * 5000, b"[" * 16_000, b'{"a":"' + b"x" * EVENT_BYTES_MAX + b'"}']
)
def test_what_is_no_event_is_dropped(payload):
    assert read_event(payload) is None


def test_a_line_names_the_shard_first():
    assert in_a_line("queued", QUEUED) == (
        "2026-11-27T16:02:03.1Z  queued        shard 17  bucket 1  client shards-17  request_id=abc"
    )


def test_text_from_outside_is_escaped_in_lines_and_in_json(capsys):
    fields = {"at": "\x1b[2J", "client": "\x9b31m", "\u202ek": "\n"}
    show("x\x07", fields, as_json=False)
    show("x\x07", fields, as_json=True)
    plain, line = capsys.readouterr().out.splitlines()
    assert plain.isprintable()
    assert line.isascii()
    assert json.loads(line) == {"name": "x\x07", **fields}
