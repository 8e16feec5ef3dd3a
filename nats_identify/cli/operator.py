"""Asks the coordinators as an operator does: the status, the commands, the events. It draws nothing.

An error of the server's that ends a request, such as a missing permission, is reported at once and in its own words.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg
from pydantic import ValidationError

from nats_identify.cli.options import CommandError, Exit, Where
from nats_identify.nats_connection import NatsClient, open_connection
from nats_identify.operator_wire import (
    PAGE_MAX,
    Command,
    Done,
    FullStatus,
    NotDone,
    RequestStatus,
    StatusQuery,
    decode_command_reply,
)
from nats_identify.printable import printable
from nats_identify.wire import Message, Subjects, why_invalid

ANSWER_WITHIN_S: Final = 2.0
"""A coordinator answers a status in milliseconds."""

COMMAND_WITHIN_S: Final = 6.0
"""Two leases. A leader answers a command when the ledger has it; without a leader there is no answer, then or later."""

PAGES_MAX: Final = 100
"""Pages of a shard's requests that are looked up at most: whatever a coordinator answers, it ends."""

CONNECT_WITHIN_S: Final = 2
ERRORS_KEPT: Final = 256


class NoAnswerError(CommandError):
    """There is no NATS at that address, or no coordinator on it."""


class ClosedForGoodError(CommandError):
    """NATS closed the connection and takes this login no more."""

    def __init__(self) -> None:
        super().__init__("NATS closed the connection for good; has the login been changed or revoked?")


class UnknownOutcomeError(CommandError):
    """A command was sent and not answered: whether it was carried out is not known."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.TIMED_OUT)


class Connection(NatsClient):
    """A connection that can be looked at."""

    @property
    def server_info(self) -> dict[str, Any]:
        """What the server said of itself."""
        return self._server_info

    @property
    def is_encrypted(self) -> bool:
        """Whether it is TLS."""
        writer = getattr(self._transport, "_io_writer", None)
        return self._is_encrypted() or (writer is not None and writer.get_extra_info("ssl_object") is not None)


class _Said:
    """What the server reports apart from the request that it ends, such as a missing permission."""

    def __init__(self) -> None:
        self.last: Exception | None = None
        self.errors: deque[str] = deque(maxlen=ERRORS_KEPT)
        self._violation: asyncio.Future[Exception] | None = None

    async def listen(self, error: Exception) -> None:
        self.last = error
        self.errors.append(str(error))
        if "permissions violation" in str(error).lower() and self._violation and not self._violation.done():
            self._violation.set_result(error)

    async def first_of(self, reply: Awaitable[Msg]) -> Msg:
        """Return the reply, unless the server reports first that a permission is missing."""
        self.last = None
        self._violation = asyncio.get_running_loop().create_future()
        request = asyncio.ensure_future(reply)
        waiting: set[asyncio.Future[Any]] = {request, self._violation}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                return request.result()
            raise self._violation.result()
        finally:
            request.cancel()
            self._violation.cancel()
            await asyncio.wait({request})
            _ = request.cancelled() or request.exception()  # looked at: asyncio reports it otherwise

    def why(self, error: Exception) -> str:
        """Prefer the server's own words, where there are any, to the error that ended the request."""
        why = self.last or error
        return printable(why) or type(why).__name__


@dataclass(frozen=True, slots=True)
class ShardRequests:
    """The requests of a shard.

    Attributes:
        waiting: those that are not granted.
        is_granted: whether there is a grant, or a granted request, too.
        left_out: how many more there are, which were not found.
    """

    waiting: list[RequestStatus]
    is_granted: bool
    left_out: int


