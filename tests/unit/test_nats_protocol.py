"""Messages as the server writes them, however the network cuts them up."""

from typing import cast

import pytest
from nats.aio.client import Client as NatsClient

from nats_identify.nats_protocol import Protocol

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

    async def _process_msg(self, *message):
        self.seen.append(message)

    async def _process_ping(self):
        self.seen.append("ping")

    async def _process_pong(self):
        self.seen.append("pong")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, len(STREAM)])
async def test_every_message_is_read_however_it_is_cut(size):
    client = Client()
    protocol = Protocol(cast("NatsClient", client))
    for start in range(0, len(STREAM), size):
        await protocol.parse(STREAM[start : start + size])
    assert client.seen == SEEN
    assert not protocol.buf


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, len(STREAM)])
async def test_a_handler_gets_its_subscriptions_messages_and_nobody_elses(size):
    client, handled = Client(), []
    protocol = Protocol(cast("NatsClient", client))
    for sid in (b"1", b"3", b"4"):
        protocol.handlers[sid] = lambda *message: handled.append(message)
    for start in range(0, len(STREAM), size):
        await protocol.parse(STREAM[start : start + size])
    assert handled == [
        (b"a.b", b"", b"", b"hello"),
        (b"c", b"_INBOX.y", b"NATS/1.0\r\n\r\n", b"hi"),
        (b"d", b"", b"NATS/1.0 503\r\n\r\n", b""),
    ]
    assert client.seen == [seen for seen in SEEN if seen[0] not in {1, 3, 4}]
