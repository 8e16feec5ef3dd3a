"""Turn messages from NATS into events of the core, or into a refusal with the reason. No state is kept here.

Each message ends here as an event, a refusal or a count, right off the wire: no exception leaves a handler, no client's
header is read but for its trace context where spans are recorded, and what is too large is not parsed.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pydantic import ValidationError
from pydantic_core import from_json

from coordinator.edge.busiest import Busiest
from coordinator.edge.connections import Connection
from coordinator.edge.event_queue import EventQueue, Unread
from coordinator.edge.metrics import Metrics
from coordinator.edge.refusals import BUSY, Refusals, name_of
from nats_identify.clock import Clock
from nats_identify.nats_protocol import Handler
from nats_identify.schedule.bucket_queue import QueuedRequest
from nats_identify.schedule.model import Cancel, Code, Confirmation, Outcome, RequestReceived, Undeliverable
from nats_identify.schedule.senders import sender_of
from nats_identify.wire import CLIENT_BYTES_MAX, REQUEST_BYTES_MAX, TOKEN, Answered, Cancelled, Request, Subjects

BUCKET_MAX: Final = 2**31

UNREAD_BYTES_MAX: Final = 512
"""A renewal with more is parsed when it arrives; an ordinary one has 200."""

REPLY_TO_BYTES_MAX: Final = 256
"""A longer reply subject gets no reply: it is kept for each request. The NATS clients' have about 60 bytes."""

HEADER_BYTES_MAX: Final = 4096
"""A message with more headers is dropped. None of the contract's has any; tracing adds some hundred bytes."""

_NO_RESPONDERS: Final = re.compile(rb"NATS/1\.0 503\r\n(Nats-Subject: [^\r\n]*\r\n)?\r\n")
# The message by which the server says that a grant reached no subscriber: this header block, and an empty body. Servers
# from 2.12 on add the subject. A client that only sets a header "Status" does not make this first line.

_OPENS, _CLOSES = b"{}"
_BUCKET: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_PRIORITY: Final = re.compile(rb'"priority"\s*:\s*[1-9]')
_REQUEST_ID: Final = re.compile(rb'"request_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')
_RENEWAL: Final = re.compile(rb'"renewal"\s*:\s*([0-9]{1,16})')
_CLIENT_KEY: Final = b'"client"'
_GRANT_ID: Final = re.compile(TOKEN.encode())
_REPLY_TO: Final = re.compile(rb"[!-~]{1,%d}" % REPLY_TO_BYTES_MAX)  # ASCII without blanks and control characters
_PROBLEMS_NAMED: Final = 3


class BadRequestError(ValueError):
    """The requester must change what it sends; the message says what."""


