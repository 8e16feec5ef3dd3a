"""What tests of tracing share: a tracer provider that keeps the spans, in place of the process's own."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def provider_into(exporter: InMemorySpanExporter, **options) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False, **options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def set_provider(monkeypatch, provider: TracerProvider) -> None:
    """Make it the process's own for one test; OpenTelemetry lets a program do so only once."""
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)


def named(exporter: InMemorySpanExporter, name: str):
    """The finished spans of this name."""
    return [span for span in exporter.get_finished_spans() if span.name == name]
