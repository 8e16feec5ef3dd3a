"""Messages as the server writes them, however the network cuts them up."""

import asyncio
from itertools import pairwise
from typing import cast

import pytest
from nats.aio.client import Client as NatsClient

from nats_identify.nats_protocol import SERVED_AT_ONCE, Handler, StrictParser

STREAM = (
    b"PING\r\n"
    b"MSG a.b 1 5\r\nhello\r\n"
    b"MSG a.\x0bb 2 _INBOX.x 0\r\n\r\n"
    b"+OK\r\n"
    b"HMSG c 3 _INBOX.y 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
    b"HMSG d 4 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"MSG \xff\xfe 5 8\r\nMSG x\r\n\r\r\n"
    b"PONG\r\n"
)
SEEN = [
    "ping",
    (1, b"a.b", b"", b"hello", b""),
    (2, b"a.\x0bb", b"_INBOX.x", b"", b""),
    (3, b"c", b"_INBOX.y", b"hi", b"NATS/1.0\r\n\r\n"),
    (4, b"d", b"", b"", b"NATS/1.0 503\r\n\r\n"),
    (5, b"\xff\xfe", b"", b"MSG x\r\n\r", b""),
    "pong",
]


class Client:
    """Notes what the parser hands on."""

    def __init__(self):
        self.seen = []
        self._pings_outstanding = 0

    async def _process_msg(self, *message):
        self.seen.append(message)

    async def _process_ping(self):
        self.seen.append("ping")

    async def _process_pong(self):
        self.seen.append("pong")


def _refuse(*message):
    pytest.fail(f"taken for a large message: {message}")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, len(STREAM)])
async def test_every_message_is_read_however_it_is_cut(size):
    client = Client()
    protocol = StrictParser(cast("NatsClient", client))
    for start in range(0, len(STREAM), size):
        await protocol.parse(STREAM[start : start + size])
    assert client.seen == SEEN
    assert not protocol.buf


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, len(STREAM)])
async def test_a_handler_gets_its_subscriptions_messages_and_nobody_elses(size):
    client, handled = Client(), []
    protocol = StrictParser(cast("NatsClient", client))
    for sid in (b"1", b"3", b"4"):
        protocol.handlers[sid] = Handler(lambda *message: handled.append(message), _refuse, 100)
    for start in range(0, len(STREAM), size):
        await protocol.parse(STREAM[start : start + size])
    assert handled == [
        (b"a.b", b"", b"", b"hello"),
        (b"c", b"_INBOX.y", b"NATS/1.0\r\n\r\n", b"hi"),
        (b"d", b"", b"NATS/1.0 503\r\n\r\n", b""),
    ]
    assert client.seen == [seen for seen in SEEN if seen[0] not in {1, 3, 4}]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 60, 10_000])
async def test_a_large_message_is_told_by_its_sizes_and_no_byte_of_it_is_kept(size):
    client, handled = Client(), []
    protocol = StrictParser(cast("NatsClient", client))
    protocol.handlers[b"1"] = Handler(
        lambda *message: handled.append(message), lambda *message: handled.append(message), 10
    )
    small, large = b"MSG a 1 10\r\n0123456789\r\n", b"x" * 1_000 + b"\r\nMSG a 1 1\r\n"
    plain = b"MSG a 1 _INBOX.x %d\r\n%s\r\n" % (len(large), large)
    headed = b"HMSG a 1 900 %d\r\n%s\r\n" % (len(large), large)
    stream = small + plain + small + headed + b"PING\r\n" + small
    most = 0
    for start in range(0, len(stream), size):
        await protocol.parse(stream[start : start + size])
        most = max(most, len(protocol.buf))
    kept = (b"a", b"", b"", b"0123456789")
    passed = [(b"a", b"_INBOX.x", 0, len(large)), (b"a", b"", 900, len(large) - 900)]
    assert handled == [kept, passed[0], kept, passed[1], kept]
    assert client.seen == ["ping"]
    assert most < 60, "of a large message more than its line was kept"


async def test_a_new_connection_begins_with_a_new_stream():
    client, handled = Client(), []
    protocol = StrictParser(cast("NatsClient", client))
    protocol.handlers[b"1"] = Handler(lambda *message: handled.append(message), lambda *_: None, 10)
    for cut_short in (b"MSG a 1 100\r\nxxx", b"MSG a 1 5\r\nxx", b"MSG b 2 5\r\nxx", b"MSG a"):
        await protocol.parse(cut_short)
        protocol.reset()
        await protocol.parse(b"MSG a 1 1\r\ny\r\n")
    assert [message[-1] for message in handled] == [b"y"] * 4


async def test_what_follows_a_line_that_ends_the_connection_is_not_read_as_the_next_ones():
    class Ending(Client):
        async def _process_ping(self):
            protocol.reset()  # as nats-py does where a connection breaks while it is read

    protocol = StrictParser(cast("NatsClient", Ending()))
    await protocol.parse(b"PING\r\nMSG a 1")
    assert not protocol.buf


async def test_whatever_arrives_stands_for_a_pong():
    """A pong stands behind all that the server has to send, for longer than a few pings in a flood."""
    client = Client()
    client._pings_outstanding = 2
    await StrictParser(cast("NatsClient", client)).parse(b"MSG a 1 1")
    assert client._pings_outstanding == 0


async def test_the_loop_turns_while_much_is_served():
    """The answers of the ledger are read between: at most a slice of the crowd's messages is served before."""
    client, served, turns = Client(), [], []
    protocol = StrictParser(cast("NatsClient", client))
    protocol.handlers[b"1"] = Handler(lambda *message: served.append(message), _refuse, 4_096)
    message = b"MSG a.b 1 200\r\n" + b"x" * 200 + b"\r\n"

    async def turn():
        while True:
            turns.append(len(served))
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await protocol.parse(message * 2_000 + b"PING\r\n" + message[:100])
    turning.cancel()
    await protocol.parse(message[100:])
    assert len(served) == 2_001
    assert client.seen == ["ping"]
    steps = [later - earlier for earlier, later in pairwise(turns)]
    assert max(steps) <= SERVED_AT_ONCE // len(message) + 2
    assert not protocol.buf