class Intake:
    """Receives requests, cancels and confirms for one replica.

    Args:
        traffic: carries them.
        subjects: where they arrive.
        event_queue: takes the events.
        refusals: sends the refusals.
        is_leading: whether this replica leads: the leader alone refuses.
        metrics: counts what is dropped.
        clock: the replica's time.
        find: returns the queued request of an id.
        trace: gets the request id and the header block of each request that has one; None: no spans are recorded.
        busiest: counts what each client sends.
    """

    def __init__(
        self,
        traffic: Connection,
        subjects: Subjects,
        event_queue: EventQueue,
        *,
        refusals: Refusals,
        is_leading: Callable[[], bool],
        metrics: Metrics,
        clock: Clock,
        find: Callable[[str], QueuedRequest | None],
        trace: Callable[[str, bytes], None] | None = None,
        busiest: Busiest | None = None,
    ) -> None:
        self._traffic = traffic
        self._subjects = subjects
        self._event_queue = event_queue
        self._refusals = refusals
        self._is_leading = is_leading
        self._metrics = metrics
        self._clock = clock
        event_queue.parse = self._read_later
        self._find = find
        self._trace = trace
        self._busiest = Busiest(clock()) if busiest is None else busiest

    async def open(self) -> None:
        """Subscribe, without a queue group: every replica receives everything."""
        most = HEADER_BYTES_MAX + REQUEST_BYTES_MAX
        on_request = self._on_request if self._trace is None else self._on_traced_request
        await self._traffic.receive(self._subjects.requests, Handler(on_request, self._on_large_request, most))
        await self._traffic.receive(self._subjects.confirms, Handler(self._on_answer, self._on_large, most))
        await self._traffic.receive(self._subjects.cancels, Handler(self._on_cancel, self._on_large, most))

    def _on_request(self, subject: bytes, reply: bytes, header: bytes, body: bytes) -> None:
        may_be_json = _may_be_json(body)
        if not (may_be_json or self._is_worth_a_refusal()):
            self._drop("bad_request")
            return
        if len(header) > HEADER_BYTES_MAX:
            self._drop("large_header")
            return
        if not _REPLY_TO.fullmatch(reply):
            self._drop("no_reply_subject")
            return
        reply_to = reply.decode("ascii")
        request_id, renewal = _glance(body)
        known = self._find(request_id)
        is_awaited = known is not None and known.is_awaited_after(renewal)
        unread = Unread(renewal, subject, reply_to, body, self._clock())
        client = (_client_in(body) if known is None else known.message.client) or sender_of(reply_to)
        self._busiest.message(client, unread.received_at_ns)
        is_ordinary = may_be_json and not is_awaited and len(subject) + len(body) <= UNREAD_BYTES_MAX
        if is_ordinary and self._event_queue.try_replace(request_id, unread):
            return
        sender = sender_of(reply_to)
        if not (self._event_queue.has_room(sender) or is_awaited or _PRIORITY.search(body)):
            self._overflow(reply_to, body)
            return
        try:
            request = self._read(unread)
        except BadRequestError as error:
            self._refuse(reply_to, body, Code.BAD_REQUEST, str(error))
        else:
            is_awaited = is_awaited and request.managed and request.request_id == request_id
            if not self._event_queue.try_put_request(request, sender, is_awaited=is_awaited):
                self._overflow(reply_to, body)
            elif known is None:
                self._busiest.new_request(client, unread.received_at_ns)

    def _on_traced_request(self, subject: bytes, reply: bytes, header: bytes, body: bytes) -> None:
        """Pass on the trace context, and take the request as any other; what a glance misses is not traced."""
        is_small = len(header) <= HEADER_BYTES_MAX and len(body) <= REQUEST_BYTES_MAX
        if self._trace is not None and header and is_small and _REPLY_TO.fullmatch(reply):
            self._trace(_glance(body)[0] or name_of(reply.decode("ascii")), header)
        self._on_request(subject, reply, header, body)

    @staticmethod
    def _read(unread: Unread) -> RequestReceived:
        bucket = bucket_of(unread.subject.decode(errors="replace"))
        request = decode_request(unread.body)
        return request.ask(
            bucket=bucket,
            reply_to=unread.reply_to,
            request_id=request.request_id or name_of(unread.reply_to),
            received_at_ns=unread.received_at_ns,
        )

    def _read_later(self, unread: Unread) -> RequestReceived | None:
        """Parse a renewal whose turn has come. An invalid one is dropped, and the older one that it replaced counts."""
        try:
            return self._read(unread)
        except BadRequestError:
            self._drop("bad_request")
            return None

    def _overflow(self, reply_to: str, body: bytes) -> None:
        """Drop a request for which there is no room. A renewal is not refused: its request stays queued."""
        self._drop("overflow")
        if self._find(_glance(body)[0]) is None:
            self._refuse(reply_to, body, Code.OVERLOADED, BUSY)

    def _on_large_request(self, _subject: bytes, reply: bytes, header_bytes: int, body_bytes: int) -> None:
        if header_bytes > HEADER_BYTES_MAX:
            self._drop("large_header")
        elif not self._is_worth_a_refusal():
            self._drop("bad_request")
        elif not _REPLY_TO.fullmatch(reply):
            self._drop("no_reply_subject")
        else:
            self._refuse(reply.decode("ascii"), b"", Code.BAD_REQUEST, _too_large(body_bytes))

    def _on_large(self, *_: bytes | int) -> None:
        self._drop("large")

    def _is_worth_a_refusal(self) -> bool:
        """Whether a refusal would be sent: one that would not is not worth computing."""
        return not self._refusals.is_full and self._is_leading()

    def _on_answer(self, subject: bytes, _reply: bytes, header: bytes, body: bytes) -> None:
        grant_id = subject.rpartition(b".")[2]
        if not (_may_be_json(body) and _GRANT_ID.fullmatch(grant_id)):
            self._drop("bad_answer")
            return
        # The header first: the server's 503 is empty, and so is the shortest way to say "identified".
        if _NO_RESPONDERS.fullmatch(header) and not body:
            self._offer(Undeliverable(grant_id.decode()))
            return
        if header and (not header.startswith(b"NATS/1.0\r\n") or b"\nstatus:" in header.lower()):
            self._drop("bad_answer")  # a status that is not the server's
            return
        try:
            outcome = decode_answer(body)
        except ValueError:
            self._drop("bad_answer")
        else:
            self._offer(Confirmation(grant_id.decode(), outcome))

    def _on_cancel(self, _subject: bytes, _reply: bytes, _header: bytes, body: bytes) -> None:
        if not (body and _may_be_json(body)):
            self._drop("bad_cancel")
            return
        try:
            cancelled = Cancelled.model_validate_json(body)
        except ValueError:
            self._drop("bad_cancel")
            return
        if not self._event_queue.try_put_request(Cancel(cancelled.request_id), "cancel"):
            self._drop("overflow")

    def _offer(self, event: Confirmation | Undeliverable) -> None:
        if not self._event_queue.try_put(event):
            self._drop("overflow")

    def _drop(self, why: str) -> None:
        self._metrics.drop(why)

    def _refuse(self, reply_to: str, body: bytes, code: Code, message: str) -> None:
        if self._is_leading():
            self._refusals.put(reply_to, body, code, message)


