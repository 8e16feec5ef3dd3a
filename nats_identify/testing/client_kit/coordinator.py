"""Plays the coordinator of one prefix: records what the client sends, and sends what a rule wants. It has no queue."""

import secrets
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import NoRespondersError
from pydantic import BaseModel, ValidationError

from nats_identify import wire
from nats_identify.clock import now_ns
from nats_identify.printable import printable
from nats_identify.reason import Reason
from nats_identify.testing.client_kit.record import CancelSeen, ConfirmSeen, Record, RequestSeen, natural

WINDOW_MS: Final = 5_000
HEADER_BYTES_MAX: Final = 4_096
REPLY_SUBJECT_MAX: Final = 256
"""Bounds of docs/protocol.md, which a real coordinator keeps."""

SETTLE_WITHIN_S: Final = 30.0
IN_TIME_MS: Final = 60_000
"""The use_within of a grant that is to be used: the longest of the contract."""

REFUSALS: Final = {
    Reason.BAD_REQUEST: "the kit refuses this request, to see when it is sent again",
    Reason.WRONG_BUCKET: "this shard belongs to another bucket",
    Reason.SESSION_LIMIT: "the day's session starts are spent",
    Reason.OVERLOADED: "the queue is full",
    Reason.ENDED: "this request has had its turn or was withdrawn; ask again with a new request_id",
}


@dataclass(frozen=True, slots=True)
class GrantSent:
    """A grant as it was sent: where to, and where its confirm belongs."""

    body: wire.Granted
    inbox: str
    confirm_to: str

    @property
    def grant_id(self) -> str:
        """Its identity."""
        return self.body.grant_id


