"""The spans of a coordinator, made with OpenTelemetry: `identify wait`, and `identify commit` inside of it.

A replica keeps the trace context that a request brought, and makes the spans when it replies: a standby, which replies
to none, makes none. Only `coordinator.edge.tracing` imports this; it decides nothing, and raises nothing.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from time import time_ns
from typing import Any, Concatenate, Final, ParamSpec

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from coordinator.core.ledger import LedgerRead, LedgerUnreadable, Write, WriteUnsettled, Written
from coordinator.edge.log import Log
from coordinator.runtime import Publisher, Store
from nats_identify.clock import NS_PER_S, Clock, now_ns
from nats_identify.schedule.bucket_queue import QueuedRequest
from nats_identify.schedule.model import CommandReply, Event, Granted, Queued, Refused, Reply
from nats_identify.trouble import Trouble

OPEN_MAX: Final = 10_000
"""Requests whose context is kept; one that arrives beyond it is not traced."""

FORGET_EVERY_S: Final = 10.0
FORGET_AFTER_NS: Final = 30 * NS_PER_S
"""A context is dropped when its request has left the queue, and no message of it has arrived for this time."""

FLUSH_WITHIN_S: Final = 2.0
"""At the end of the process the last spans are exported within this, or dropped."""

_TRACEPARENT: Final = re.compile(
    rb"\r\n(?i:traceparent):[ \t]*([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})[ \t]*\r\n"
)
_TRACESTATE: Final = re.compile(rb"\r\n(?i:tracestate):[ \t]*([ -~]{1,512})\r\n")
_SAMPLED: Final = 1


@dataclass(slots=True)
class _OpenRequest:
    """A request with a context.

    Attributes:
        traceparent: as it arrived. ``context``: what was made of it.
        since_ns: when it arrived, or was granted before, by our clock. ``seen_ns``: its newest message or reply.
        position: in its first reply; None where it has had none, or was granted at once.
        grant_id: the newest grant that a span was made for: copies of a grant are no new wait.
    """

    traceparent: bytes
    context: Context
    since_ns: int
    seen_ns: int
    position: int | None = None
    grant_id: str = ""


_Arguments = ParamSpec("_Arguments")
_Method = Callable[Concatenate["Tracing", _Arguments], None]


def _guarded(method: _Method[_Arguments]) -> _Method[_Arguments]:
    """Log what a sampler or a span processor raises: the request, the reply and the write go on."""

    @wraps(method)
    def call(self: "Tracing", /, *arguments: _Arguments.args, **options: _Arguments.kwargs) -> None:
        try:
            method(self, *arguments, **options)
        except Exception as error:  # as above
            self.report_failure(error)

    return call


class Tracing:
    """The requests with a context, and the spans that are made of them.

    Args:
        provider: makes and exports the spans.
        find: returns the queued request of an id.
        clock: nanoseconds that only grow.
        log: gets what is wrong.
        open_max: requests whose context is kept.
    """

    def __init__(
        self,
        provider: TracerProvider,
        *,
        find: Callable[[str], QueuedRequest | None],
        clock: Clock,
        log: Log,
        open_max: int = OPEN_MAX,
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("nats_identify.coordinator")
        self._propagator = TraceContextTextMapPropagator()
        self._find = find
        self._clock = clock
        self._open_max = open_max
        self._open: dict[str, _OpenRequest] = {}
        self._log = log
        self._trouble = Trouble()
        self._written: tuple[int, frozenset[str]] = (0, frozenset())  # of the newest entry: its term and its grants
        self._committed: frozenset[str] = frozenset()  # the grants that are new in it
        self._commit_ns = (0, 0)  # when its write began, and was acknowledged

    def __len__(self) -> int:
        return len(self._open)

    @_guarded
    def arrived(self, request_id: str, header: bytes) -> None:
        """Keep the context of a message that asks for a turn, if it has a valid one that is sampled."""
        found = _TRACEPARENT.search(header)
        if found is None or not int(found[1][-2:], 16) & _SAMPLED:
            return
        now_ns, request = self._clock(), self._open.get(request_id)
        if request is not None and request.traceparent == found[1]:
            request.seen_ns = now_ns
            return
        if request is None and len(self._open) >= self._open_max:
            return
        carrier = {"traceparent": found[1].decode()}
        if (state := _TRACESTATE.search(header)) is not None:
            carrier["tracestate"] = state[1].decode()
        context = self._propagator.extract(carrier, Context())
        if trace.get_current_span(context).get_span_context().is_valid:
            self._open[request_id] = _OpenRequest(found[1], context, now_ns, now_ns)

    @_guarded
    def replied(self, reply: Reply, term: int) -> None:
        """Make the span of a request that is granted or refused; keep the position of one that is queued."""
        body = reply.body
        request = self._open.get(body.request_id)
        if request is None:
            return
        now_ns = request.seen_ns = self._clock()
        match body:
            case Queued():
                request.position = body.position if request.position is None else request.position
            case Granted(grant_id=grant_id) if grant_id != request.grant_id:
                fields = {"shard_id": body.shard_id, "bucket": body.bucket, "waited_ms": body.waited_ns // 1_000_000}
                self._make_spans(body.request_id, request, now_ns, grant_id, outcome="granted", term=term, **fields)
                request.grant_id, request.since_ns, request.position = grant_id, now_ns, None
            case Refused(code=code):
                self._make_spans(body.request_id, request, now_ns, "", outcome=code.value, term=term)
                del self._open[body.request_id]

    def _make_spans(
        self, request_id: str, request: _OpenRequest, now_ns: int, grant_id: str, **fields: str | int
    ) -> None:
        ahead_ns = time_ns() - now_ns  # of the world's clock: what was measured by ours keeps its length
        attributes: dict[str, str | int] = {"identify.request_id": request_id}
        attributes |= {f"identify.{name}": value for name, value in fields.items()}
        if request.position is not None:
            attributes["identify.first_position"] = request.position
        wait = self._tracer.start_span(
            "identify wait",
            request.context,
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=request.since_ns + ahead_ns,
        )
        if wait.is_recording() and grant_id in self._committed:
            began_ns, ended_ns = self._commit_ns
            inside = trace.set_span_in_context(wait, request.context)
            commit = self._tracer.start_span("identify commit", inside, start_time=began_ns + ahead_ns)
            commit.end(ended_ns + ahead_ns)
        wait.end(now_ns + ahead_ns)

    @_guarded
    def committed(self, write: Write, began_ns: int) -> None:
        """Take in that the ledger has acknowledged this entry; its replies follow.

        The first entry of a term makes no grant: those in it are the former leader's.
        """
        term, grants = write.ledger.term, frozenset(record.grant.grant_id for record in write.ledger.grants)
        before, known = self._written
        self._written = (term, grants)
        self._committed = grants - known if term == before else frozenset()
        self._commit_ns = (began_ns, self._clock())

    def forget(self) -> None:
        """Drop the contexts of requests that have left the queue."""
        before_ns = self._clock() - FORGET_AFTER_NS
        over = [
            name for name, request in self._open.items() if request.seen_ns < before_ns and self._find(name) is None
        ]
        for name in over:
            del self._open[name]

    async def run(self) -> None:
        """Drop contexts from time to time, until cancelled."""
        while True:
            await asyncio.sleep(FORGET_EVERY_S)
            self.forget()

    def publisher(self, publisher: Publisher) -> "TracedPublisher":
        """Return a publisher whose replies end spans."""
        return TracedPublisher(publisher, self)

    def store(self, store: Store) -> "TracedStore":
        """Return a store whose writes are measured."""
        return TracedStore(store, self, self._clock)

    def report_failure(self, error: Exception) -> None:
        """Log that a span was not recorded: at most one line in 30 s, without the error's own text."""
        if self._trouble.note(self._clock()) is not None:
            self._log.warning("a span was not recorded; check OTEL_TRACES_SAMPLER", why=type(error).__name__)

    def close(self) -> None:
        """Export what is left, within `FLUSH_WITHIN_S`: it blocks for that time at most."""
        flushing = threading.Thread(target=self._provider.force_flush, name="last spans", daemon=True)
        flushing.start()
        flushing.join(FLUSH_WITHIN_S)


