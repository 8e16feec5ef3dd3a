"""Messages between coordinators, as JSON: the ledger, and the queue that a new one copies. It sends nothing."""

from typing import Annotated

from pydantic import ConfigDict, Field

from nats_identify.schedule.model import Outcome
from nats_identify.wire import Message, Request, Token


class QueuePage(Message):
    """A coordinator that starts asks another for the requests admitted after this one."""

    after: int = 0


class CopiedRequest(Request):
    """One request in another coordinator's queue; ``heard_ms``: the age of its newest renewal there.

    ``placed_ns``: the age of its place in nanoseconds; None from an older coordinator.
    """

    bucket: int
    reply_to: str
    heard_ms: int | None = None
    placed_ns: int | None = None


class QueueCopy(Message):
    """A page of the waiting queue; ``next`` is where to go on, with the same coordinator.

    ``at_ns``: when it was written, by its coordinator's clock. Only the time between two pages is of use.
    ``requests`` has an older name in JSON: coordinators of two versions copy from each other during an update.
    """

    model_config = ConfigDict(populate_by_name=True)

    instance: Token
    requests: list[CopiedRequest] = Field(alias="askings")
    next: int | None = None
    at_ns: int = 0


class LedgerGrant(Message):
    """One grant that still holds its bucket."""

    grant_id: str
    request_id: str
    shard_id: int
    bucket: int
    max_concurrency: int
    renewal: int
    use_within_ms: int
    hold_ms: int
    outcome: Annotated[Outcome | None, Field(strict=False)] = None
    plain: bool = False


class LedgerCrashLoop(Message):
    """One shard that is granted often: how long ago, the oldest first, and how many of these it had to wait for."""

    shard_id: int
    strikes: int
    granted_ms_ago: list[int]


class LedgerStaticDay(Message):
    """How long ago a day of static limits began at the earliest; what was charged since the next one may have begun."""

    first_ms_ago: int | None
    late: int
    late_ms_ago: int


class LedgerPause(Message):
    """An operator's pause: what is left of it, null where it does not end by itself; as `operator_wire.PauseStatus`."""

    below_priority: int | None = None
    left_ms: int | None = None
    why: str = ""
    by: str = ""


class LedgerEntry(Message):
    """The one key of the KV bucket: JSON that a person can read.

    Attributes:
        full_hold_ms: how long a grant of this leader may matter.
        replied: plain requests that have had their reply, each with how long to know it.
        paused: an operator's pause; null: there is none.
    """

    prefix: str
    leader: str | None
    instance: str
    term: int
    sequence: int
    lease_ms: int
    max_concurrency: int | None
    total: int | None
    remaining: int | None
    reset_in_ms: int | None
    grants: list[LedgerGrant]
    crash_loops: tuple[LedgerCrashLoop, ...] = Field((), strict=False)
    margin_ms: int | None = None
    static_day: LedgerStaticDay | None = None
    full_hold_ms: int | None = None
    replied: dict[str, int] | None = None
    paused: LedgerPause | None = None
