"""What a connection publishes without a task: written at once for each turn of the loop, grants first."""

import asyncio
from typing import Any, cast

import pytest
from nats import errors

from coordinator.edge.connections import Connection, ConnectionContext
from coordinator.edge.metrics import Metrics


class Transport:
    """Notes each write."""

    def __init__(self):
        self.writes = []

    def writelines(self, lines):
        self.writes.append(b"".join(lines))

    async def drain(self):
        """All is sent at once."""


@pytest.fixture
async def connection():
    """A connection that has just been made, as far as it writes."""
    nothing: Any = None
    context = ConnectionContext("traffic", "", (b"$",), nothing, Metrics(), nothing)
    made = cast("Any", Connection(context))
    made._transport, made._status, made._flush_queue = Transport(), Connection.CONNECTED, asyncio.Queue()
    made._max_payload = 1_000
    flushing = asyncio.create_task(made._flusher())
    yield made
    flushing.cancel()


async def written(connection):
    while connection._pending:  # noqa: ASYNC110  # the flusher has its turn
        await asyncio.sleep(0)
    return connection._transport.writes


async def test_what_is_published_in_one_turn_is_one_write_and_grants_go_first(connection):
    connection.publish_now("in.1", b"queued")
    connection.publish_now("in.2", b"granted", answer_to="confirm.1", is_first=True)
    connection.publish_now("in.3", b"queued")
    connection.publish_now("in.4", b"granted", answer_to="confirm.2", is_first=True)
    (write,) = await written(connection)
    assert write.split(b"\r\n")[::2] == [
        b"PUB in.2 confirm.1 7",
        b"PUB in.4 confirm.2 7",
        b"PUB in.1  6",
        b"PUB in.3  6",
        b"",
    ]
    connection.publish_now("in.5", b"queued")
    connection.publish_now("in.6", b"granted", is_first=True)
    assert (await written(connection))[1].startswith(b"PUB in.6 ")


async def test_a_header_is_counted(connection):
    connection.publish_now("in", b"{}", header=b"NATS/1.0\r\nA: b\r\n\r\n")
    (write,) = await written(connection)
    assert write == b"HPUB in  18 20\r\nNATS/1.0\r\nA: b\r\n\r\n{}\r\n"


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0", "a\tb"])
async def test_a_subject_that_would_break_the_line_is_not_sent(connection, subject):
    with pytest.raises(errors.BadSubjectError):
        connection.publish_now(subject, b"")
    if subject:
        with pytest.raises(errors.BadSubjectError):
            connection.publish_now("in", b"", answer_to=subject)
    assert connection._pending == []


async def test_what_the_server_would_not_take_is_not_sent(connection):
    with pytest.raises(errors.MaxPayloadError):
        connection.publish_now("in", b"x" * 900, header=b"y" * 101)
    assert connection._pending == []
