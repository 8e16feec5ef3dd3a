"""The operator's commands and the stream of events: who may give them, who may read it, on a real nats-server."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from nats_identify.history import read_history
from nats_identify.operator_wire import Command
from tests.deploy.conftest import docs_of
from tests.deploy.server import running
from tests.deploy.test_roles import allowed, coordinating
from tests.processes import WITHIN_S, settle, until

COMMANDS = [f"identify.{command}" for command in Command]
EVENTS = "identify_events"
LEDGER = "$KV.identify.ledger"
CHANGES = [f"$JS.API.STREAM.{verb}.{EVENTS}" for verb in ("DELETE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT")]
MAKING = [f"$JS.API.STREAM.{verb}.{EVENTS}" for verb in ("CREATE", "UPDATE")]
READING = [f"$JS.API.STREAM.{verb}.{EVENTS}" for verb in ("INFO", "MSG.GET")] + [
    *(f"$JS.API.DIRECT.GET.{EVENTS}", f"$JS.API.DIRECT.GET.{EVENTS}.identify.event.granted"),
    *(f"$JS.API.CONSUMER.CREATE.{EVENTS}.c", f"$JS.API.CONSUMER.CREATE.{EVENTS}.c.identify.event.>"),
    *(f"$JS.API.CONSUMER.{verb}.{EVENTS}.c" for verb in ("INFO", "MSG.NEXT", "DELETE")),
]


@pytest.fixture
def docs(tree):
    return docs_of(tree, "dev")


@pytest.fixture
async def server(docs, tmp_path):
    async with running(docs, tmp_path / "nats") as server:
        yield server


async def connected(server, role):
    return await nats.connect(server.url, **server.way_in(role))


async def with_events(server, subjects=("identify.event.>",)):
    """Make the stream as a coordinator would, and put three events into it; return the coordinator's connection."""
    coordinator = await connected(server, "coordinator")
    await coordinator.jetstream().add_stream(
        StreamConfig(EVENTS, subjects=list(subjects), max_age=3600, max_bytes=1_000_000, allow_direct=True)
    )
    for name in ("queued", "granted", "identified"):
        await coordinator.publish(f"identify.event.{name}", json.dumps({"shard_id": 3}).encode())

    async def are_stored():
        return (await coordinator.jetstream().stream_info(EVENTS)).state.messages == 3

    await until(are_stored, "three events are stored")
    return coordinator


async def test_every_command_goes_from_an_operator_to_a_coordinator(server):
    coordinator, operator = await connected(server, "coordinator"), await connected(server, "operator")

    async def answer(message):
        await message.respond(message.subject.encode())

    for subject in COMMANDS:
        await coordinator.subscribe(subject, cb=answer)
        await settle(coordinator, "identify.info")
        reply = await operator.request(subject, b'{"by": "a test"}', timeout=WITHIN_S)
        assert reply.data.decode() == subject
    await coordinator.close()
    await operator.close()
    assert "Violation" not in server.log


@pytest.mark.parametrize("role", ["shard", "coordinator"])
async def test_nobody_else_gives_a_command(server, role):
    assert await allowed(server, role, "publish", COMMANDS) == []


@pytest.mark.parametrize("role", ["shard", "operator"])
async def test_nobody_else_receives_a_command(server, role):
    assert await allowed(server, role, "subscribe", COMMANDS) == []


