"""What a connection publishes without a task, as a real nats-server passes it on: grants first, whole or not at all."""

import asyncio

import pytest
from nats import errors

from coordinator.edge.connections import connect
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from coordinator.settings import Settings
from tests.processes import WITHIN_S


@pytest.fixture
async def connection(nats_server):
    """A coordinator's connection."""
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    settings = Settings(nats_url=nats_server.url)
    made = await connect(settings, "traffic", log=make_log("error", "json"), metrics=Metrics(), lost=lost)
    yield made
    await made.leave()


@pytest.fixture
async def received(client):
    """All that arrives."""
    subscription = await client.subscribe("in.>")
    await client.publish("in.subscribed")  # nats-py may take the PONG of its connect for that of the first flush
    await subscription.next_msg(timeout=WITHIN_S)

    async def take(count):
        messages = [await subscription.next_msg(timeout=WITHIN_S) for _ in range(count)]
        assert subscription.pending_msgs == 0
        return messages

    return take


async def test_of_what_is_published_in_one_turn_grants_go_first(connection, received):
    connection.publish_now("in.1", b"queued")
    connection.publish_now("in.2", b"granted", answer_to="confirm.1", is_first=True)
    connection.publish_now("in.3", b"queued")
    connection.publish_now("in.4", b"granted", answer_to="confirm.2", is_first=True)
    messages = await received(4)
    assert [(message.subject, message.reply) for message in messages] == [
        ("in.2", "confirm.1"),
        ("in.4", "confirm.2"),
        ("in.1", ""),
        ("in.3", ""),
    ]
    connection.publish_now("in.5", b"queued")
    connection.publish_now("in.6", b"granted", is_first=True)
    assert [message.subject for message in await received(2)] == ["in.6", "in.5"]


async def test_a_header_arrives_and_so_does_what_publish_sends(connection, received):
    connection.publish_now("in.1", b"{}", header=b"NATS/1.0\r\nA: b\r\n\r\n")
    await connection.publish("in.2", b"later")
    first, second = await received(2)
    assert (first.headers, first.data, second.data) == ({"A": "b"}, b"{}", b"later")


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0", "a\tb"])
async def test_a_subject_that_would_break_the_line_is_not_sent(connection, received, subject):
    with pytest.raises(errors.BadSubjectError):
        connection.publish_now(subject, b"")
    if subject:
        with pytest.raises(errors.BadSubjectError):
            connection.publish_now("in.1", b"", answer_to=subject)
    connection.publish_now("in.2", b"")
    assert [message.subject for message in await received(1)] == ["in.2"]


async def test_what_the_server_would_not_take_is_not_sent(connection, received):
    half = b"x" * (connection.max_payload // 2)
    with pytest.raises(errors.MaxPayloadError):
        connection.publish_now("in.1", half, header=half + b"y")
    connection.publish_now("in.2", b"")
    assert [message.subject for message in await received(1)] == ["in.2"]
