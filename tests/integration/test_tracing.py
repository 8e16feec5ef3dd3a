"""One trace from `acquire` over real coordinators to READY, as a collector receives it."""

import asyncio
import json
import re
import signal
import time

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from nats_identify import NatsQueue
from tests.integration.conftest import INFO
from tests.otlp import Collector, running_collector
from tests.processes import WITHIN_S, settle, until
from tests.spans import named, provider_into, set_provider

HOLDS = {"IDENTIFY_WINDOW": "12"}
"""Long enough for the leader to be killed, and found dead, while the second shard waits."""


@pytest.fixture
def collector():
    with running_collector() as collector:
        yield collector


@pytest.fixture
def exporter(monkeypatch):
    exporter = InMemorySpanExporter()
    set_provider(monkeypatch, provider_into(exporter))
    return exporter


def exporting_to(collector: Collector) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}


async def until_ready(queue: NatsQueue, shard_id: int) -> None:
    async with queue.turn(shard_id) as turn:
        turn.identified()
        turn.ready()


async def waits_of(collector: Collector, trace_id: int):
    """The spans `identify wait` of a trace, once there is one."""

    async def look():
        return [span for span in collector.of_trace(trace_id) if span.name == "identify wait"]

    return await until(look, "the coordinator's span is exported")


async def test_one_trace_runs_from_acquire_over_the_coordinator_to_ready(
    nats_server, start_coordinator, collector, exporter
):
    await start_coordinator(**exporting_to(collector))
    async with NatsQueue.connect(nats_server.url) as queue:
        await until_ready(queue, 0)
        await until_ready(queue, 1)
    for acquire in named(exporter, "identify acquire"):
        ours = acquire.context
        (wait,) = await waits_of(collector, ours.trace_id)
        (commit,) = (span for span in collector.of_trace(ours.trace_id) if span.name == "identify commit")
        (use, ready) = (span for span in exporter.get_finished_spans() if span.parent == ours)
        assert (use.name, ready.name) == ("identify use", "identify ready")
        assert (wait.parent_id, commit.parent_id) == (ours.span_id, wait.span_id)
        assert wait.attributes["identify.request_id"] == acquire.attributes["identify.request_id"]
        assert wait.attributes["identify.shard_id"] == acquire.attributes["identify.shard_id"]
        assert wait.start_ns <= commit.start_ns <= commit.end_ns <= wait.end_ns
    assert len(named(exporter, "identify acquire")) == 2


async def test_the_trace_outlives_the_leader_and_standbys_make_no_span(
    nats_server, start_coordinator, collector, exporter
):
    first = await start_coordinator(**HOLDS, **exporting_to(collector))
    second = await start_coordinator(until_leader=False, **HOLDS, **exporting_to(collector))
    await until(second.is_ready, "it is ready")
    async with NatsQueue.connect(nats_server.url) as queue:
        await until_ready(queue, 0)
        (acquire,) = named(exporter, "identify acquire")
        (by_first,) = await waits_of(collector, acquire.context.trace_id)
        queued = asyncio.Event()
        waiting = asyncio.create_task(queue.acquire(1, on_progress=lambda _: queued.set()))
        await queued.wait()
        await first.end(signal.SIGKILL)
        killed_at_ns = time.time_ns()
        assert not waiting.done()
        queue.identified(await waiting)
    acquire = named(exporter, "identify acquire")[-1]
    (by_second,) = await waits_of(collector, acquire.context.trace_id)
    assert (by_first.replica, by_second.replica) == ("pod-0", "pod-1")
    assert by_second.parent_id == acquire.context.span_id
    assert by_second.start_ns < killed_at_ns  # it kept the context of the first message, as a standby
    assert [span.replica for span in collector.spans if span.name == "identify wait"] == ["pod-0", "pod-1"]


async def a_request_of(queue, client: Client) -> Msg:
    """The first message of a request, as a coordinator would receive it."""
    subscription = await client.subscribe("identify.request.*")
    await settle(client)
    waiting = asyncio.create_task(queue.acquire(3, priority=1))
    message = await subscription.next_msg(timeout=WITHIN_S)
    waiting.cancel()
    await asyncio.wait({waiting})
    await subscription.unsubscribe()
    return message


