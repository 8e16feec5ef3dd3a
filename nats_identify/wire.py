"""The contract on the wire: subjects and messages, as JSON. It holds no state and sends nothing.

pydantic lives here and at the coordinator's settings; the cores never see it.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from nats_identify.printable import printable
from nats_identify.reason import Reason
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, Code, Outcome, RequestReceived

REQUEST_BYTES_MAX: Final = 4096
"""A larger request is refused."""

REPLY_BYTES_MAX: Final = 16_384
"""A larger reply is not read: one has 1 KiB of text at most, and numbers."""

ERROR_NUMBERS: Final = {
    Code.BAD_REQUEST: 400,
    Code.WRONG_BUCKET: 409,
    Code.SESSION_LIMIT: 429,
    Code.OVERLOADED: 503,
    Code.TIMEOUT: 408,
    Code.ENDED: 410,
}
"""The NATS service header ``Nats-Service-Error-Code`` of each refusal, as in HTTP."""

WHY_MAX: Final = 200
"""Characters of the description of an invalid message, at most."""

INT_MAX: Final = 2**53
"""The largest number on the wire: what every JSON library can carry exactly."""

TOKEN: Final = r"^[A-Za-z0-9_-]{1,64}$"  # noqa: S105  # not a secret
"""What a request id looks like: one token of a NATS subject."""

_PREFIX: Final = re.compile(r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")

Natural = Annotated[int, Field(ge=0, le=INT_MAX)]
Token = Annotated[str, Field(pattern=TOKEN)]
Figure = Annotated[int, Field(ge=-INT_MAX, le=INT_MAX)]
"""A number that is shown to people, and decides nothing."""

Buckets = Annotated[int, Field(ge=1, le=model.BUCKETS_MAX)]
Text = Annotated[str, Field(max_length=1024)]
"""Text for people from outside: bounded here, escaped by `nats_identify.printable` wherever it is shown."""


class Subjects:
    """The subjects of one prefix.

    Raises:
        ValueError: the prefix is no NATS subject of plain tokens.
    """

    def __init__(self, prefix: str = "identify") -> None:
        if not _PREFIX.fullmatch(prefix):
            message = f"prefix {prefix!r}: use letters, digits, _ and -, separated by dots, as in bots.alpha.identify"
            raise ValueError(message)
        self.prefix = prefix
        self.requests = f"{prefix}.request.*"
        self.confirms = f"{prefix}.confirm.*.*"
        self.cancels = f"{prefix}.cancel.*"
        self.info = f"{prefix}.info"
        self.refresh = f"{prefix}.refresh"
        self.status = f"{prefix}.status"
        self.events = f"{prefix}.event.*"
        self.all_events = f"{prefix}.event.>"
        self.kv_bucket = prefix.replace(".", "_")
        self.event_stream = f"{self.kv_bucket}_events"

    def request(self, bucket: int) -> str:
        """Request a turn, and renew the request."""
        return f"{self.prefix}.request.{bucket}"

    def confirm(self, bucket: int, grant_id: str) -> str:
        """Answer a grant: its reply subject."""
        return f"{self.prefix}.confirm.{bucket}.{grant_id}"

    def cancel(self, bucket: int) -> str:
        """Withdraw a request."""
        return f"{self.prefix}.cancel.{bucket}"

    def command(self, name: str) -> str:
        """Have the leader do something: `operator_wire.Command`."""
        return f"{self.prefix}.{name}"

    def event(self, name: str) -> str:
        """One thing that happened."""
        return f"{self.prefix}.event.{name}"


class Message(BaseModel):
    """Unknown fields are ignored: either side may be newer. No number is read from a string."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


CLIENT_BYTES_MAX: Final = 128
"""UTF-8 bytes of a client's name in a request."""


def client_name(name: str) -> str:
    """Cut a name for people to what a request may carry."""
    return name.encode()[:CLIENT_BYTES_MAX].decode(errors="ignore")


def _of_128_bytes(name: str) -> str:
    """Bound bytes, not characters: a name is kept for each request that waits, by every replica."""
    if len(name.encode()) > CLIENT_BYTES_MAX:
        message = f"has {len(name.encode())} bytes; a client's name has {CLIENT_BYTES_MAX} at most"
        raise ValueError(message)
    return name


