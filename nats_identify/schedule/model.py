"""The types of the schedule: its events, its actions and its durations. No decision is made here.

Every instant and duration is an integer of nanoseconds on the caller's own monotonic clock.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

MS: Final = 1_000_000
SECOND: Final = 1_000 * MS
DAY: Final = 24 * 3600 * SECOND

BUCKETS_MAX: Final = 4096
"""A larger max_concurrency is rejected as invalid: Discord's largest bots have a few hundred, and one record
of each bucket must fit into a NATS message of 1 MB."""


RATE_TOLERANCE: Final = 2000
"""A clock may run faster than Discord's by one part in this number, the 500 ppm by which Linux slews a clock at most
(adjtimex(2)). Where a margin is added, the margin covers this too."""


class Outcome(StrEnum):
    """What became of a granted turn."""

    IDENTIFIED = "identified"
    DECLINED = "declined"
    READY = "ready"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why a request waits."""

    WINDOW = "window"
    SESSION_LIMIT = "session_limit"
    CRASH_LOOP = "crash_loop"
    LIMITS_UNKNOWN = "limits_unknown"
    PAUSED = "paused"


class Code(StrEnum):
    """Why a request is refused, for good."""

    BAD_REQUEST = "bad_request"
    WRONG_BUCKET = "wrong_bucket"
    SESSION_LIMIT = "session_limit"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations of the schedule.

    Attributes:
        window_ns: the least time between two IDENTIFYs of one bucket at Discord. Discord's docs: 5 s.
        margin_ns: added to the window for the network between shard and Discord. Bots still see Invalid
            Session at "exactly 5 s"; the larger libraries add 0.1 to 1 s.
        use_within_ns: how long a managed shard may use a grant, counted from when it first sent the renewal that
            the grant echoes. As long as a window: time enough to connect, short enough not to stall a bucket.
        grace_ns: a plain requester sends no confirm; it is assumed to identify within this time.
    """

    window_ns: int = 5 * SECOND
    margin_ns: int = 200 * MS
    use_within_ns: int = 5 * SECOND
    grace_ns: int = 1 * SECOND

    @property
    def confirmed_hold_ns(self) -> int:
        """How long a bucket stays shut after an IDENTIFY was reported."""
        return self.window_ns + self.margin_ns

    @property
    def proved_hold_ns(self) -> int:
        """How long a bucket stays shut after Discord is known to have the IDENTIFY: no network has to be covered."""
        return self.window_ns + self.window_ns // RATE_TOLERANCE

    @property
    def managed_hold_ns(self) -> int:
        """How long a bucket stays shut after a managed grant that is not confirmed."""
        return self.use_within_ns + self.confirmed_hold_ns

    @property
    def plain_hold_ns(self) -> int:
        """How long a bucket stays shut after a plain grant, which is never confirmed."""
        return self.grace_ns + self.window_ns

    @property
    def full_hold_ns(self) -> int:
        """The longest that any grant of these settings can matter."""
        return max(self.managed_hold_ns, self.plain_hold_ns)

    @property
    def fresh_ns(self) -> int:
        """A renewal older than this leaves its shard too little time to use the grant: 0.6 of use_within."""
        return self.use_within_ns * 6 // 10

    @property
    def nudge_lead_ns(self) -> int:
        """How long before its bucket opens the first request is nudged; requests near it renew at this pace too."""
        return min(2 * SECOND, self.use_within_ns * 4 // 10)


@dataclass(frozen=True, slots=True)
class Limits:
    """What Discord allows a bot: the answer of ``GET /gateway/bot``, or static settings.

    Attributes:
        max_concurrency: identify requests allowed per window, one for each bucket.
        total: session starts of a day. ``remaining``: those left; None means unknown, and unknown is closed.
        reset_in_ns: until the day ends; None means that it has not begun.
    """

    max_concurrency: int
    total: int | None
    remaining: int | None
    reset_in_ns: int | None = None


# --- events: what the schedule takes in


class RequestReceived(NamedTuple):  # made for each message that arrives: a frozen dataclass takes 5 us longer
    """A shard requests a turn, or renews its request; the fields are those of the wire's request.

    Attributes:
        received_at_ns: when it was received, by our clock; None: when it is handled. It had waited ``waited_ns`` then.
        renewed_at_ns: when this ``renewal`` was first received, if that was later; None: at ``received_at_ns``.
        is_copy: it comes from another replica, which received it no earlier than ``renewed_at_ns`` by our clock. For a
            copy, None means that this is not known: it is granted only after a renewal.
        place_at_ns: of a copy, its place at the other replica, by our clock; None: ``waited_ns`` decides its place.
        source, asked_us: of two requests of one source, the one with the smaller ``asked_us`` was made first. They
            decide the order within the source, and nothing else. An empty source: not known.
    """

    request_id: str
    shard_id: int
    bucket: int
    reply_to: str
    renewal: int = 0
    waited_ns: int = 0
    max_concurrency: int | None = None
    priority: int = 0
    managed: bool = False
    timeout_ns: int | None = None
    client: str = ""
    is_copy: bool = False
    renewed_at_ns: int | None = None
    place_at_ns: int | None = None
    source: str = ""
    asked_us: int = 0
    received_at_ns: int | None = None

    def first_at_ns(self, now_ns: int) -> int:
        """When it was received."""
        return now_ns if self.received_at_ns is None else min(self.received_at_ns, now_ns)

    def number_at_ns(self, now_ns: int) -> int:
        """When its number was first received."""
        return self.first_at_ns(now_ns) if self.renewed_at_ns is None else min(self.renewed_at_ns, now_ns)

    def merged_with(self, newer: "RequestReceived") -> "RequestReceived":
        """Return one message in place of two of one managed request, received one after the other.

        The newer one's content counts. The place counts from the older one, and a number from its first message.
        """
        if newer.renewal < self.renewal:
            return self
        is_same_number = newer.renewal == self.renewal
        waited_ns = self.waited_ns
        if waited_ns and self.received_at_ns is not None and newer.received_at_ns is not None:
            # It had waited elsewhere: the quicker of two messages gives the better estimate of its place.
            waited_ns = max(waited_ns, newer.waited_ns - (newer.received_at_ns - self.received_at_ns))
        return newer._replace(
            waited_ns=waited_ns,
            timeout_ns=self.timeout_ns,
            received_at_ns=self.received_at_ns,
            renewed_at_ns=self.renewed_at_ns if is_same_number else newer.received_at_ns,
        )


@dataclass(frozen=True, slots=True)
class Cancel:
    """A waiting request is withdrawn. It never frees a turn that was granted."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A shard reports what became of its grant."""

    grant_id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """NATS found no subscriber for a grant (503 No Responders)."""

    grant_id: str


