"""The spans of a coordinator: from the context that a request brought, when this replica replies to it."""

import sys
import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from coordinator.core.ledger import Ledger, Write, Written
from coordinator.edge import otel
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.intake import HEADER_BYTES_MAX
from coordinator.edge.log import make_log
from coordinator.edge.tracing import exporter_of, start
from nats_identify.schedule.grants import Grant, HoldRecord
from nats_identify.schedule.model import MS, SECOND, Code, Granted, Queued, Reason, Refused, Reply
from tests.processes import WITHIN_S
from tests.spans import named, provider_into
from tests.unit.test_intake import REPLY, Desk

TRACE, PARENT = 0xABC, 0xDEF
TRACEPARENT = f"00-{TRACE:032x}-{PARENT:016x}-01"


def header(traceparent=TRACEPARENT, **more):
    fields = {"traceparent": traceparent, **more}
    return b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in fields.items()) + b"\r\n"


class Stage:
    """A `Tracing` at a time that is moved by hand, with the requests that are queued."""

    def __init__(self, **options):
        self.now_ns, self.queued, self.exporter = 1_000 * SECOND, dict[str, Any](), InMemorySpanExporter()
        self.logged: list[str] = []
        me: Any = self  # its log, as far as it writes to it
        self.tracing = otel.Tracing(
            provider_into(self.exporter), find=self.queued.get, clock=lambda: self.now_ns, log=me, **options
        )

    def warning(self, _event, why):
        self.logged.append(why)

    def reply(self, body, term=7):
        self.tracing.replied(Reply("_INBOX.x", body), term)

    def commit(self, *grant_ids, term=7, lasts_ns=2 * MS):
        grants = tuple(HoldRecord(Grant(name, "r", 0, 0, 1, 0, SECOND), SECOND) for name in grant_ids)
        began_ns, self.now_ns = self.now_ns, self.now_ns + lasts_ns
        ledger = Ledger("identify", "pod", "abc", term, 1, SECOND, grants=grants)
        self.tracing.committed(Write(ledger, 1), began_ns)

    def spans(self, name="identify wait"):
        return named(self.exporter, name)


def granted(request_id="r1", grant_id="g1"):
    return Granted(3, 1, request_id, grant_id, 0, SECOND, 1500 * MS, None, 2)


def queued(position):
    return Queued(3, 1, "r1", position, None, SECOND, Reason.WINDOW, 2)


@pytest.fixture
def stage():
    return Stage()


def test_a_wait_lasts_from_the_first_message_to_the_grant(stage):
    stage.tracing.arrived("r1", header(tracestate="vendor=1"))
    stage.reply(queued(4))
    stage.now_ns += SECOND
    stage.tracing.arrived("r1", header())  # a renewal
    stage.reply(queued(1))
    stage.commit(term=7)
    stage.commit("g1")
    stage.reply(granted())
    (wait,), (commit,) = stage.spans(), stage.spans("identify commit")
    assert (wait.context.trace_id, wait.parent.span_id, wait.kind) == (TRACE, PARENT, SpanKind.SERVER)
    assert wait.context.trace_state.to_header() == "vendor=1"
    assert wait.end_time - wait.start_time == SECOND + 4 * MS
    assert (commit.parent, commit.end_time - commit.start_time) == (wait.context, 2 * MS)
    assert commit.end_time == wait.end_time
    assert dict(wait.attributes) == {
        "identify.request_id": "r1",
        "identify.shard_id": 3,
        "identify.bucket": 1,
        "identify.waited_ms": 1500,
        "identify.outcome": "granted",
        "identify.term": 7,
        "identify.first_position": 4,
    }


def test_a_copy_of_a_grant_is_no_second_wait_and_another_grant_is(stage):
    stage.tracing.arrived("r1", header())
    for grant_id in ("g1", "g1", "g2"):
        stage.now_ns += SECOND
        stage.reply(granted(grant_id=grant_id))
    assert [span.end_time - span.start_time for span in stage.spans()] == [SECOND, 2 * SECOND]


def test_the_grant_of_a_former_leader_has_no_commit_here(stage):
    stage.tracing.arrived("r1", header())
    stage.commit("g0", term=6)
    stage.commit("g1", term=7)  # the takeover
    stage.reply(granted())
    assert (len(stage.spans()), len(stage.spans("identify commit"))) == (1, 0)


def test_a_refusal_ends_the_wait(stage):
    stage.tracing.arrived("r1", header())
    stage.reply(Refused("r1", Code.OVERLOADED, "later"))
    assert [span.attributes["identify.outcome"] for span in stage.spans()] == ["overloaded"]
    assert len(stage.tracing) == 0


def test_a_standby_makes_no_span_and_keeps_no_context_for_ever(stage):
    stage.queued["r1"] = object()
    for request_id in ("r1", "r2"):
        stage.tracing.arrived(request_id, header())
    stage.tracing.forget()
    assert len(stage.tracing) == 2  # r2 may wait to be handled
    stage.now_ns += otel.FORGET_AFTER_NS + 1
    stage.tracing.forget()
    assert len(stage.tracing) == 1
    del stage.queued["r1"]
    stage.tracing.forget()
    assert (len(stage.tracing), stage.exporter.get_finished_spans()) == (0, ())


