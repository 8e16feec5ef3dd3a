"""``nats-identify events`` and ``history``: prints what happens, and what has happened, a line for each event."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import typer
from nats.aio.msg import Msg

from nats_identify.cli.operator import ClosedForGoodError, connected
from nats_identify.cli.options import CommandError, Exit, Where, as_line
from nats_identify.cli.when import Instant, show_ms
from nats_identify.printable import printable

EVENT_BYTES_MAX: Final = 16_384
"""A larger message is no event: one has ids, numbers, and a name or a text of 1 KiB at most."""

CLIENTS_KEPT: Final = 10_000
"""Requests whose client is remembered: the events of a grant do not name it."""

EVENTS_AHEAD_MAX: Final = 10_000
"""Events that wait for the output at most."""

_FIRST: Final = ("shard_id", "bucket", "client")
_TEXT_MAX: Final = 300
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; what is empty or None is not looked at.

    Attributes:
        names: of the events. ``without``: names of events that are left out.
        shard_id, bucket, client: of the request.
    """

    names: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    shard_id: int | None = None
    bucket: int | None = None
    client: str | None = None
    _clients: OrderedDict[str, str] = field(default_factory=OrderedDict, compare=False, repr=False)

    def passes(self, name: str, fields: Fields) -> bool:
        """Whether it is wanted. The client of a request is remembered from the event that named it."""
        client = self._client_of(fields)
        return (
            (not self.names or name in self.names)
            and name not in self.without
            and (self.shard_id is None or fields.get("shard_id") == self.shard_id)
            and (self.bucket is None or fields.get("bucket") == self.bucket)
            and (self.client is None or client == self.client)
        )

    def _client_of(self, fields: Fields) -> str | None:
        request_id, client = fields.get("request_id"), fields.get("client")
        if isinstance(request_id, str) and isinstance(client, str):
            self._clients[request_id] = client
            if len(self._clients) > CLIENTS_KEPT:
                self._clients.popitem(last=False)
        return client if isinstance(client, str) else self._clients.get(str(request_id))


def read_event(payload: bytes) -> dict[str, Any] | None:
    """Return the fields of an event, or None where it is none: every client of the server may send one."""
    if len(payload) > EVENT_BYTES_MAX:
        return None
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def in_a_line(name: str, fields: Fields) -> str:
    """Write an event for people: its time, its name, which request, and the rest."""
    at = printable(fields.get("at", "at an unknown time"), _TEXT_MAX)
    first = [(key, fields[key]) for key in _FIRST if fields.get(key) is not None]
    rest = [(key, value) for key, value in fields.items() if key not in {*_FIRST, "at"} and value not in (None, "")]
    shown = [f"{printable(key, _TEXT_MAX).removesuffix('_id')} {printable(value, _TEXT_MAX)}" for key, value in first]
    shown += [f"{printable(key, _TEXT_MAX)}={_value(value)}" for key, value in rest]
    return f"{at}  {printable(name, _TEXT_MAX):<13} {'  '.join(shown)}".rstrip()


def _value(value: object) -> str:
    """A text with blanks is quoted, so that the next field is seen to be another."""
    text = printable(value, _TEXT_MAX)
    return f'"{text}"' if " " in text else text


def show(name: str, fields: Fields, *, as_json: bool) -> None:
    """Print one event."""
    typer.echo(as_line({"name": name, **fields}) if as_json else in_a_line(name, fields))


class _Outage:
    """Reports when NATS goes away and when it is back, once each, on standard error."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    async def begin(self) -> None:
        if self._since_s is None:
            self._since_s = monotonic()
            typer.echo("NATS is away: it is tried again until it is back; events of this time are lost", err=True)

    async def end(self) -> None:
        if self._since_s is not None:
            typer.echo(f"NATS is back after {show_ms((monotonic() - self._since_s) * 1000)}", err=True)
            self._since_s = None


class _Received:
    """Events between NATS and the output; what is more than a slow reader of it can take is dropped and counted.

    nats-py's own `next_msg` can lose a cancellation while messages arrive (before Python 3.12).
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._dropped = 0

    def put(self, message: Msg) -> None:
        if self._queue.qsize() >= EVENTS_AHEAD_MAX:
            self._dropped += 1
        else:
            self._queue.put_nowait(message)

    async def end(self) -> None:
        self._queue.put_nowait(None)

    async def get(self) -> Msg | None:
        """Return the next one; None: no more will come."""
        if self._dropped and self._queue.empty():
            typer.echo(f"{self._dropped} events were dropped: they came faster than this output is read", err=True)
            self._dropped = 0
        message = await self._queue.get()
        await asyncio.sleep(0)  # messages are received and signals are handled however many wait
        return message


async def follow_events(where: Where, wanted: EventFilter, *, as_json: bool) -> int:
    """Print each event that is wanted, until cancelled.

    Raises:
        NoAnswerError: there is no NATS, or this login may not subscribe to events.
        ClosedForGoodError: NATS takes this login no more.
    """
    outage, received = _Outage(), _Received()
    async with connected(where, on_away=outage.begin, on_back=outage.end, on_closed=received.end) as operator:
        await operator.listen(operator.subjects.events, received.put)
        typer.echo(f"follows {operator.subjects.events} at {operator.shown}; ctrl-C ends it", err=True)
        while (message := await received.get()) is not None:
            fields = read_event(message.data)
            name = message.subject.rpartition(".")[2]
            if fields is not None and wanted.passes(name, fields):
                show(name, fields, as_json=as_json)
    raise ClosedForGoodError


async def show_history(
    where: Where, wanted: EventFilter, since: Instant, until: Instant | None, *, as_json: bool
) -> int:
    """Print the stored events that are wanted, the oldest first. Return the exit status.

    Raises:
        NoAnswerError: there is no NATS.
        CommandError: no history is kept there, or this login may not read it.
    """
    from nats_identify.history import HistoryError, read_history  # noqa: PLC0415  # this command alone needs them

    end = datetime.now(UTC) if until is None else until.at
    if since.at >= end:
        message = "--since is not before --until: nothing can lie between them"
        raise CommandError(message, Exit.WRONG_OPTION)
    for instant in (since, until):
        if instant is not None and instant.assumed:
            typer.echo(instant.assumed, err=True)
    shown = 0
    async with connected(where) as operator:
        try:
            async for event in read_history(operator.connection, where.prefix, since.at, end):
                if wanted.passes(event.name, event.fields):
                    shown += 1
                    show(event.name, {"at": event.at.isoformat(), **event.fields}, as_json=as_json)
                    await asyncio.sleep(0)  # a signal ends it in the middle of a page, too
        except HistoryError as error:
            raise CommandError(printable(error)) from error
    if not shown:
        typer.echo("no such event was stored in this time", err=True)
    return Exit.DONE