class Operator:
    """One operator's connection.

    Args:
        connection: to NATS.
        where: which queue is meant.
        said: what the server reported.

    Attributes:
        subjects: of the queue.
        shown: where NATS is, for people.
        errors: the last ones that the server reported.
    """

    def __init__(self, connection: Connection, where: Where, said: _Said) -> None:
        self.connection = connection
        self.subjects = Subjects(where.prefix)
        self.shown = where.nats.shown
        self.errors = said.errors
        self._said = said

    async def status(self, query: StatusQuery | None = None) -> FullStatus:
        """Ask one coordinator for the whole picture, and for the requests that the query selects.

        Raises:
            NoAnswerError: none answers, or not as a coordinator does.
            ClosedForGoodError: no further question can be asked.
            CommandError: the query selects what cannot be there.
        """
        subject = self.subjects.status
        if self.connection.is_closed:
            raise ClosedForGoodError
        payload = b"" if query is None else query.model_dump_json(exclude_none=True).encode()
        try:
            reply = await self._said.first_of(self.connection.request(subject, payload, timeout=ANSWER_WITHIN_S))
            _raise_refusal(reply)
            answer = FullStatus.model_validate_json(reply.data)
        except ValidationError as error:
            message = (
                f"what answers on {subject} at {self.shown} is no coordinator of this version ({why_invalid(error)}); "
                "update the older of the two, or find the other service that answers there"
            )
            raise NoAnswerError(message) from error
        except (nats.errors.Error, OSError) as error:  # TimeoutError is an OSError
            message = f"no coordinator answers on {subject} at {self.shown}: {self._said.why(error)}"
            raise NoAnswerError(message) from error
        if query is not None and query.is_selection and "requests" not in answer.model_fields_set:
            message = "the coordinator that answers cannot select requests: it is older; update it"
            raise NoAnswerError(message)
        return answer

    async def requests_of(self, shard_id: int) -> "ShardRequests":
        """Look the requests of a shard up, page by page.

        Raises:
            as `status`.
        """
        found: dict[str, RequestStatus] = {}  # pages overlap where the queue has moved meanwhile
        offset = 0
        for _ in range(PAGES_MAX):
            status = await self.status(StatusQuery(shard_id=shard_id, offset=offset, limit=PAGE_MAX))
            found |= {request.request_id: request for request in status.requests}
            if status.next_offset is None or status.next_offset <= offset:
                break
            offset = status.next_offset
        waiting = [request for request in found.values() if request.grant_id is None]
        is_granted = len(waiting) < len(found) or bool(status.grants)
        return ShardRequests(waiting, is_granted, max(0, status.requests_total - len(found)))

    async def listen(self, subject: str, on_message: Callable[[Msg], None]) -> None:
        """Subscribe, and return when the server has accepted it.

        Raises:
            NoAnswerError: it refuses it, or does not answer.
        """

        async def receive(message: Msg) -> None:
            on_message(message)

        self._said.last = None
        try:
            await self.connection.subscribe(subject, cb=receive)
            await round_trip(self.connection)
        except (nats.errors.Error, OSError) as error:
            message = f"NATS at {self.shown} does not answer: {self._said.why(error)}"
            raise NoAnswerError(message) from error
        if self._said.last is not None and subject.lower() in str(self._said.last).lower():
            message = f"this login may not subscribe to {subject}: {self._said.why(self._said.last)}"
            raise NoAnswerError(message)

    async def command(self, command: Command, body: Message) -> Done | NotDone:
        """Have the leader do something; return what it did, or why it did not.

        Raises:
            NoAnswerError: no coordinator takes commands there, or a permission is missing.
            UnknownOutcomeError: no leader answered in time.
        """
        subject, payload = self.subjects.command(command), body.model_dump_json(exclude_none=True).encode()
        try:
            reply = await self._said.first_of(self.connection.request(subject, payload, timeout=COMMAND_WITHIN_S))
            return decode_command_reply(reply.data)
        except ValidationError as error:
            message = f"what answers on {subject} at {self.shown} is no coordinator ({why_invalid(error)})"
            raise NoAnswerError(message) from error
        except nats.errors.NoRespondersError as error:
            message = f"no coordinator takes commands on {subject} at {self.shown}; is one running, and up to date?"
            raise NoAnswerError(message) from error
        except (nats.errors.TimeoutError, TimeoutError) as error:
            message = (
                f"no leader answered on {subject} within {COMMAND_WITHIN_S:g} s; "
                "whether it was carried out is not known: look at nats-identify status before you repeat it"
            )
            raise UnknownOutcomeError(message) from error
        except (nats.errors.Error, OSError) as error:
            message = f"cannot send on {subject} at {self.shown}: {self._said.why(error)}"
            raise NoAnswerError(message) from error


def _raise_refusal(reply: Msg) -> None:
    """Raise what a micro service answers instead of a body."""
    why = (reply.headers or {}).get("Nats-Service-Error")
    if why is not None:
        is_ours = (reply.headers or {}).get("Nats-Service-Error-Code") == "400"
        raise CommandError(printable(why), Exit.WRONG_OPTION if is_ours else Exit.REFUSED)


async def round_trip(connection: NatsClient) -> None:
    """Return when the server has processed all that was sent before, and its errors about it were received.

    The first flush may overtake what is still to be written; the second cannot.

    Raises:
        nats.errors.Error: the server does not answer.
    """
    for _ in range(2):
        await connection.flush(timeout=CONNECT_WITHIN_S)


@asynccontextmanager
async def connected(
    where: Where,
    *,
    on_away: Callable[[], Awaitable[None]] | None = None,
    on_back: Callable[[], Awaitable[None]] | None = None,
    on_closed: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Operator]:
    """Connect in this block.

    Args:
        where: which queue is meant.
        on_away: called when NATS goes away: then the connection stays and is made again, for ever. Without it, it is
            not made again.
        on_back: called when it is there again.
        on_closed: called when NATS closes the connection for good.

    Raises:
        NoAnswerError: there is no NATS, or it refuses the login.
    """
    is_ending = False

    def unless_ending(callback: Callable[[], Awaitable[None]] | None) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            if callback is not None and not is_ending:
                await callback()

        return call

    said = _Said()
    callbacks = {"disconnected_cb": on_away, "reconnected_cb": on_back, "closed_cb": on_closed}
    behaviour: dict[str, Any] = {name: unless_ending(callback) for name, callback in callbacks.items()}
    try:
        connection = await open_connection(
            where.nats,
            Connection(),
            allow_reconnect=on_away is not None,
            max_reconnect_attempts=1,  # the first connect is tried this often, too, whatever the line above
            reconnect_time_wait=0.1,
            connect_timeout=CONNECT_WITHIN_S,
            error_cb=said.listen,
            **behaviour,
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        message = f"cannot connect to NATS at {where.nats.shown}: {said.why(error)}"
        raise NoAnswerError(message) from error
    if on_away is not None:
        connection.options |= {"max_reconnect_attempts": -1, "reconnect_time_wait": 1}
    try:
        yield Operator(connection, where, said)
    finally:
        is_ending = True
        await connection.close()