async def test_an_operator_reads_the_events_in_each_way_that_there_is(server):
    """A pull consumer, an ordered one, one message, and the direct gets that a mirror or a tool uses."""
    coordinator, operator = await with_events(server), await connected(server, "operator")
    stream = operator.jetstream()
    assert (await stream.stream_info(EVENTS)).state.messages == 3
    pulled = await stream.pull_subscribe("identify.event.>", stream=EVENTS)
    read = await pulled.fetch(3, timeout=WITHIN_S)
    assert [message.subject.rpartition(".")[2] for message in read] == ["queued", "granted", "identified"]
    for message in read:
        await message.ack()
    await pulled.unsubscribe()
    ordered = await stream.subscribe("identify.event.granted", stream=EVENTS, ordered_consumer=True)
    assert json.loads((await ordered.next_msg(timeout=WITHIN_S)).data)["shard_id"] == 3
    await ordered.unsubscribe()
    assert (await stream.get_msg(EVENTS, seq=1)).subject == "identify.event.queued"
    assert (await stream.get_msg(EVENTS, subject="identify.event.granted", direct=True)).seq == 2
    named = ConsumerConfig(name="c", ack_policy=AckPolicy.NONE, filter_subject="identify.event.>")
    await stream.add_consumer(EVENTS, config=named)
    await stream.delete_consumer(EVENTS, "c")
    await operator.close()
    await coordinator.close()
    assert "Violation" not in server.log


async def test_a_coordinator_changes_how_long_events_are_kept_and_deletes_nothing(server):
    coordinator = await with_events(server)
    longer = StreamConfig(EVENTS, subjects=["identify.event.>"], max_age=7200, max_bytes=1_000_000, allow_direct=True)
    assert (await coordinator.jetstream().update_stream(longer)).config.max_age == 7200
    await coordinator.close()
    assert await allowed(server, "coordinator", "publish", CHANGES) == []
    assert await allowed(server, "coordinator", "publish", MAKING) == MAKING


async def test_an_operator_and_a_shard_change_nothing_of_it(server):
    coordinator = await with_events(server)
    assert await allowed(server, "operator", "publish", CHANGES + MAKING) == []
    assert await allowed(server, "shard", "publish", CHANGES + MAKING + READING) == []
    assert await allowed(server, "operator", "publish", READING) == READING
    assert (await coordinator.jetstream().stream_info(EVENTS)).state.messages == 3
    await coordinator.close()


@pytest.mark.parametrize(
    "subject", [LEDGER, "identify.confirm.0.x", "$JS.API.STREAM.PURGE.KV_identify", "$JS.API.STREAM.DELETE.KV_identify"]
)
async def test_a_consumer_of_events_delivers_nothing_into_the_queue(docs, server, tmp_path, subject):
    """No user's permissions apply to what a consumer delivers; nats-server asks for a subscription to exactly there."""
    async with coordinating(docs, server, tmp_path) as coordinator:
        await until(coordinator.is_leader, "it leads")
        maker, operator = await with_events(server), await connected(server, "operator")
        evil = ConsumerConfig(name="evil", deliver_subject=subject, ack_policy=AckPolicy.NONE)
        await operator.jetstream().add_consumer(EVENTS, config=evil)
        stream = maker.jetstream()
        before = (await stream.stream_info("KV_identify")).state.last_seq

        async def has_moved():
            return (await stream.stream_info("KV_identify")).state.last_seq > before + 3

        await until(has_moved, "the ledger has been written meanwhile")
        info = await operator.jetstream().consumer_info(EVENTS, "evil")
        assert (info.num_pending or 0) >= 3
        assert info.delivered is not None
        assert info.delivered.consumer_seq == 0
        await asyncio.gather(operator.close(), maker.close())


async def test_the_history_is_kept_and_read_with_these_rights(docs, server, tmp_path):
    async with coordinating(docs, server, tmp_path, IDENTIFY_HISTORY="24h") as coordinator:
        await until(coordinator.is_leader, "it leads")
        await coordinator.until_logged("the history of events is kept")
        operator = await connected(server, "operator")
        await operator.request("identify.request.0", b"", timeout=WITHIN_S)

        async def names():
            since = datetime.now(UTC) - timedelta(hours=1)
            return {event.name async for event in read_history(operator, "identify", since)} & {"granted"}

        await until(names, "the grant is in the history")
        await operator.close()
    assert "Violation" not in server.log
