"""Answers info, status and refresh on NATS, as a micro service that the usual tools find. It decides nothing."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final

from nats import errors, micro
from nats.micro.request import Handler, Request
from nats.micro.service import EndpointConfig, ServiceConfig
from nats.micro.service import Service as MicroService
from pydantic import ValidationError
from pydantic_core import from_json

from coordinator.core.replica import Replica
from coordinator.edge import query, status
from coordinator.edge.busiest import Busiest
from coordinator.edge.connections import Connection
from coordinator.edge.limits import DiscordLimits, StaticLimits
from coordinator.edge.publisher import Publisher
from nats_identify.clock import Clock
from nats_identify.operator_wire import COMMAND_BYTES_MAX, StatusQuery
from nats_identify.schedule.model import Code
from nats_identify.schemas import schema_of
from nats_identify.wire import ERROR_NUMBERS, Info, Refused, Subjects, why_invalid

VERSION: Final = version("nats-identify")
REFRESHES_MAX: Final = 100
"""Operators that may wait for one fetch, at most."""

_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


NOTHING: Final = {"description": "An empty payload; another one is not read."}
"""The schema of a request without a payload."""


class BadQueryError(ValueError):
    """The operator must change the query; the message says what."""


class Service:
    """Answers the requests of operators and clients for info, status and refresh.

    Args:
        traffic: carries the questions.
        subjects: where they arrive.
        replica: its state is shown.
        publisher: sends what the leader alone answers.
        limits: Discord's, or those of the settings.
        busiest: what each client has sent.
        is_leading: whether this replica leads.
        clock: the replica's time.
    """

    def __init__(
        self,
        traffic: Connection,
        subjects: Subjects,
        replica: Replica,
        *,
        publisher: Publisher,
        limits: DiscordLimits | StaticLimits,
        busiest: Busiest,
        is_leading: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._traffic = traffic
        self._subjects = subjects
        self._replica = replica
        self._publisher = publisher
        self._limits = limits
        self._busiest = busiest
        self._is_leading = is_leading
        self._clock = clock
        self._refreshing: set[asyncio.Task[None]] = set()
        self._micro: MicroService | None = None

    async def open(self) -> None:
        """Subscribe; one replica answers info and status, the leader answers refresh."""
        config = ServiceConfig(
            name="identify-coordinator",
            version=semantic(VERSION),
            description="One IDENTIFY queue for all shards of a Discord bot",
            metadata={"prefix": self._subjects.prefix, "replica": self._replica.settings.name},
        )
        self._micro = await micro.add_service(self._traffic, config)
        subjects, info = self._subjects, schema_of("info")
        query, status = schema_of("status_query"), schema_of("status")
        await self.add_endpoint("info", subjects.info, self._answer_info, request=NOTHING, reply=info)
        await self.add_endpoint("status", subjects.status, self._answer_status, request=query, reply=status)
        await self.add_endpoint(
            "refresh", subjects.refresh, self._asked_to_refresh, request=NOTHING, reply=info, reaches_all=True
        )

    async def add_endpoint(
        self,
        name: str,
        subject: str,
        handler: Handler,
        *,
        request: Mapping[str, Any],
        reply: Mapping[str, Any],
        reaches_all: bool = False,
    ) -> None:
        """Serve one more subject, which the usual tools list; call it after `open`.

        Args:
            name: of the endpoint; letters, digits, _ and -.
            subject: where its requests arrive.
            handler: answers one; the next one waits for it. What it raises is answered as error 500.
            request: the JSON Schema of its payload; tools find it as ``request_schema`` in the metadata.
            reply: the same of the reply, as ``reply_schema``.
            reaches_all: every replica receives each request, for what the leader alone answers; else one does.
        """
        assert self._micro is not None, "it is open"  # noqa: S101  # `open` comes first
        metadata = {"request_schema": _compact(request), "reply_schema": _compact(reply)}
        group = self._replica.settings.instance if reaches_all else None
        config = EndpointConfig(name, handler, subject=subject, queue_group=group, metadata=metadata)
        await self._micro.add_endpoint(config)

    def info(self) -> Info:
        """Return the limits as they are known here."""
        return status.info(self._replica, self._clock(), limits=self._limits, version=VERSION)

    async def _answer_info(self, request: Request) -> None:
        with suppress(ValueError, errors.Error):  # no reply subject, or no connection
            await request.respond(self.info().model_dump_json().encode())

    async def _answer_status(self, request: Request) -> None:
        with suppress(errors.Error):  # no connection
            try:
                payload = await self._status(request.data)
            except BadQueryError as error:
                await respond_error(request, Code.BAD_REQUEST, str(error))
            else:
                with suppress(ValueError):  # no reply subject
                    await request.respond(payload)

    async def _status(self, payload: bytes) -> bytes:
        """Return the status that a query asks for.

        Raises:
            BadQueryError: it cannot be read, or selects nothing that can be there.
        """
        asked, state = decode_query(payload), self._replica.schedule.state
        problem = query.problem_of(asked, state)
        if problem is not None:
            raise BadQueryError(problem)
        selection = query.Selection(state, asked) if asked.is_selection else None
        for _ in selection.steps() if selection is not None else ():
            await asyncio.sleep(0)
        known = query.full_status(
            self._replica,
            self._clock(),
            limits=self._limits,
            version=VERSION,
            busiest=self._busiest,
            selection=selection,
        )
        return known.model_dump_json().encode()

    async def _asked_to_refresh(self, request: Request) -> None:
        reply_to = request._msg.reply  # noqa: SLF001  # the one way to answer later, while the next one is received
        if reply_to and self._is_leading() and len(self._refreshing) < REFRESHES_MAX:
            task = asyncio.create_task(self._refresh(reply_to))
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    async def _refresh(self, reply_to: str) -> None:
        trouble = await self._limits.refresh()
        headers = None
        if trouble is not None:  # what is known is sent all the same
            headers = {"Nats-Service-Error-Code": "503", "Nats-Service-Error": trouble}
        await self._publisher.send(reply_to, self.info().model_dump_json().encode(), headers=headers)


def decode_query(payload: bytes) -> StatusQuery:
    """Read a status query; an empty payload asks for the whole picture.

    Raises:
        BadQueryError: it is none; the message says what to change.
    """
    if len(payload) > COMMAND_BYTES_MAX:
        message = f"the payload has {len(payload)} bytes; a query has {COMMAND_BYTES_MAX} at most"
        raise BadQueryError(message)
    try:
        asked = StatusQuery.model_validate_json(payload if payload.strip() else b"{}")
    except ValidationError as error:
        raise BadQueryError(why_invalid(error).replace("Value error, ", "")) from None
    if not asked.model_fields_set and payload.strip() and from_json(payload):
        message = f"none of its fields is known; a query has {', '.join(StatusQuery.model_fields)}"
        raise BadQueryError(message)  # a misspelt selection is not the whole picture
    return asked


async def respond_error(request: Request, code: Code, message: str) -> None:
    """Answer an operator that a request is refused: as NATS services do in headers, and as a refusal in JSON."""
    body = Refused(code=code, message=message).model_dump_json(exclude_none=True).encode()
    with suppress(ValueError):  # no reply subject
        await request.respond_error(str(ERROR_NUMBERS[code]), message, body)


def _compact(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, separators=(",", ":"))


def semantic(python_version: str) -> str:
    """Return a version as NATS wants it: of 1.2.dev3 the numbers, 1.2.0."""
    found = _NUMBERS.match(python_version)
    return ".".join(number or "0" for number in found.groups()) if found else "0.0.0"