class Request(Message):
    """Ask for a turn. Every field is optional; an empty payload is a valid plain request.

    ``source`` and ``asked_us`` keep the order of one process exact: a random token of its queue object, and
    microseconds on its own monotonic clock since that began, larger for each request. One without the other is ignored.
    """

    shard_id: Natural | None = None
    request_id: Token | None = None
    renewal: Natural = 0
    waited_ms: Natural = 0
    max_concurrency: Annotated[int, Field(ge=1, le=INT_MAX)] | None = None
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    managed: bool = False
    timeout_ms: Annotated[int, Field(gt=0, le=INT_MAX)] | None = None
    client: Annotated[str, Field(max_length=128), AfterValidator(_of_128_bytes)] | None = None
    source: Token | None = None
    asked_us: Natural | None = None

    def ask(self, *, bucket: int, reply_to: str, request_id: str, received_at_ns: int | None = None) -> RequestReceived:
        """Return the schedule's event; ``request_id`` stands in where the payload names none."""
        return RequestReceived(
            request_id=self.request_id or request_id,
            shard_id=bucket if self.shard_id is None else self.shard_id,
            bucket=bucket,
            reply_to=reply_to,
            renewal=self.renewal,
            waited_ns=self.waited_ms * MS,
            max_concurrency=self.max_concurrency,
            priority=self.priority,
            managed=self.managed,
            timeout_ns=None if self.timeout_ms is None else self.timeout_ms * MS,
            client=self.client or "",
            source=(self.source or "") if self.asked_us is not None else "",
            asked_us=(self.asked_us or 0) if self.source is not None else 0,
            received_at_ns=received_at_ns,
        )


class Cancelled(Message):
    """Withdraw a waiting request."""

    request_id: Token


class Answered(Message):
    """What became of a grant; an empty payload means identified."""

    outcome: Annotated[Outcome, Field(strict=False)] = Outcome.IDENTIFIED


class Granted(Message):
    """The turn. ``use_within_ms`` counts from the first sending of the renewal that is echoed."""

    status: Literal["granted"] = "granted"
    shard_id: Natural
    bucket: Natural
    request_id: Token
    grant_id: Token
    renewal: Natural
    use_within_ms: Natural
    waited_ms: Natural
    remaining: Natural | None
    max_concurrency: Buckets
    term: Natural = 0


class Queued(Message):
    """Where a managed request stands, and when to renew it; 0 means now. A newer reason is read as ``unknown``."""

    status: Literal["queued"] = "queued"
    shard_id: Natural
    bucket: Natural
    request_id: Token
    position: Annotated[int, Field(ge=1, le=INT_MAX)]
    eta_ms: Natural | None
    renew_in_ms: Natural
    reason: Reason = Field(strict=False)
    max_concurrency: Buckets | None = None


class Refused(Message):
    """Final. A newer code is read as ``unknown``."""

    status: Literal["refused"] = "refused"
    code: Reason = Field(strict=False)
    message: Text
    request_id: Token | None = None
    max_concurrency: Buckets | None = None
    retry_after_ms: Natural | None = None


class ReplyTo(Message):
    """Any of the three replies, by ``status``; unknown fields are ignored."""

    reply: Annotated[Granted | Queued | Refused, Field(discriminator="status")]


class SessionStartLimit(Message):
    """The day's limit, in Discord's fields; null where it is not known."""

    total: Figure | None = None
    remaining: Figure | None = None
    reset_after_ms: Figure | None = None


class Projection(Message):
    """When a number of shards are up if they request turns now; null where that is not known.

    ``all_up_in_ms``: until the last of them may identify; ``session_starts_short``: how many of them today's budget,
    less the reserve, has no session start for. They wait for the next day, and that is counted in.
    """

    shards: Figure
    all_up_in_ms: Figure | None = None
    session_starts_short: Figure | None = None
    budget_suffices: bool | None = None


class Info(Message):
    """The limits a client needs; ``projection`` of those that wait, ``restart`` of as many as Discord recommends.

    ``trouble``: why the coordinator that answers has no answer from Discord, such as a refused token; null: none.
    """

    max_concurrency: Buckets | None = None
    window_ms: Natural
    session_start_limit: SessionStartLimit
    shards: Natural | None = None
    projection: Projection | None = None
    restart: Projection | None = None
    leader: Text | None = None
    term: Natural = 0
    version: Text = ""
    trouble: Text | None = None


class WaitingRequest(Message):
    """One request in a bucket's queue, in its order."""

    request_id: Text
    shard_id: Figure
    priority: Figure
    managed: bool
    waited_ms: Figure
    client: Text | None = None