def _may_be_json(body: bytes) -> bool:
    """Whether it is worth parsing: a fraction of a microsecond, where a parser and its error take twenty."""
    if len(body) > REQUEST_BYTES_MAX:
        return False
    text = body.strip()
    return not text or (text[0] == _OPENS and text[-1] == _CLOSES)


def _glance(body: bytes) -> tuple[str, int]:
    """Return the request id and the number of a renewal that is not parsed; an empty string and 0 where none is seen.

    What it shows decides nothing but where the message waits: the message is parsed before it counts.
    """
    found, number = _REQUEST_ID.search(body), _RENEWAL.search(body)
    return found[1].decode() if found else "", int(number[1]) if number else 0


def _client_in(body: bytes) -> str:
    """Return the client's name in a request that is not parsed, for people; an empty string where none is seen."""
    _, _, rest = body.partition(_CLIENT_KEY)
    between, _, rest = rest.partition(b'"')
    name = rest.partition(b'"')[0]
    if between.strip() != b":":
        return ""
    if b"\\" not in name:  # nearly always
        return name.decode(errors="replace")[:CLIENT_BYTES_MAX]
    with suppress(ValueError):
        said = from_json(body)
        named = said.get("client") if isinstance(said, dict) else None
        return named[:CLIENT_BYTES_MAX] if isinstance(named, str) else ""
    return ""


def bucket_of(subject: str) -> int:
    """Return the bucket that a request's subject names.

    Raises:
        BadRequestError: it names none.
    """
    token = subject.rpartition(".")[2]
    bucket = int(token) if _BUCKET.fullmatch(token) else BUCKET_MAX + 1
    if bucket > BUCKET_MAX:
        message = f"the subject ends in {token[:32]!r}; give a bucket, a number from 0 to {BUCKET_MAX}"
        raise BadRequestError(message)
    return bucket


def decode_request(payload: bytes) -> Request:
    """Read a request; an empty payload is one.

    Raises:
        BadRequestError: it is none.
    """
    if len(payload) > REQUEST_BYTES_MAX:
        raise BadRequestError(_too_large(len(payload)))
    try:
        return Request.model_validate_json(payload if payload.strip() else b"{}")
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        said = [_problem(problem["loc"], problem["msg"]) for problem in problems[:_PROBLEMS_NAMED]]
        raise BadRequestError("; ".join(said)) from None


def decode_answer(payload: bytes) -> Outcome:
    """Read a confirm of a grant; an empty payload means identified.

    Raises:
        ValueError: it is none.
    """
    if not payload:
        return Outcome.IDENTIFIED
    return Answered.model_validate_json(payload).outcome


def _too_large(body_bytes: int) -> str:
    return f"the payload has {body_bytes} bytes; a request has {REQUEST_BYTES_MAX} at most"


def _problem(where: tuple[int | str, ...], said: str) -> str:
    field = ".".join(str(part) for part in where)
    return f"{field}: {said}" if field else f"the payload is no request: {said}"