@dataclass(frozen=True, slots=True)
class NudgeUndeliverable:
    """NATS found no subscriber for a nudge: its shard is gone, for now."""

    request_id: str


@dataclass(frozen=True, slots=True)
class LimitsFetchStarted:
    """A fetch of Discord's limits starts now."""


@dataclass(frozen=True, slots=True)
class LimitsFetched:
    """Discord's answer to the last `LimitsFetchStarted`."""

    limits: Limits


class Operator(NamedTuple):
    """The person that gives a command, and why, as events show it; ``reply_to``: where the reply goes."""

    by: str
    why: str = ""
    reply_to: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Grant no request below this priority, none at all where it is None; ``for_ns``: None: until `Resume`."""

    operator: Operator
    for_ns: int | None = None
    below_priority: int | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """End the pause."""

    operator: Operator


@dataclass(frozen=True, slots=True)
class Kick:
    """End a waiting request. It never frees a turn that was granted."""

    operator: Operator
    request_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """A grant will not be used, by the word of an operator."""

    operator: Operator
    grant_id: str


@dataclass(frozen=True, slots=True)
class Pardon:
    """The crash-loop guard forgets the grants of this shard."""

    operator: Operator
    shard_id: int


@dataclass(frozen=True, slots=True)
class Wake:
    """Time has passed; early, late and repeated wake-ups are harmless."""


ScheduleEvent = (
    RequestReceived
    | Cancel
    | Confirmation
    | Undeliverable
    | NudgeUndeliverable
    | LimitsFetchStarted
    | LimitsFetched
    | Pause
    | Resume
    | Kick
    | Release
    | Pardon
    | Wake
)


# --- actions: what the caller must do

Fields = dict[str, str | int | None]
"""The plain values of an event, named with their units."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The turn; it is confirmed with its grant_id."""

    shard_id: int
    bucket: int
    request_id: str
    grant_id: str
    renewal: int
    use_within_ns: int
    waited_ns: int
    remaining: int | None
    max_concurrency: int


class Queued(NamedTuple):  # the reply to nearly each of them: as above
    """The position of a managed request, and when it should renew. ``nudge``: unsolicited; a 503 means no shard."""

    shard_id: int
    bucket: int
    request_id: str
    position: int
    eta_ns: int | None
    renew_in_ns: int
    reason: Reason
    max_concurrency: int | None
    nudge: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Final: the request is not, or no longer, in the queue."""

    request_id: str
    code: Code
    message: str
    max_concurrency: int | None = None
    retry_after_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this to the requester."""

    to: str
    body: Granted | Queued | Refused


@dataclass(frozen=True, slots=True)
class Event:
    """Publish this event to the subscribers."""

    name: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Fetch the limits from Discord: ``why`` is for people."""

    why: str


@dataclass(frozen=True, slots=True)
class CommandReply:
    """Send this to the operator: what was done, or with a ``code`` why not, and what to do."""

    to: str
    command: str
    message: str
    code: Code | None = None


ScheduleAction = Reply | Event | FetchLimits | CommandReply
