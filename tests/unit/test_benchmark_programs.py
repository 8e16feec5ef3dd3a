"""What the benchmark talks with: a queue behind a program's lines, and a crowd's bare socket."""

import asyncio
import sys

import pytest

from benchmarks.crowd import Crowd, Link, Order
from benchmarks.peers.program_queue import program_queue
from benchmarks.programs import Programs
from nats_identify.clock import now_ns
from nats_identify.discord.session_limit import SessionLimit
from tests.processes import until

OBEYS = """
import sys
waiting = []
for line in sys.stdin:
    order, *numbers = line.split()
    if order == "limits":
        limits = numbers
    elif order == "ask":
        waiting.append(numbers[0])
    elif order == "drop":
        waiting.remove(numbers[0])
    if len(waiting) == 3:
        for number in reversed(waiting):
            print(number, flush=True)
        waiting.clear()
"""
"""A queue that grants three requests at a time, the last one first."""

LIMIT = SessionLimit(shards=1, max_concurrency=2, total=10, remaining=10, reset_after_ms=0)


async def test_a_program_grants_by_number_and_one_that_is_dropped_is_not_counted():
    async with program_queue((sys.executable, "-c", OBEYS), LIMIT) as queue, asyncio.timeout(60):
        dropped, *others = [asyncio.create_task(queue.acquire(shard_id)) for shard_id in (7, 5)]
        await asyncio.sleep(0)  # both have asked
        dropped.cancel()
        await asyncio.wait({dropped})
        others += [asyncio.create_task(queue.acquire(shard_id)) for shard_id in (4, 3)]
        grants = await asyncio.gather(*others)
    assert [(grant.shard_id, grant.bucket) for grant in grants] == [(5, 1), (4, 0), (3, 1)]


async def test_a_program_that_is_killed_or_frozen_is_gone_at_the_end():
    async with Programs() as programs:
        killed, frozen = [await programs.start(sys.executable, "-c", OBEYS) for _ in range(2)]
        frozen.freeze()
        await killed.kill()
        assert killed.ended.done()
        assert not frozen.ended.done()
    assert frozen.ended.done()


async def test_the_line_that_names_an_error_is_shown_before_the_last_one():
    async with Programs() as programs:
        complains = "raise RuntimeError('no sessions left')"
        failed = await programs.start(sys.executable, "-c", f"try:\n {complains}\nfinally:\n print('bye')")

        async def has_said():
            return failed.ended.done() and "no sessions left" in failed.last_words

        await until(has_said, "the error")


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += bytes(data)


def payload(number, status, **fields):
    text = "".join(f',"{name}":{value}' for name, value in fields.items())
    return b'{"status":"%s","number":%d%s}' % (status.encode(), number, text.encode())


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_replies_are_read_wherever_the_stream_is_cut(step):
    taken = []

    class Listening(Crowd):
        def take_reply(self, number, reply_to, body):
            taken.append((number, reply_to, body))

    crowd = Listening(Order(0, 1, 1, 1))
    wire = Wire()
    link = Link(crowd, "_INBOX.x")
    link.connection_made(wire)
    stream = (
        b'INFO {"x":1}\r\n+OK\r\nPING\r\n'
        b"MSG _INBOX.x.5 1 4\r\nab\r\n\r\n"
        b"MSG _INBOX.x.6 1 identify.confirm.0.g 3\r\nabc\r\n"
        b"HMSG _INBOX.x.7 1 12 14\r\nNATS/1.0\r\n\r\nde\r\n"
        b"HMSG _INBOX.x.8 1 to.me 12 12\r\nNATS/1.0\r\n\r\n\r\n"
        b"-ERR 'slow'\r\n"
    )
    for at in range(0, len(stream), step):
        link.data_received(stream[at : at + step])
    assert taken == [(5, b"", b"ab\r\n"), (6, b"identify.confirm.0.g", b"abc"), (7, b"", b"de"), (8, b"to.me", b"")]
    assert wire.written.endswith(b"PONG\r\n")
    assert crowd.line.trouble == "-ERR 'slow'"


def test_a_nudge_is_answered_at_once_and_a_grant_is_used_once():
    crowd = Crowd(Order(0, 1, 1, 1, connections=1))
    wire = Wire()
    link = crowd.links[0]
    link.connection_made(wire)
    crowd.ask_some(now_ns())
    crowd.take_reply(0, b"", payload(0, "queued", renew_in_ms=0))
    crowd.take_reply(0, b"to.1", payload(0, "granted", renewal=1, use_within_ms=60_000))
    crowd.take_reply(0, b"to.2", payload(0, "granted", renewal=1, use_within_ms=60_000))
    link.flush()
    assert wire.written.count(b"PUB identify.request.0 ") == 2
    assert wire.written.count(b'{"outcome":"identified"}') == 1
    assert crowd.line.waiting == 0


def test_a_grant_that_comes_too_late_is_declined_and_the_request_goes_on():
    crowd = Crowd(Order(0, 1, 1, 1, connections=1))
    wire = Wire()
    crowd.links[0].connection_made(wire)
    crowd.ask_some(now_ns())
    crowd.take_reply(0, b"to.1", payload(0, "granted", renewal=0, use_within_ms=-1))
    crowd.renew_due(now_ns())
    crowd.links[0].flush()
    assert b'PUB to.1 22\r\n{"outcome":"declined"}\r\n' in wire.written
    assert wire.written.count(b"PUB identify.request.0 ") == 2
    assert (crowd.line.waiting, crowd.line.declined) == (1, 1)