class BucketStatus(Message):
    """One bucket: how many wait, the first of them, when the next turn is, and what the first of them waits for."""

    bucket: Figure
    waiting: Figure
    next_release_ms: Figure
    reason: Reason | None = Field(None, strict=False)
    first: list[WaitingRequest]


class HeldBack(Message):
    """One request whose shard crash-loops: it is granted no sooner."""

    request_id: Text
    shard_id: Figure
    opens_in_ms: Figure
    client: Text | None = None


class Status(Info):
    """The whole picture, in the view of the coordinator that answers."""

    name: Text
    role: Text
    prefix: Text
    waiting: Figure
    reserve: Figure
    margin_ms: Figure = 0
    held_back: Figure = 0
    crash_loops: list[HeldBack] = Field(default_factory=list)
    buckets: list[BucketStatus]


def encode_reply(body: model.Granted | model.Queued | model.Refused, term: int) -> bytes:
    """Write a reply of the schedule as JSON; durations in milliseconds, permissions rounded down.

    The two that are sent by the thousand are written here, in a fifth of the time that a model of them takes: their
    texts are tokens, which need no escape.
    """
    match body:
        case model.Queued():
            eta_ms = "null" if body.eta_ns is None else ms_up(body.eta_ns)
            max_concurrency = "null" if body.max_concurrency is None else body.max_concurrency
            return (
                f'{{"status":"queued","shard_id":{body.shard_id},"bucket":{body.bucket},"request_id":"{body.request_id}"'
                f',"position":{body.position},"eta_ms":{eta_ms},"renew_in_ms":{min(body.renew_in_ns // MS, INT_MAX)}'
                f',"reason":"{body.reason}","max_concurrency":{max_concurrency}}}'
            ).encode()
        case model.Granted():
            remaining = "null" if body.remaining is None else body.remaining
            return (
                f'{{"status":"granted","shard_id":{body.shard_id},"bucket":{body.bucket}'
                f',"request_id":"{body.request_id}","grant_id":"{body.grant_id}","renewal":{body.renewal}'
                f',"use_within_ms":{body.use_within_ns // MS},"waited_ms":{min(body.waited_ns // MS, INT_MAX)}'
                f',"remaining":{remaining},"max_concurrency":{body.max_concurrency},"term":{term}}}'
            ).encode()
        case model.Refused():
            return reply_of(body, term).model_dump_json(exclude_none=True).encode()


def reply_of(body: model.Granted | model.Queued | model.Refused, term: int = 0) -> Granted | Queued | Refused:
    """The message for a reply of the schedule."""
    match body:
        case model.Granted():
            return Granted(
                shard_id=body.shard_id,
                bucket=body.bucket,
                request_id=body.request_id,
                grant_id=body.grant_id,
                renewal=body.renewal,
                use_within_ms=body.use_within_ns // MS,
                waited_ms=min(body.waited_ns // MS, INT_MAX),  # a request may say that it has waited the most
                remaining=body.remaining,
                max_concurrency=body.max_concurrency,
                term=term,
            )
        case model.Queued():
            return Queued(
                shard_id=body.shard_id,
                bucket=body.bucket,
                request_id=body.request_id,
                position=body.position,
                eta_ms=None if body.eta_ns is None else ms_up(body.eta_ns),
                renew_in_ms=min(body.renew_in_ns // MS, INT_MAX),
                reason=body.reason,
                max_concurrency=body.max_concurrency,
            )
        case model.Refused():
            return Refused(
                code=body.code,
                message=body.message,
                request_id=body.request_id or None,
                max_concurrency=body.max_concurrency,
                retry_after_ms=None if body.retry_after_ns is None else ms_up(body.retry_after_ns),
            )


def ms_up(duration_ns: int) -> int:
    """Milliseconds, rounded up: what must be waited is never shortened; 285,000 years at most, as JSON can carry."""
    return min(-(-duration_ns // MS), INT_MAX)


def why_invalid(error: ValidationError) -> str:
    """Return on one line what is wrong with a message; none of its values is in it but what is printable."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return printable(f"{field or 'the body'}: {first['msg']}", WHY_MAX)


def decode_reply(payload: bytes) -> Granted | Queued | Refused:
    """Read a reply.

    Raises:
        pydantic.ValidationError: it is none of this contract.
    """
    return ReplyTo.model_validate_json(b'{"reply":' + payload + b"}").reply
