"""Spans of a wait, where the process records spans with OpenTelemetry. Without it nothing is imported or made here.

A tracer provider can be set only through the module `opentelemetry.trace`. Where that module is not loaded no provider
is set, so one look at the loaded modules decides, and a bot without tracing pays for no more than that look.
"""

import logging
import sys
from typing import TYPE_CHECKING, Final

from nats_identify.clock import now_ns
from nats_identify.trouble import Trouble

if TYPE_CHECKING:
    from nats_identify.client.otel import AcquireTrace

_API: Final = "opentelemetry.trace"

_trouble = Trouble()
logger = logging.getLogger("nats_identify")


def begin(shard_id: int, priority: int) -> "AcquireTrace | None":
    """Start the span of one `acquire`, as a child of the caller's span.

    Args:
        shard_id: the shard.
        priority: of its request.

    Returns:
        None where no span is recorded: no OpenTelemetry, no tracer provider, or not sampled. It raises nothing.
    """
    if _API not in sys.modules:
        return None
    try:
        from nats_identify.client.otel import begin as begin_span  # noqa: PLC0415  # only where the bot has it

        return begin_span(shard_id, priority)
    except Exception as error:  # a bot's own span processor may raise anything, and the wait must go on
        report_failure(error)
        return None


def report_failure(error: Exception) -> None:
    """Log that a span could not be recorded: at most one line in 30 s, without the error's own text."""
    if _trouble.note(now_ns()) is not None:
        name = type(error).__name__
        logger.warning("a span was not recorded (%s); check the bot's tracer provider and span processors", name)