def test_the_number_of_contexts_is_bounded():
    stage = Stage(open_max=3)
    for number in range(5):
        stage.tracing.arrived(f"r{number}", header())
    assert len(stage.tracing) == 3
    stage.reply(granted("r4"))
    assert stage.spans() == []


HOSTILE = [
    b"NATS/1.0\r\n\r\n",
    b"traceparent",
    header("00-" + "0" * 32 + "-" + "0" * 16 + "-01"),
    header(TRACEPARENT.replace("00-", "ff-", 1)),
    header(TRACEPARENT.upper()),
    header(TRACEPARENT + "-more"),
    header(TRACEPARENT + "\x00"),
    header(TRACEPARENT[:-2] + "00"),  # not sampled
    header("\u0660" * 55),
    header("0" * 3000),
    header("-" * 3000),
    b"NATS/1.0\r\nTraceparent:" + b" " * 3000 + b"\r\n\r\n",
    bytes(range(256)) * 8,
]


@pytest.mark.parametrize("block", HOSTILE, ids=lambda block: repr(block[:40]))
def test_a_header_that_is_no_context_is_none(stage, block):
    stage.tracing.arrived("r1", block)
    stage.reply(granted())
    assert (len(stage.tracing), stage.exporter.get_finished_spans()) == (0, ())


@pytest.mark.parametrize("state", ["x" * 3000, "=,=,=", "\x1b[31m=1", ",".join(f"v{number}=1" for number in range(90))])
def test_a_hostile_tracestate_does_not_travel_on(stage, state):
    stage.tracing.arrived("r1", header(tracestate=state))
    stage.reply(granted())
    (wait,) = stage.spans()
    assert wait.context.trace_id == TRACE
    assert wait.context.trace_state.to_header() == ""


def test_what_the_sdk_raises_ends_no_write_and_no_reply(stage, monkeypatch):
    def raises(*_, **__):
        raise RuntimeError("hunter2")

    monkeypatch.setattr(stage.tracing, "_tracer", type("Broken", (), {"start_span": raises}))
    stage.tracing.arrived("r1", header())
    stage.reply(granted())
    stage.reply(granted(grant_id="g2"))
    assert stage.logged == ["RuntimeError"]


def test_a_collector_that_hangs_does_not_hold_up_the_end(stage, monkeypatch):
    goes_on, is_over = threading.Event(), threading.Event()

    def hangs():
        goes_on.wait()
        is_over.set()

    monkeypatch.setattr(stage.tracing, "_provider", type("Hanging", (), {"force_flush": staticmethod(hangs)}))
    monkeypatch.setattr(otel, "FLUSH_WITHIN_S", 0.01)
    stage.tracing.close()
    assert not is_over.is_set()
    goes_on.set()
    assert is_over.wait(WITHIN_S)


async def test_a_store_that_is_measured_returns_what_it_returned(stage):
    class Store:
        async def read(self):
            return "read"

        async def write(self, write):
            return Written(2)

    store = stage.tracing.store(Store())
    ledger = Ledger("identify", "pod", "abc", 7, 1, SECOND)
    assert await store.read() == "read"
    assert await store.write(Write(ledger, 1)) == Written(2)


async def test_the_intake_passes_on_headers_only_where_spans_are_recorded():
    seen = []
    desk, bare = Desk(EventQueue(), lambda *arguments: seen.append(arguments)), Desk(EventQueue())
    for each in (desk, bare):
        await each.intake.open()
    blocks = [b"", header(), b"NATS/1.0\r\nx: " + b"x" * HEADER_BYTES_MAX + b"\r\n\r\n"]
    bodies = [
        b"",
        b'{"request_id": "r1"}',
        b'{"request_id": "r1", "managed": true}',
        b"\xff{",
        b"{" + b" " * 5000 + b"}",
    ]
    for block in blocks:
        for body in bodies:
            arguments = ("identify.request.0", body, REPLY, block)
            assert desk.arrives(*arguments) == bare.arrives(*arguments)
    assert {request_id for request_id, _ in seen} >= {"r1"}
    assert {block for _, block in seen} == {header()}
    assert desk.refused == bare.refused


@pytest.mark.parametrize(
    ("environment", "exporter"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, ""),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "console"),
    ],
)
def test_the_standard_variables_switch_it_on(environment, exporter):
    assert exporter_of(environment) == exporter


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
def test_a_wrong_variable_is_named_and_the_coordinator_goes_on(environment, name, capsys):
    with pytest.raises(ValueError, match=f"^{name}: give "):
        exporter_of(environment)
    assert start(environment, replica="pod", find=lambda _: None, clock=lambda: 0, log=make_log("info", "json")) is None
    assert name in capsys.readouterr().err


def test_a_missing_package_is_named_and_the_coordinator_goes_on(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "coordinator.edge.otel", None)  # as where an import in it fails
    log = make_log("info", "json")
    assert start({"OTEL_TRACES_EXPORTER": "otlp"}, replica="p", find=lambda _: None, clock=lambda: 0, log=log) is None
    assert "install the extra nats-identify[otel]" in capsys.readouterr().err
