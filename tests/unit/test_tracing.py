"""The spans of a bot's wait: recorded where the bot records, and else nothing is imported, made or sent."""

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState, get_tracer

from nats_identify import LocalQueue, QueueClosedError, tracing
from nats_identify.client import otel
from nats_identify.trouble import Trouble
from tests.spans import named, provider_into, set_provider


@pytest.fixture
def exporter(monkeypatch):
    exporter = InMemorySpanExporter()
    set_provider(monkeypatch, provider_into(exporter))
    return exporter


async def turn_until_ready(queue):
    grant = await queue.acquire(3, priority=1)
    queue.identified(grant)
    queue.ready(grant)
    return grant


async def test_one_trace_runs_from_acquire_to_ready(exporter):
    async with LocalQueue() as queue:
        grant = await turn_until_ready(queue)
    (acquire,) = named(exporter, "identify acquire")
    (use,), (ready,) = named(exporter, "identify use"), named(exporter, "identify ready")
    assert acquire.kind is SpanKind.CLIENT
    assert acquire.parent is None
    assert use.parent == ready.parent == acquire.context
    assert (acquire.end_time, use.end_time) == (use.start_time, ready.start_time)
    said = dict(acquire.attributes)
    assert said == {
        "identify.shard_id": 3,
        "identify.priority": 1,
        "identify.request_id": grant.request_id,
        "identify.bucket": 0,
        "identify.max_concurrency": 1,
        "identify.waited_ms": grant.waited_ms,
        "identify.outcome": "granted",
    }
    assert (use.attributes["identify.outcome"], ready.attributes["identify.outcome"]) == ("identified", "ready")


async def test_a_span_of_the_bot_is_the_parent(exporter):
    tracer = provider_into(exporter).get_tracer("bot")
    async with LocalQueue() as queue:
        with tracer.start_as_current_span("start shard") as start:
            async with queue.turn(3):
                pass
    (acquire,) = named(exporter, "identify acquire")
    assert acquire.parent == start.get_span_context()


async def test_a_wait_that_ends_without_a_grant_ends_its_span(exporter):
    queue = LocalQueue()
    await queue.acquire(0)
    waiting = [asyncio.create_task(queue.acquire(shard)) for shard in (1, 2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    await queue.close()
    with pytest.raises(QueueClosedError):
        await waiting[1]
    outcomes = [span.attributes["identify.outcome"] for span in named(exporter, "identify acquire")]
    assert outcomes == ["granted", "withdrawn", "closed"]


def test_the_events_of_a_long_wait_are_bounded(exporter):
    trace = tracing.begin(0, 0)
    assert trace is not None
    for position in range(1000, 0, -1):
        trace.queued(position, None, "window")
    trace.ended("withdrawn")
    (acquire,) = named(exporter, "identify acquire")
    assert len(acquire.events) == otel.EVENTS_MAX
    assert dict(acquire.events[0].attributes) == {"identify.position": 1000, "identify.reason": "window"}


@pytest.mark.parametrize(("vendors", "sent"), [(1, {"traceparent", "tracestate"}), (20, {"traceparent"})])
def test_a_long_tracestate_does_not_travel(vendors, sent):
    state = TraceState([(f"vendor{number}", "x" * 200) for number in range(vendors)])
    span = NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1), trace_state=state))
    assert set(otel.AcquireTrace(get_tracer("bot"), span).headers) == sent


def test_without_a_recording_span_there_is_none(monkeypatch):
    set_provider(monkeypatch, provider_into(InMemorySpanExporter(), sampler=ALWAYS_OFF))
    assert tracing.begin(0, 0) is None


class Failing(SpanProcessor):
    """Raises whatever it is asked."""

    def on_start(self, *_, **__):
        raise RuntimeError("hunter2")

    on_end = on_start


async def test_a_span_processor_that_raises_does_not_reach_the_bot(monkeypatch, caplog):
    provider = provider_into(InMemorySpanExporter())
    provider.add_span_processor(Failing())
    set_provider(monkeypatch, provider)
    monkeypatch.setattr(tracing, "_trouble", Trouble())
    async with LocalQueue() as queue:
        await turn_until_ready(queue)
    assert [record.getMessage().count("RuntimeError") for record in caplog.records] == [1]
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("first", ["", "import opentelemetry.trace; "])
def test_a_bot_that_sets_no_provider_imports_nothing_more(first):
    program = (
        "import asyncio, sys, nats_identify, coordinator.process\n"
        "async def main():\n"
        "    async with nats_identify.LocalQueue() as queue:\n"
        "        queue.identified(await queue.acquire(0))\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk') or name.endswith('.otel')"
        " or name == 'opentelemetry'])"
    )
    printed = subprocess.run([sys.executable, "-c", first + program], capture_output=True, text=True, check=True).stdout
    expected = ["opentelemetry", "nats_identify.client.otel"] if first else []
    assert printed.strip() == str(expected)
