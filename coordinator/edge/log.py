"""Makes the one logger of a process, as text or JSON on standard error. It keeps no global configuration."""

import logging
import sys
from typing import Any, Final

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from nats_identify.printable import printable, printable_lines

Log = FilteringBoundLogger

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def make_log(level: str, style: str, **always: Any) -> Log:  # noqa: ANN401  # whatever a log line may carry
    """Return a logger that writes each line at once; ``always`` is on every line."""
    last: Processor = structlog.processors.JSONRenderer()
    if style == "text":
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        *((_on_one_line,) if style == "text" else ()),  # JSON escapes by itself
        last,
    ]
    wrapper = structlog.make_filtering_bound_logger(_LEVELS[level])
    printer = structlog.PrintLogger(sys.stderr)
    log: Log = structlog.wrap_logger(printer, processors=processors, wrapper_class=wrapper, **always)
    return log.bind()  # else each line, even one that is not written, binds it anew


def _on_one_line(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Escape what came from outside: structlog shows an event, an exception and a field without blanks as they are."""
    return {
        name: (printable_lines if name == "exception" else printable)(value) if isinstance(value, str) else value
        for name, value in line.items()
    }