class PlayedCoordinator:
    """What a client sees of a leader, on a connection of the kit's own.

    Args:
        connection: to nats-server, not through the proxy.
        subjects: of the case.
        max_concurrency: what `info` answers, and grants name.
        record: takes what the client sends.
    """

    def __init__(self, connection: Client, subjects: wire.Subjects, max_concurrency: int, record: Record) -> None:
        self.max_concurrency = max_concurrency
        self._connection = connection
        self._subjects = subjects
        self._record = record
        self._subscriptions: list[Subscription] = []

    @property
    def prefix(self) -> str:
        """Of its subjects."""
        return self._subjects.prefix

    async def subscribe(self) -> None:
        """Be there; returns when the server knows it."""
        for subject, callback in (
            (self._subjects.requests, self._on_request),
            (self._subjects.confirms, self._on_confirm),
            (self._subjects.cancels, self._on_cancel),
            (self._subjects.info, self._on_info),
        ):
            self._subscriptions.append(await self._connection.subscribe(subject, cb=callback))
        await self._settle()

    async def unsubscribe(self) -> None:
        """Be away: NATS answers requests with 503 from now on."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.unsubscribe()
        await self._settle()

    async def queued(
        self,
        request: RequestSeen,
        *,
        renew_in_ms: int,
        position: int = 3,
        eta_ms: int | None = 600_000,
        max_concurrency: int | None = None,
    ) -> int:
        """Reply that the request waits; return when, in nanoseconds: no later than it was sent."""
        buckets = max_concurrency or self.max_concurrency
        reply = wire.Queued(
            shard_id=request.shard_id,
            bucket=request.shard_id % buckets,
            request_id=request.request_id,
            position=position,
            eta_ms=eta_ms,
            renew_in_ms=renew_in_ms,
            reason=Reason.WINDOW,
            max_concurrency=buckets,
        )
        return await self.send(request.reply_to, reply)

    async def refuse(self, request: RequestSeen, code: Reason, **fields: Any) -> int:  # noqa: ANN401  # fields of wire.Refused
        """Refuse the request; return when, in nanoseconds: no later than it was sent.

        Args:
            request: to be refused.
            code: why.
            fields: ``max_concurrency``, ``retry_after_ms``.
        """
        reply = wire.Refused(code=code, message=REFUSALS[code], request_id=request.request_id, **fields)
        number = next(str(value) for known, value in wire.ERROR_NUMBERS.items() if known == code.value)
        headers = {"Nats-Service-Error-Code": number, "Nats-Service-Error": reply.message}
        return await self.send(request.reply_to, reply, headers=headers)

    def grant_of(self, request: RequestSeen, *, use_within_ms: int = IN_TIME_MS, **fields: Any) -> GrantSent:  # noqa: ANN401  # fields of wire.Granted
        """Return a new grant for the request, for its renewal and in time but for what ``fields`` say."""
        buckets = self.max_concurrency
        values = {
            "shard_id": request.shard_id,
            "bucket": request.shard_id % buckets,
            "request_id": request.request_id,
            "grant_id": f"1-{secrets.token_hex(8)}",
            "renewal": request.body.renewal,
            "use_within_ms": use_within_ms,
            "waited_ms": 0,
            "remaining": 900,
            "max_concurrency": buckets,
            "term": 1,
        }
        body = wire.Granted(**{**values, **fields})
        return GrantSent(body, request.reply_to, self._subjects.confirm(body.bucket, body.grant_id))

    async def send_grant(self, grant: GrantSent) -> None:
        """Send a grant, or its copy."""
        await self.send(grant.inbox, grant.body, reply=grant.confirm_to)

    async def send(
        self, inbox: str, body: BaseModel | bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> int:
        """Publish a reply of any kind; return when, in nanoseconds: no later than it was sent."""
        at_ns = now_ns()
        is_refusal = isinstance(body, wire.Refused)
        payload = body if isinstance(body, bytes) else body.model_dump_json(exclude_none=is_refusal).encode()
        await self._connection.publish(inbox, payload, reply=reply, headers=headers)
        await self._connection.flush()
        return at_ns

    async def _settle(self) -> None:
        """Return when the server has taken in what was subscribed: a request is a barrier, a flush is none."""
        try:
            await self._connection.request(f"{self._subjects.prefix}.nothing", b"", timeout=SETTLE_WITHIN_S)
        except NoRespondersError:
            return

    async def _on_request(self, message: Msg) -> None:
        at_ns, token = now_ns(), message.subject.rpartition(".")[2]
        if message.headers and message.headers.get("Status"):
            return
        problem, body = _problem_of(message, self._subjects.prefix), wire.Request()
        try:
            body = wire.Request.model_validate_json(message.data or b"{}")
        except ValidationError as error:
            problem = problem or wire.why_invalid(error)
        bucket = natural(token)
        if bucket is None:
            problem = problem or f"its subject ends with {printable(token)}, which is no bucket"
        self._record.add(RequestSeen(at_ns, bucket or 0, message.reply, body, problem))

    async def _on_confirm(self, message: Msg) -> None:
        at_ns = now_ns()
        if message.headers and message.headers.get("Status"):
            return  # NATS itself: the client could not receive that grant
        bucket, grant_id = message.subject.split(".")[-2:]
        try:
            outcome = wire.Answered.model_validate_json(message.data or b"{}").outcome
        except ValidationError:
            outcome = None
        self._record.add(ConfirmSeen(at_ns, natural(bucket), grant_id, outcome))

    async def _on_cancel(self, message: Msg) -> None:
        at_ns, bucket = now_ns(), message.subject.rpartition(".")[2]
        try:
            request_id = wire.Cancelled.model_validate_json(message.data).request_id
        except ValidationError:
            request_id = None
        self._record.add(CancelSeen(at_ns, natural(bucket), request_id))

    async def _on_info(self, message: Msg) -> None:
        limits = wire.SessionStartLimit(total=1000, remaining=900, reset_after_ms=3_600_000)
        info = wire.Info(
            max_concurrency=self.max_concurrency,
            window_ms=WINDOW_MS,
            session_start_limit=limits,
            shards=1,
            leader="the-kit",
            term=1,
            version="kit",
        )
        if message.reply:
            await self._connection.publish(message.reply, info.model_dump_json().encode())


def _problem_of(message: Msg, prefix: str) -> str:
    """Return why a coordinator drops or refuses this message, whatever its payload is; empty: it does not."""
    reply = message.reply
    if not reply:
        return "it has no reply subject, and a coordinator drops it"
    if len(reply) > REPLY_SUBJECT_MAX or not reply.isascii() or not reply.isprintable():
        return f"its reply subject is not 1 to {REPLY_SUBJECT_MAX} printable ASCII characters"
    if reply.startswith(("$", f"{prefix}.")):
        return f"its reply subject begins with $ or with {prefix}, and a coordinator drops it"
    if len(message.data) > wire.REQUEST_BYTES_MAX:
        return f"it has {len(message.data)} bytes; a request has {wire.REQUEST_BYTES_MAX} at most"
    if sum(len(name) + len(value) for name, value in (message.headers or {}).items()) > HEADER_BYTES_MAX:
        return f"its headers have more than {HEADER_BYTES_MAX} bytes"
    return ""
