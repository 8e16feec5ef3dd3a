"""The spans of one `acquire`, made with OpenTelemetry's API. Only `nats_identify.tracing` imports it.

`identify acquire` lasts from the call to the grant, and its context travels in the headers of the request. Its children
are made when they are over: `identify use`, from the grant to IDENTIFY, and `identify ready`, from IDENTIFY to READY.
So no span stays open for a report that never comes. What a provider raises is logged, and never raised into a bot.
"""

from collections.abc import Callable
from functools import wraps
from time import time_ns
from typing import Concatenate, Final, ParamSpec

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from nats_identify import tracing
from nats_identify.queue import Grant

EVENTS_MAX: Final = 64
"""Events of one span at most; a long wait has more changes of its position. The SDK's own limit is 128."""

TRACESTATE_MAX: Final = 512
"""Characters of a tracestate that are sent: as many as W3C Trace Context asks for. Coordinators drop a request with
more than 4,096 bytes of headers."""

_Arguments = ParamSpec("_Arguments")
_Method = Callable[Concatenate["AcquireTrace", _Arguments], None]


def begin(shard_id: int, priority: int) -> "AcquireTrace | None":
    """Start the span `identify acquire`; return None where it is not recorded. See `nats_identify.tracing.begin`."""
    tracer = trace.get_tracer("nats_identify")
    attributes = {"identify.shard_id": shard_id, "identify.priority": priority}
    span = tracer.start_span("identify acquire", kind=trace.SpanKind.CLIENT, attributes=attributes)
    return AcquireTrace(tracer, span) if span.is_recording() else None


def _guarded(method: _Method[_Arguments]) -> _Method[_Arguments]:
    @wraps(method)
    def call(self: "AcquireTrace", /, *arguments: _Arguments.args, **options: _Arguments.kwargs) -> None:
        try:
            method(self, *arguments, **options)
        except Exception as error:  # as in `tracing.begin`
            tracing.report_failure(error)

    return call


class AcquireTrace:
    """The recording span of one `acquire`, and those that follow it.

    Args:
        tracer: makes the children.
        span: `identify acquire`.

    Attributes:
        headers: traceparent and tracestate, for the messages of the request.
    """

    __slots__ = ("_attributes", "_context", "_events", "_is_over", "_since_ns", "_span", "_tracer", "headers")

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = trace.set_span_in_context(span)
        self._attributes: dict[str, str | int] = {}
        self._events = 0
        self._is_over = False
        self._since_ns = 0
        self.headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(self.headers, self._context)  # not the global one: baggage stays here
        if len(self.headers.get("tracestate", "")) > TRACESTATE_MAX:
            del self.headers["tracestate"]

    @_guarded
    def asks(self, request_id: str) -> None:
        """Record the id of the request, or of the one that replaces it."""
        self._attributes["identify.request_id"] = request_id
        self._span.set_attribute("identify.request_id", request_id)

    @_guarded
    def queued(self, position: int | None, eta_ms: int | None, reason: str) -> None:
        """Record a change of the position, the ETA or the reason."""
        if self._events >= EVENTS_MAX:
            return
        self._events += 1
        fields = {"identify.position": position, "identify.eta_ms": eta_ms, "identify.reason": reason}
        self._span.add_event("queued", {name: value for name, value in fields.items() if value is not None})

    @_guarded
    def granted(self, grant: Grant) -> None:
        """End `identify acquire`: the shard has the grant."""
        self._attributes |= {"identify.shard_id": grant.shard_id, "identify.bucket": grant.bucket}
        self._span.set_attributes(
            {
                "identify.bucket": grant.bucket,
                "identify.max_concurrency": grant.max_concurrency,
                "identify.waited_ms": grant.waited_ms,
            }
        )
        self._end("granted")

    @_guarded
    def ended(self, outcome: str) -> None:
        """End `identify acquire` without a grant: `withdrawn`, or `closed`."""
        self._end(outcome)

    @_guarded
    def decided(self, outcome: str) -> None:
        """Record what became of the grant: `identified`, or `declined`."""
        self._follow("identify use", outcome)

    @_guarded
    def reported(self, outcome: str) -> None:
        """Record what Discord replied: `ready`, or `rejected`."""
        self._follow("identify ready", outcome)

    def _end(self, outcome: str) -> None:
        if self._is_over:
            return
        self._is_over, self._since_ns = True, time_ns()
        self._span.set_attribute("identify.outcome", outcome)
        self._span.end(self._since_ns)

    def _follow(self, name: str, outcome: str) -> None:
        """Make a child that has just ended; it began where the span before it ended."""
        attributes = {**self._attributes, "identify.outcome": outcome}
        span = self._tracer.start_span(name, self._context, attributes=attributes, start_time=self._since_ns)
        self._since_ns = max(time_ns(), self._since_ns)
        span.end(self._since_ns)