class TracedPublisher:
    """A publisher whose replies end spans."""

    def __init__(self, publisher: Publisher, tracing: Tracing) -> None:
        self._publisher = publisher
        self._tracing = tracing

    def reply(self, reply: Reply, term: int) -> None:
        """Publish it, then make its spans."""
        self._publisher.reply(reply, term)
        self._tracing.replied(reply, term)

    def reply_to_command(self, reply: CommandReply, term: int) -> None:
        """Publish it."""
        self._publisher.reply_to_command(reply, term)

    def publish_event(self, event: Event) -> None:
        """Publish it."""
        self._publisher.publish_event(event)

    def write_out(self) -> None:
        """Write what is published."""
        self._publisher.write_out()


class TracedStore:
    """A store whose writes are measured."""

    def __init__(self, store: Store, tracing: Tracing, clock: Clock) -> None:
        self._store = store
        self._tracing = tracing
        self._clock = clock

    def read(self) -> Awaitable[LedgerRead | LedgerUnreadable]:
        """Read the ledger."""
        return self._store.read()

    def write(self, write: Write) -> Awaitable[Written | WriteUnsettled]:
        """Write the ledger."""
        began_ns = self._clock()
        return self._measure(write, self._store.write(write), began_ns)

    async def _measure(
        self, write: Write, outcome: Awaitable[Written | WriteUnsettled], began_ns: int
    ) -> Written | WriteUnsettled:
        result = await outcome
        if isinstance(result, Written):
            self._tracing.committed(write, began_ns)
        return result


class _WatchedExporter:
    """An exporter that logs when it begins to fail and when it works again; it is called in a thread of the SDK."""

    def __init__(self, exporter: SpanExporter, log: Log, clock: Clock = now_ns) -> None:
        self._exporter = exporter
        self._log = log
        self._clock = clock
        self._trouble = Trouble()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # whatever it is: the next batch may be taken
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            if self._trouble.note(self._clock()) is not None:
                self._log.warning(
                    "spans are dropped: the collector does not take them; check it and the OTEL_ variables"
                )
        elif self._trouble.over(self._clock()) is not None:
            self._log.info("spans are exported again")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))


def open_tracing(
    exporter: str,
    *,
    replica: str,
    find: Callable[[str], QueuedRequest | None],
    clock: Clock,
    log: Log,
) -> Tracing:
    """Set up the SDK by the OTEL_ variables; see `coordinator.edge.tracing.start`.

    Raises:
        ImportError: the exporter is not installed.
        ValueError: a variable makes no sense to the SDK.
    """
    sdk = logging.getLogger("opentelemetry")  # it logs each failure, with the address: `_WatchedExporter` logs instead
    sdk.addHandler(logging.NullHandler())
    sdk.propagate = False
    named = Resource({"service.name": "identify-coordinator", "service.instance.id": replica})
    resource = Resource.create().merge(named).merge(OTELResourceDetector().detect())  # what is set by variables wins
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # `Tracing.close` has a bound
    watched: Any = _WatchedExporter(_exporter_of(exporter), log)  # no subclass: the types may not be installed
    provider.add_span_processor(BatchSpanProcessor(watched))
    return Tracing(provider, find=find, clock=clock, log=log)


def _exporter_of(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # as it says

    return OTLPSpanExporter()
