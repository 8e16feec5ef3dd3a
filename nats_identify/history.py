"""Reads the events that coordinators with IDENTIFY_HISTORY keep in JetStream. It shows and decides nothing.

The NATS user that reads needs: publish to ``$JS.API.STREAM.INFO.<stream>``, ``$JS.API.CONSUMER.CREATE.<stream>`` with
what follows, and ``$JS.API.CONSUMER.MSG.NEXT.<stream>`` with what follows; subscribe to its inbox. The consumer ends by
itself.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from nats_identify.wire import Subjects

ANSWER_WITHIN_S: Final = 5.0
BATCH: Final = 256
"""Events that are on their way at a time."""

ATTEMPTS: Final = 3
"""Consumers that are made at most, where the server that has one goes away while it is read."""

INACTIVE_S: Final = 30.0
"""The server removes a consumer that was not read for this time."""


class HistoryError(Exception):
    """The history cannot be read; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class HistoricEvent:
    """One event.

    Attributes:
        name: such as ``granted``.
        at: when NATS stored it, in UTC.
        fields: as it was published, ``at`` included; empty where it cannot be read.
    """

    name: str
    at: datetime
    fields: dict[str, Any]


async def read_history(
    connection: Client, prefix: str, since: datetime, until: datetime | None = None
) -> AsyncIterator[HistoricEvent]:
    """Read what was stored from ``since`` to ``until``, the oldest first; it ends where the stream ended at the call.

    Args:
        connection: to NATS; it stays open.
        prefix: the coordinators' IDENTIFY_PREFIX.
        since: an instant with a time zone.
        until: another; None: now.

    Raises:
        HistoryError: no history is kept, this user may not read it, or NATS does not send it.
        ValueError: an instant has no time zone, or the prefix is none.
    """
    if since.tzinfo is None or (until is not None and until.tzinfo is None):
        wrong = "give since and until with a time zone, as in datetime.now(UTC)"
        raise ValueError(wrong)
    subjects = Subjects(prefix)
    reader = _Reader(connection.jetstream(timeout=ANSWER_WITHIN_S), subjects)
    last = await reader.last_sequence()
    start: dict[str, Any] = {"deliver_policy": api.DeliverPolicy.BY_START_TIME, "opt_start_time": since}
    for _ in range(ATTEMPTS):
        async with aclosing(reader.read(start)) as messages:  # its consumer ends before the connection does
            async for message in messages:
                place = message.metadata
                if place.sequence.stream > last or (until is not None and place.timestamp > until):
                    return
                yield _event_of(message, subjects)
                start = {
                    "deliver_policy": api.DeliverPolicy.BY_START_SEQUENCE,
                    "opt_start_seq": place.sequence.stream + 1,
                }
        if reader.is_at_end:
            return
    why = f"NATS does not send the rest of stream {subjects.event_stream}; try again"
    raise HistoryError(why)


class _Reader:
    """Consumers of one stream, one after the other.

    Attributes:
        is_at_end: the last one had nothing more to send.
    """

    def __init__(self, jetstream: JetStreamContext, subjects: Subjects) -> None:
        self.is_at_end = False
        self._jetstream = jetstream
        self._subjects = subjects

    async def last_sequence(self) -> int:
        """Return the number of the newest event; 0 where there is none."""
        try:
            return (await self._jetstream.stream_info(self._subjects.event_stream)).state.last_seq
        except (errors.Error, OSError) as error:
            raise _explained(error, self._subjects) from error

    async def read(self, start: dict[str, Any]) -> AsyncGenerator[Msg, None]:
        """Give the messages from there on; it ends too where the server sends no more although there are some."""
        stream = self._subjects.event_stream
        config = api.ConsumerConfig(
            name=self._jetstream._nc._nuid.next().decode(),  # noqa: SLF001  # as nats-py names its own
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=INACTIVE_S,
            mem_storage=True,
            num_replicas=1,
            **start,
        )
        try:
            consumer = await self._jetstream.add_consumer(stream, config)
            subscription = await self._jetstream.pull_subscribe_bind(consumer=consumer.name, stream=stream)
        except (errors.Error, OSError) as error:
            raise _explained(error, self._subjects) from error
        left = consumer.num_pending or 0
        try:
            while left:
                for message in await subscription.fetch(min(BATCH, left), timeout=ANSWER_WITHIN_S):
                    left = message.metadata.num_pending
                    yield message
            self.is_at_end = True
        except (errors.Error, TimeoutError):
            return  # what was left may have been deleted since, or the consumer's server has gone
        finally:
            await subscription.unsubscribe()


def _event_of(message: Msg, subjects: Subjects) -> HistoricEvent:
    try:
        fields = json.loads(message.data)
    except ValueError:  # any client that may publish there can have written it
        fields = None
    name = message.subject.removeprefix(subjects.event(""))
    return HistoricEvent(name, message.metadata.timestamp, fields if isinstance(fields, dict) else {})


def _explained(error: Exception, subjects: Subjects) -> HistoryError:
    stream = subjects.event_stream
    if isinstance(error, NotFoundError):
        made = f"--subjects '{subjects.all_events}' --storage file --discard old --max-age 24h --max-bytes 256MiB"
        return HistoryError(
            f"no history is kept: there is no stream {stream}; set IDENTIFY_HISTORY=24h for the coordinators, "
            f"or make it: nats stream add {stream} {made} --defaults"
        )
    if isinstance(error, TimeoutError | errors.TimeoutError):
        needs = (
            f"$JS.API.STREAM.INFO.{stream}, $JS.API.CONSUMER.CREATE.{stream}.> and $JS.API.CONSUMER.MSG.NEXT.{stream}.>"
        )
        return HistoryError(f"NATS does not answer about stream {stream}; this NATS user must be allowed {needs}")
    words = error.description if isinstance(error, APIError) and error.description else str(error)
    return HistoryError(f"stream {stream} cannot be read: {words or type(error).__name__}")
