"""The part of the wire contract that operators use: the status query, the commands and their replies, as JSON.

It holds no state and sends nothing. The rest of the contract is `wire`.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from nats_identify.reason import Reason
from nats_identify.wire import Figure, Message, Natural, Status, Text, Token

COMMAND_BYTES_MAX: Final = 4096
"""A larger query or command is refused, like a larger request."""

PAGE_MAX: Final = 100
"""Requests in one page of a status: with the longest names they stay far below a NATS message of 1 MB."""

AHEAD_MAX: Final = 10
"""Requests before one request that a status names; ``ahead_count`` counts them all."""

PAUSE_MAX_MS: Final = 7 * 24 * 3600 * 1000
"""The longest pause that ends by itself: a week. Without ``for_ms`` a pause ends by ``resume`` alone."""

WHO_MAX: Final = 128
WHY_MAX: Final = 200
"""Characters of an operator's name, and of a reason."""

Who = Annotated[str, Field(min_length=1, max_length=WHO_MAX)]
"""The operator, for people, such as ``alice@laptop``: NATS does not pass on the user of a publisher."""

Why = Annotated[str, Field(max_length=WHY_MAX)]
Priority = Annotated[int, Field(ge=-10, le=11)]


class Command(StrEnum):
    """What an operator may have the leader do; each is the last token of its subject, as in ``identify.pause``."""

    PAUSE = "pause"
    RESUME = "resume"
    KICK = "kick"
    RELEASE = "release"
    PARDON = "pardon"
    HANDOVER = "handover"


class StatusQuery(Message):
    """The payload of a status request; empty: the whole picture. One of the three selects requests.

    Attributes:
        shard_id, bucket, client: the requests, and the live grants, of this shard, bucket or client.
        offset, limit: the page of ``requests``.
    """

    shard_id: Natural | None = None
    bucket: Natural | None = None
    client: Annotated[str, Field(max_length=128)] | None = None
    offset: Natural = 0
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 20

    @model_validator(mode="after")
    def _has_one_selection(self) -> "StatusQuery":
        if sum(field is not None for field in (self.shard_id, self.bucket, self.client)) > 1:
            message = "give one of shard_id, bucket and client"
            raise ValueError(message)
        return self

    @property
    def is_selection(self) -> bool:
        """Whether it asks for requests beside the whole picture."""
        return not (self.shard_id is None and self.bucket is None and self.client is None)


class RequestAhead(Message):
    """One request that is before another in its bucket's queue."""

    request_id: Text
    shard_id: Figure
    client: Text | None = None


class RequestStatus(Message):
    """One waiting request.

    Attributes:
        position: 1 is next in its bucket; 0: it is granted, and then ``eta_ms`` is 0 and ``reason`` is ``window``.
        ahead: the nearest before it in its bucket, in order: `AHEAD_MAX` at most, and 300 in one reply.
        ahead_count: all of these.
        eta_ms: until its turn, null where it is not known. ``reason``: what it waits for.
        waited_ms: since its shard first asked. ``renewed_ms_ago``: since its last renewal arrived at this coordinator.
        is_unresponsive: its shard did not receive its last message; it is passed over until it renews.
        grant_id: of the live grant that serves it, which its shard has not confirmed yet.
    """

    request_id: Text
    shard_id: Figure
    bucket: Figure
    client: Text | None = None
    priority: Figure
    managed: bool
    position: Figure
    eta_ms: Figure | None = None
    reason: Reason = Field(strict=False)
    waited_ms: Figure
    renewed_ms_ago: Figure
    is_unresponsive: bool = False
    grant_id: Text | None = None
    ahead_count: Figure = 0
    ahead: list[RequestAhead] = Field(default_factory=list)


class GrantStatus(Message):
    """One grant that still holds its bucket.

    Attributes:
        state: ``unconfirmed``, ``identified``, ``ready`` or ``rejected``.
        opens_in_ms: until the bucket may be granted again, as far as this grant decides it.
        granted_ms_ago: since the grant, as this coordinator counts it; a standby counts from its copy of the ledger.
    """

    grant_id: Text
    request_id: Text
    shard_id: Figure
    bucket: Figure
    client: Text | None = None
    state: Text
    opens_in_ms: Figure
    granted_ms_ago: Figure | None = None


class ClientStatus(Message):
    """How much one client has sent in the last ``over_ms``: requests with a new id, and messages in all."""

    client: Text
    new_requests: Figure
    messages: Figure
    over_ms: Figure


class PauseStatus(Message):
    """The pause that is in force.

    Attributes:
        below_priority: requests of a lower priority wait; null: all do.
        left_ms: until it ends by itself; null: it does not.
        why, by: as the operator gave them.
    """

    below_priority: Figure | None = None
    left_ms: Figure | None = None
    why: Text = ""
    by: Text = ""


class FullStatus(Status):
    """What answers a status request.

    Attributes:
        paused: the pause in force; null: none.
        busiest: the clients that send most, the first first.
        requests: those that the query selects, in the order of their queues, a page of them; ``requests_total`` counts
            all of them. ``next_offset``: of the next page; null: this is the last. Those that are granted come first.
        buckets: beside a selection without their ``first``, and with more than 64 those alone of what is selected.
        grants: the live grants that the query selects, `PAGE_MAX` at most.
    """

    paused: PauseStatus | None = None
    busiest: list[ClientStatus] = Field(default_factory=list)
    requests: list[RequestStatus] = Field(default_factory=list)
    requests_total: Figure = 0
    next_offset: Figure | None = None
    grants: list[GrantStatus] = Field(default_factory=list)


class Pause(Message):
    """Grant no request below a priority, or none at all. A second pause replaces the first."""

    by: Who
    why: Why = ""
    for_ms: Annotated[int, Field(gt=0, le=PAUSE_MAX_MS)] | None = None
    below_priority: Priority | None = None


class Resume(Message):
    """End the pause."""

    by: Who
    why: Why = ""


class Kick(Message):
    """End a waiting request: its requester is refused ``ended``, and may ask anew, at the end of its queue."""

    by: Who
    why: Why = ""
    request_id: Token


class Release(Message):
    """Give a granted turn back that its shard provably will not use; a wrong one makes the next IDENTIFY early."""

    by: Who
    why: Why = ""
    grant_id: Token
    outcome: Literal["declined"]


class Pardon(Message):
    """Forget the grants for which the guard defers a shard that looped and is mended."""

    by: Who
    why: Why = ""
    shard_id: Natural


class Handover(Message):
    """The leader gives the lead up; another replica takes over."""

    by: Who
    why: Why = ""


class Done(Message):
    """A command was carried out, and is recorded where a successor finds it. ``message`` says what was done."""

    status: Literal["done"] = "done"
    command: Command = Field(strict=False)
    message: Text
    term: Natural = 0


class NotDone(Message):
    """A command was not carried out. ``message`` says why, and what to do; ``code`` as in a refusal."""

    status: Literal["refused"] = "refused"
    command: Command = Field(strict=False)
    code: Reason = Field(strict=False)
    message: Text


class CommandReply(Message):
    """Either of the two, by ``status``."""

    reply: Annotated[Done | NotDone, Field(discriminator="status")]


def decode_command_reply(payload: bytes) -> Done | NotDone:
    """Read the reply to a command.

    Raises:
        pydantic.ValidationError: it is none of this contract.
    """
    return CommandReply.model_validate_json(b'{"reply":' + payload + b"}").reply
