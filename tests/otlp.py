"""A collector for tests: takes spans over OTLP/HTTP on loopback, and keeps them in plain form."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Seen:
    """One span, with the replica that made it."""

    name: str
    replica: str
    trace_id: int
    span_id: int
    parent_id: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]


class Collector:
    """What has arrived so far.

    Attributes:
        refuses: whether it answers 400 and keeps nothing.
    """

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.refused = 0
        self.refuses = False
        self.url = ""

    def of_trace(self, trace_id: int) -> list[Seen]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def take(self, body: bytes) -> int:
        """Keep the spans of one export, and return the status of the reply."""
        if self.refuses:
            self.refused += 1
            return 400
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = attributes_of(part.resource)
            for scope in part.scope_spans:
                self.spans += [seen(span, resource["service.instance.id"]) for span in scope.spans]
        return 200


def attributes_of(what: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in what.attributes}


def seen(span: Span, replica: str) -> Seen:
    trace_id, span_id, parent_id = (
        int.from_bytes(name, "big") for name in (span.trace_id, span.span_id, span.parent_span_id)
    )
    times = (span.start_time_unix_nano, span.end_time_unix_nano)
    return Seen(span.name, replica, trace_id, span_id, parent_id, *times, attributes_of(span))


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector on a free port of loopback."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()
