"""What a connection publishes without a task, as a real nats-server passes it on: grants first, whole or not at all."""

import asyncio
import contextlib
import socket

import pytest
from nats import errors

from coordinator.edge.connections import connect
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from coordinator.settings import Settings
from tests.processes import WITHIN_S, until


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


def subscribed(port):
    """A subscriber that needs no event loop; return its socket."""
    peer = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)
    peer.sendall(b"CONNECT {}\r\nSUB in.> 1\r\nPING\r\n")
    while not peer.recv(65_536).endswith(b"PONG\r\n"):
        pass
    return peer


async def test_what_is_written_out_leaves_before_the_event_loop_turns(connection, nats_server):
    with subscribed(nats_server.port) as peer:
        connection.publish_now("in.1", b"queued")
        connection.publish_now("in.2", b"granted", is_first=True)
        connection.write_out()
        assert peer.recv(65_536) == b"MSG in.2 1 7\r\ngranted\r\nMSG in.1 1 6\r\nqueued\r\n"
        assert connection.pending_data_size == 0
        answer = connection.ask("in.3", b"question", within_s=WITHIN_S)
        assert peer.recv(65_536).startswith(b"MSG in.3 1 _INBOX.")
        assert not answer.done()


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


async def test_grants_go_first_after_another_command_began_the_batch(connection, received):
    connection.publish_now("in.1", b"granted", is_first=True)
    connection.publish_now("in.2", b"granted", is_first=True)
    await received(2)
    await connection.publish("in.3", b"by the library itself")
    connection.publish_now("in.4", b"queued")
    connection.publish_now("in.5", b"granted", is_first=True)
    subjects = [message.subject for message in await received(3)]
    assert subjects.index("in.5") < subjects.index("in.4")


async def test_each_answer_goes_to_its_own_question_and_a_late_one_to_none(connection, client):
    subscription = await client.subscribe("question")
    await client.publish("question", b"subscribed")  # as above
    await subscription.next_msg(timeout=WITHIN_S)
    with pytest.raises(errors.TimeoutError):
        await connection.ask("question", b"0", within_s=0.01)
    questions = [connection.ask("question", b"%d" % n, within_s=WITHIN_S) for n in (1, 2)]
    asked = [await subscription.next_msg(timeout=WITHIN_S) for _ in range(3)]
    for message in asked:  # the first one's answer is too late
        await client.publish(message.reply, b"to " + message.data)
    for message in reversed(asked):
        await client.publish(message.reply, b"once more")
    assert await asyncio.gather(*questions) == [(b"", b"to 1"), (b"", b"to 2")]
    header, body = await connection.ask("unknown", b"", within_s=WITHIN_S)
    assert (header.startswith(b"NATS/1.0 503"), body) == (True, b"")


async def test_nothing_is_asked_while_nothing_can_be_sent(connection, nats_server):
    async def is_cut():
        return not connection.can_send

    await nats_server.kill()
    await until(is_cut, "the connection is lost")
    with pytest.raises(errors.OutboundBufferLimitError):
        await connection.ask("question", b"", within_s=WITHIN_S)


async def test_a_request_without_a_connection_leaves_nothing_behind(connection, nats_server):
    async def is_cut():
        return not connection.is_connected

    with pytest.raises(errors.NoRespondersError):
        await connection.request("question", b"")
    await nats_server.kill()
    await until(is_cut, "the connection is lost")
    for _ in range(100):
        with pytest.raises(errors.OutboundBufferLimitError):
            await connection.request("question", b"")
    assert connection._resp_map == {}


class StallingServer:
    """A NATS server that reads nothing more once it stalls, and breaks that connection when it is told to.

    Attributes:
        arrived: what came over each connection.
    """

    INFO = b'INFO {"server_id":"x","version":"2.11.0","proto":1,"max_payload":1048576,"headers":true}\r\n'

    def __init__(self):
        self.arrived = [b""]
        self.stalls, self.breaks = asyncio.Event(), asyncio.Event()

    async def serve(self, reader, writer):
        number = len(self.arrived) - 1
        writer.write(self.INFO)
        while not (number == 0 and self.stalls.is_set()):
            with contextlib.suppress(TimeoutError):
                data = await asyncio.wait_for(reader.read(65_536), 0.05)
                if not data:
                    return
                self.arrived[number] += data
                writer.write(b"PONG\r\n" * data.count(b"PING\r\n"))
        await self.breaks.wait()
        writer.transport.abort()
        self.arrived.append(b"")


@pytest.mark.parametrize("is_written_out", [False, True], ids=["by nats-py", "at once"])
async def test_what_was_not_written_before_a_connection_broke_is_not_sent_by_the_next(is_written_out):
    server = StallingServer()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        settings = Settings(nats_url=f"nats://127.0.0.1:{port}")
        connection = await connect(settings, "traffic", log=make_log("error", "json"), metrics=Metrics(), lost=lost)
        server.stalls.set()
        for _ in range(200):
            if connection.pending_data_size > 100_000:  # it is not written: the socket's buffers are full
                break
            connection.publish_now("in.filler", b"x" * 100_000)
            if is_written_out:
                connection.write_out()
            await asyncio.sleep(0.005)  # the flusher has its turn
        else:
            pytest.fail("the socket takes all")
        assert connection.can_send
        connection.publish_now("in.plain", b"granted", is_first=True)
        if is_written_out:
            connection.write_out()
            assert connection.pending_data_size > 100_000  # it leaves this to nats-py, which waits for room
        server.breaks.set()

        async def asks_again() -> bool:
            return len(server.arrived) == 2 and b"PING" in server.arrived[1]

        await until(asks_again, "it is back")
        connection.publish_now("in.last", b"queued")

        async def has_sent() -> bool:
            return b"in.last" in server.arrived[1]

        await until(has_sent, "what is published now arrives")
        assert b"in.plain" not in server.arrived[1]
        await connection.leave()