async def test_only_a_recorded_request_has_headers(nats_server, client, monkeypatch):
    messages = []
    for sampler in (None, ALWAYS_OFF, ALWAYS_ON):  # None: the process has no provider
        if sampler is not None:
            set_provider(monkeypatch, provider_into(InMemorySpanExporter(), sampler=sampler))
        async with NatsQueue.connect(nats_server.url, client="pod") as queue:
            messages.append(await a_request_of(queue, client))
    bodies = [
        re.sub(rb'"(request_id|renewal|waited_ms|source|asked_us)":("\w+"|\d+)', rb'"\1":0', message.data)
        for message in messages
    ]
    assert bodies[0] == (
        b'{"shard_id":3,"request_id":0,"renewal":0,"waited_ms":0,"priority":1,"managed":true,'
        b'"client":"pod","source":0,"asked_us":0}'
    )
    assert len(set(bodies)) == 1
    assert [set(message.headers or ()) for message in messages] == [set(), set(), {"traceparent"}]


async def test_a_server_that_takes_no_headers_gets_none(exporter):
    told = bytearray()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + json.dumps({**INFO, "headers": False, "auth_required": False}).encode() + b"\r\n")
        while data := await reader.read(4096):
            told.extend(data)
            writer.write(b"PONG\r\n")
        writer.close()

    async def asked() -> bool:
        return b"PUB identify.request.0 " in told

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, NatsQueue.connect(url) as queue:
        waiting = asyncio.create_task(queue.acquire(0))
        await until(asked, "the request is sent")
        waiting.cancel()
        await asyncio.wait({waiting})
    assert b"HPUB" not in told


async def test_hostile_contexts_change_nothing(mailbox, start_coordinator, collector, client):
    coordinator = await start_coordinator(**exporting_to(collector))
    blocks = [{"traceparent": text} for text in ("x" * 3000, "00-0-0-01", "\u0660", "-" * 3000, "")]
    blocks += [{"traceparent": f"00-{7:032x}-{7:016x}-01", "tracestate": text} for text in ("=" * 3000, "\x1b[31m=1")]
    for number, headers in enumerate(blocks):
        body = b'{"shard_id": 0, "request_id": "r%d", "managed": true}' % number
        await client.publish("identify.request.0", body, reply=mailbox.address, headers=headers)
        await client.publish("identify.cancel.0", b'{"request_id": "r%d"}' % number)
    body, message = await mailbox.until_granted("last", shard_id=0)
    await client.publish(message.reply, b'{"outcome": "identified"}')
    assert body["request_id"] == "last"
    assert coordinator.logged("a span was not recorded") == []


async def test_a_collector_that_fails_delays_nothing_and_is_logged_once(
    nats_server, start_coordinator, collector, exporter
):
    collector.refuses = True
    coordinator = await start_coordinator(**exporting_to(collector))
    async with NatsQueue.connect(nats_server.url) as queue:

        async def refused_twice():
            await until_ready(queue, 0)
            return collector.refused >= 2

        await until(refused_twice, "two exports are refused")
        collector.refuses = False

        async def exported():
            await until_ready(queue, 0)
            return collector.spans

        await until(exported, "spans are exported again")
    await coordinator.until_logged("spans are exported again")
    assert await coordinator.end() == 0
    (warning,) = [line for line in coordinator.log.splitlines() if "spans are dropped" in line]
    assert collector.url not in warning
    assert [line for line in coordinator.log.splitlines() if not line.startswith("{")] == []  # the SDK's own lines


async def test_the_last_spans_are_exported_at_the_end_and_an_unreachable_collector_does_not_hold_it_up(
    nats_server, start_coordinator, collector, exporter
):
    patient = {**exporting_to(collector), "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    coordinator = await start_coordinator(**patient)
    async with NatsQueue.connect(nats_server.url) as queue:
        await until_ready(queue, 0)
        await coordinator.until_logged("ready")
        assert collector.spans == []
        assert await coordinator.end() == 0
        (acquire,) = named(exporter, "identify acquire")
        assert len(await waits_of(collector, acquire.context.trace_id)) == 1

        gone = {**patient, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}  # no one listens there
        coordinator = await start_coordinator(**gone)
        await until_ready(queue, 0)
        assert await coordinator.end() == 0


async def test_without_the_variables_no_part_of_it_is_there(nats_server, start_coordinator, exporter):
    coordinator = await start_coordinator()
    async with NatsQueue.connect(nats_server.url) as queue:
        await until_ready(queue, 0)
    assert len(named(exporter, "identify ready")) == 1
    assert coordinator.logged("tracing is on") == []
