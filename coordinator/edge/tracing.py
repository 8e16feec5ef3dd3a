"""Decides by the OTEL_ variables whether a coordinator records spans, and sets that up. It makes no span itself.

Without those variables OpenTelemetry is not imported, and messages, replies and writes take the same way as ever.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from coordinator.edge.log import Log
from nats_identify.clock import Clock
from nats_identify.schedule.bucket_queue import QueuedRequest

if TYPE_CHECKING:
    from coordinator.edge.otel import Tracing

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
"""The one protocol that is served, and the default of the specification."""

EXPORTERS: Final = frozenset({"otlp", "console"})


def exporter_of(environment: Mapping[str, str]) -> str:
    """Return what `OTEL_TRACES_EXPORTER` names, or ``otlp`` where only an endpoint is set; empty: record nothing.

    Raises:
        ValueError: the variables ask for what is not there; the text says what to change.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    has_endpoint = any(environment.get(name, "").strip() for name in ENDPOINTS)
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip() or ("otlp" if has_endpoint else "none")
    if exporter == "none":
        return ""
    if exporter not in EXPORTERS:
        message = f"OTEL_TRACES_EXPORTER: give one of {', '.join(sorted(EXPORTERS))}, none"
        raise ValueError(message)
    protocol = next((environment[name].strip() for name in PROTOCOLS if environment.get(name, "").strip()), PROTOCOL)
    if exporter == "otlp" and protocol != PROTOCOL:
        message = f"OTEL_EXPORTER_OTLP_PROTOCOL: give {PROTOCOL}, and an endpoint that takes it (port 4318)"
        raise ValueError(message)
    return exporter


def start(
    environment: Mapping[str, str],
    *,
    replica: str,
    find: Callable[[str], QueuedRequest | None],
    clock: Clock,
    log: Log,
) -> "Tracing | None":
    """Begin to record spans if the environment asks for it; None where it does not, or where that is impossible.

    A coordinator never ends, and never waits, because of tracing: what is wrong with it is logged once.

    Args:
        environment: the process's own.
        replica: this replica's name.
        find: returns the queued request of an id.
        clock: the replica's time.
        log: gets what is wrong.
    """
    try:
        exporter = exporter_of(environment)
        if not exporter:
            return None
        from coordinator.edge.otel import open_tracing  # noqa: PLC0415  # an extra

        tracing = open_tracing(exporter, replica=replica, find=find, clock=clock, log=log)
    except ImportError:
        log.warning("tracing is off: OpenTelemetry is not installed; install the extra nats-identify[otel]")
    except ValueError as error:
        log.warning("tracing is off: a variable must be changed", why=str(error))
    except Exception as error:  # of the SDK; its text may hold an address with a password
        log.warning("tracing is off: OpenTelemetry cannot start; check the OTEL_ variables", why=type(error).__name__)
    else:
        log.info("tracing is on", exporter=exporter)
        return tracing
    return None
