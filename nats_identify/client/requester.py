"""One request's life at the shard: ask, renew, take or decline the grant, withdraw. It never waits or sends.

Pass events with their time to `handle`, and carry out the actions that it returns. It counts a grant's use_within
from the first sending of the renewal that the grant echoes, decides once for each grant, and repeats that answer.
The caller passes the source of randomness.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from nats_identify import wire
from nats_identify.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from nats_identify.reason import Reason
from nats_identify.schedule.model import Outcome

RENEWALS_REMEMBERED = 256
"""Renewals whose sending time is kept; a grant that echoes an older one is declined as late."""

GRANTS_REMEMBERED = 64
"""Decided grants that are kept, to repeat the answer to their copies."""

PACE_NS = 2 * NS_PER_S
"""An unanswered renewal is repeated within this; the bound doubles with each that is unanswered (`Requester.pace_ns`).

The wait is random, from a floor to the bound: "full jitter" of Marc Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. It spreads a crowd
that was not answered best, and it costs the fewest repeats.
"""

FLOOR_SHARE = 2
"""The floor is half of the first bound, 1 s: a reply that a commit delays arrives before the repeat."""

RENEW_MAX_NS = 60 * NS_PER_S
"""The longest interval of the contract, in replies and of the backoff: with a longer one the request would expire."""

QUEUED_BOUND_NS = 6 * NS_PER_S
"""A request that was queued backs off to half of the time after which a coordinator drops it, and to this at least.

A coordinator drops it after three intervals, and at least 12 s (`EXPIRY_MIN_NS` of the schedule). It may receive the
renewals although its replies are lost; a dropped request is not nudged, and later ones are granted before it returns.
"""

SPREAD_MAX_NS = 5 * NS_PER_S
SPREAD_STEP_NS = NS_PER_S // 20_000
"""After a reconnect 100,000 requests renew within 5 s, those near their turn first."""

USE_WITHIN_MAX_NS = 60 * NS_PER_S
"""The longest use_within that is accepted: the limit of `IDENTIFY_USE_WITHIN`."""

SENDINGS_MAX = 20
SENDINGS_PERIOD_NS = NS_PER_S
"""A request is sent at most 20 times a second, whatever the replies demand. A coordinator needs 2 or 3 in a row:
for another bucket, for a nudge."""

ANEW_MIN_NS = NS_PER_S // 4
"""A request that ended although its shard still wants a turn is followed by a new one after this pause."""

ANEW_MAX_NS = 8 * NS_PER_S
"""The pause doubles each time that this happens to one shard's wait, up to this."""

NEAR_NS = 2 * NS_PER_S
"""A request at position 1 is near when it has at most this long to wait: time for TCP, TLS and HELLO."""


class Source:
    """Numbers the requests of one queue object in the order in which they began, under a random token.

    Args:
        token: random, 1 to 64 of ``[A-Za-z0-9_-]``.
        since_ns: when the queue object was made, by its clock.
    """

    def __init__(self, token: str, since_ns: int) -> None:
        self.token = token
        self._since_ns = since_ns
        self._last_us = -1

    def begin_us(self, now_ns: int) -> int:
        """Microseconds since the source began; larger for each request."""
        self._last_us = max(self._last_us + 1, (now_ns - self._since_ns) // NS_PER_US)
        return self._last_us


@dataclass(slots=True)
class Place:
    """A place in the line, which may outlive its request: a later request that has it counts from the first one.

    A requester fills it in when it first sends. Only one request at a time may have it, and all of one `Source`.

    Attributes:
        begun_at_ns: when the first request was first sent, by the clock of its queue object.
        asked_us: the number that its source gave it.
    """

    begun_at_ns: int | None = None
    asked_us: int | None = None


class State(Enum):
    """The state of a request."""

    ASKING = "asking"  # in the queue, or on its way there
    HOLDING = "holding"  # granted to the shard, which has not decided yet
    OVER = "over"  # identified, withdrawn, or ended at the coordinators


# --- events


@dataclass(frozen=True, slots=True)
class Begin:
    """The shard wants a turn; ``pause_ns``: wait this long before the first message."""

    pause_ns: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """A reply arrived; ``answer_to`` is its reply subject."""

    reply: wire.Granted | wire.Queued | wire.Refused
    answer_to: str = ""


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection, or the coordinators, are back: messages sent during the outage may be lost.

    ``jitter``: a random number from 0 to 1, one for all requests of the process: they keep their order.
    ``waited_ns``: the longest that one of them has waited without an answer, see `Requester.unplaced_since_ns`.
    """

    jitter: float = 0.0
    waited_ns: int = 0


@dataclass(frozen=True, slots=True)
class Identified:
    """IDENTIFY has just been sent with the grant held."""


@dataclass(frozen=True, slots=True)
class Decline:
    """The grant was not and will not be used. ``goes_on``: it came too late, and the request goes on."""

    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The shard no longer wants a turn."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; early and repeated ticks are harmless."""


RequesterEvent = Begin | Received | Reconnected | Identified | Decline | Withdraw | Tick

# --- actions


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Publish this on the request subject of ``bucket``, with this request's inbox as reply subject."""

    bucket: int
    request: wire.Request


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Publish this on the cancel subject of ``bucket``."""

    bucket: int
    request_id: str


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """Publish this on the reply subject of a grant."""

    to: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DeliverGrant:
    """The shard may identify until ``use_by_ns``; ``answer_to``: where every answer to this grant goes."""

    grant: wire.Granted
    use_by_ns: int
    answer_to: str


@dataclass(frozen=True, slots=True)
class ReportProgress:
    """Progress of the request, for `OnProgress`. ``problem``: what an operator should look at."""

    position: int | None
    eta_ms: int | None
    reason: Reason
    near: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AskAnew:
    """The request has ended at the coordinators, and its shard still wants a turn.

    Begin another `Requester` with a new request_id and ``anew_count``, after ``pause_ns``. ``message``: why, in the
    coordinator's words.
    """

    anew_count: int
    pause_ns: int
    message: str


RequesterAction = SendRequest | SendCancel | SendAnswer | DeliverGrant | ReportProgress | AskAnew


class Requester:
    """One request of one shard.

    Args:
        shard_id: the shard.
        request_id: random, never used for another request.
        max_concurrency: as far as is known; replies correct it.
        priority: -10 … 10, higher goes first.
        client: a name for people.
        jitter: a random number from 0 to 1 at each call.
        pace_ns: the first bound of the wait for an answer: min(2 s, 0.4 use_within).
        source: numbers the requests of one queue object, so that they are served in the order of their beginning.
        anew_count: how many requests of this shard's wait have ended before this one.
        place: that of an earlier request of this shard, which was withdrawn; by default a new one.
    """

    def __init__(
        self,
        shard_id: int,
        request_id: str,
        *,
        jitter: Callable[[], float],
        max_concurrency: int | None = None,
        priority: int = 0,
        client: str = "",
        pace_ns: int = PACE_NS,
        source: Source | None = None,
        anew_count: int = 0,
        place: Place | None = None,
    ) -> None:
        self.shard_id = shard_id
        self.request_id = request_id
        self.max_concurrency = max_concurrency
        self.priority = priority
        self.client = client
        self.state = State.ASKING
        self._jitter = jitter
        self._pace_ns = pace_ns
        self._source = source
        self._anew_count = anew_count
        self._place = Place() if place is None else place
        self._first_at_ns: int | None = None  # when this request itself was first sent
        self._renewal = -1
        self._unanswered_count = 0  # renewals sent since the last answer
        self._refused_count = 0  # refusals in a row
        self._position: int | None = None  # in its queue, None: not known to be queued
        self._interval_ns: int | None = None  # the interval of the last `queued`
        self._first_sent_ns: dict[int, int] = {}
        self._renew_at_ns: int | None = None
        self._near_at_ns: int | None = None
        self._last_progress: ReportProgress | None = None
        self._held: tuple[str, str] | None = None  # grant_id, answer_to
        self._decided: dict[str, Outcome] = {}

    def handle(self, event: RequesterEvent, now_ns: int) -> list[RequesterAction]:
        """Take in one event; return what to do, in this order."""
        actions: list[RequesterAction] = []
        match event:
            case Begin(pause_ns):
                self._renew_at_ns = now_ns + pause_ns
            case Reconnected():
                self._reconnected(event, now_ns)
            case Received(wire.Granted() as grant, answer_to):
                actions += self._granted(grant, answer_to, now_ns)
            case Received(wire.Queued() as queued, _):
                actions += self._queued(queued, now_ns)
            case Received(wire.Refused() as refused, _):
                actions += self._refused(refused, now_ns)
            case Identified():
                actions += self._decide(Outcome.IDENTIFIED)
                self._end()
            case Decline(goes_on):
                actions += self._decide(Outcome.DECLINED)
                actions += self._ask_on(now_ns) if goes_on else self._withdraw()
            case Withdraw():
                actions += self._decide(Outcome.DECLINED) + self._withdraw()
            case Tick():
                pass
        return actions + self._due(now_ns)

    @property
    def unplaced_since_ns(self) -> int | None:
        """When the request was first sent, if it is in no queue as far as is known."""
        return self._first_at_ns if self._position is None else None

    def next_deadline_ns(self) -> int | None:
        """When `handle` needs a `Tick`; None while there is no deadline."""
        deadlines = (self._next_sending_ns(), self._near_at_ns)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # --- replies

    def _granted(self, grant: wire.Granted, answer_to: str, now_ns: int) -> list[RequesterAction]:
        if grant.request_id != self.request_id or not self._was_sent(grant.renewal):
            return []  # the grant of another request, which answers it
        if grant.shard_id != self.shard_id or grant.bucket != grant.shard_id % grant.max_concurrency:
            return []  # no coordinator sends this: IDENTIFY of this shard would take the place of another's
        decided = self._decided.get(grant.grant_id)
        if decided is not None:
            return [SendAnswer(answer_to, decided)]
        if self._held is not None and self._held[0] == grant.grant_id:
            return []  # a copy of the grant that is held: answered when it is decided
        self.max_concurrency = grant.max_concurrency
        first_sent_ns = self._first_sent_ns.get(grant.renewal)
        use_within_ns = min(grant.use_within_ms * NS_PER_MS, USE_WITHIN_MAX_NS)
        use_by_ns = 0 if first_sent_ns is None else first_sent_ns + use_within_ns
        self._unanswered_count = self._refused_count = 0
        if self.state is not State.ASKING or now_ns > use_by_ns:
            self._remember(grant.grant_id, Outcome.DECLINED)
            answer: list[RequesterAction] = [SendAnswer(answer_to, Outcome.DECLINED)]
            return answer + self._ask_on(now_ns) if self.state is State.ASKING else answer
        self.state, self._held = State.HOLDING, (grant.grant_id, answer_to)
        self._renew_at_ns = self._near_at_ns = None
        return [DeliverGrant(grant, use_by_ns, answer_to)]

    def _queued(self, queued: wire.Queued, now_ns: int) -> list[RequesterAction]:
        if queued.request_id != self.request_id or self.state is not State.ASKING:
            return []
        self.max_concurrency = queued.max_concurrency or self.max_concurrency
        self._unanswered_count = self._refused_count = 0
        self._position, self._interval_ns = queued.position, min(queued.renew_in_ms * NS_PER_MS, RENEW_MAX_NS)
        self._renew_at_ns = now_ns + self._interval_ns
        if queued.renew_in_ms:  # never faster than the coordinator's own min(2 s, 0.4 use_within)
            self._pace_ns = min(self._pace_ns, queued.renew_in_ms * NS_PER_MS)
        eta_ns = None if queued.eta_ms is None else queued.eta_ms * NS_PER_MS
        is_next = queued.position == 1 and eta_ns is not None
        self._near_at_ns = now_ns + max(0, (eta_ns or 0) - NEAR_NS) if is_next else None
        near = is_next and (eta_ns or 0) <= NEAR_NS
        return self._report_progress(ReportProgress(queued.position, queued.eta_ms, queued.reason, near))

    def _refused(self, refused: wire.Refused, now_ns: int) -> list[RequesterAction]:
        """A refusal is final for the coordinator, never for the shard: it asks again, differently or later.

        A grant that the shard holds is not affected: it is newer than the refusal.
        """
        if refused.request_id != self.request_id or self.state is not State.ASKING:
            return []
        bucket, self.max_concurrency = self._bucket(), refused.max_concurrency or self.max_concurrency
        if refused.code is Reason.ENDED:
            return self._ask_anew(refused, now_ns)
        is_moved = refused.code is Reason.WRONG_BUCKET and self._bucket() != bucket
        wait_ns = 0 if is_moved else self._refused_wait_ns(refused.retry_after_ms or 5_000)
        self._unanswered_count, self._position, self._interval_ns = 0, None, None
        self._renew_at_ns, self._near_at_ns = now_ns + wait_ns, None
        return (
            []
            if is_moved
            else self._report_progress(ReportProgress(None, None, refused.code, near=False, problem=refused.message))
        )

    def _ask_anew(self, refused: wire.Refused, now_ns: int) -> list[RequesterAction]:
        """The id is spent, though not by this shard: a new request takes over; a late grant of this one is declined."""
        self._end()
        pause_ns = min(ANEW_MIN_NS << min(self._anew_count, 8), ANEW_MAX_NS)
        anew = AskAnew(self._anew_count + 1, self._between(pause_ns, pause_ns * 6 // 5), refused.message)
        return [*self._report_progress(ReportProgress(None, None, refused.code, near=False)), anew]

    # --- steps

    def _due(self, now_ns: int) -> list[RequesterAction]:
        actions: list[RequesterAction] = []
        if self._near_at_ns is not None and now_ns >= self._near_at_ns:
            self._near_at_ns = None
            progress = self._last_progress
            if progress is not None and not progress.near:
                actions += self._report_progress(
                    ReportProgress(progress.position, NEAR_NS // NS_PER_MS, progress.reason, near=True)
                )
        sending_ns = self._next_sending_ns()
        if sending_ns is not None and now_ns >= sending_ns:
            actions.append(self._renew(now_ns))
        return actions

    def _next_sending_ns(self) -> int | None:
        """When the next renewal is sent: by the last reply, and at most `SENDINGS_MAX` in a period."""
        if self._renew_at_ns is None:
            return None
        earlier_ns = self._first_sent_ns.get(self._renewal - SENDINGS_MAX + 1)
        return self._renew_at_ns if earlier_ns is None else max(self._renew_at_ns, earlier_ns + SENDINGS_PERIOD_NS)

    def _renew(self, now_ns: int) -> SendRequest:
        if self._first_at_ns is None:
            self._first_at_ns = now_ns
        if self._place.begun_at_ns is None:
            self._place.begun_at_ns = now_ns
            self._place.asked_us = None if self._source is None else self._source.begin_us(now_ns)
        self._renewal += 1
        self._first_sent_ns[self._renewal] = now_ns
        self._first_sent_ns.pop(self._renewal - RENEWALS_REMEMBERED, None)
        self._renew_at_ns = now_ns + self._unanswered_wait_ns()  # a reply names another pace
        self._unanswered_count += 1
        return SendRequest(
            self._bucket(),
            wire.Request(
                shard_id=self.shard_id,
                request_id=self.request_id,
                renewal=self._renewal,
                waited_ms=(now_ns - self._place.begun_at_ns) // NS_PER_MS,
                max_concurrency=self.max_concurrency,
                priority=self.priority,
                managed=True,
                client=self.client or None,
                source=None if self._source is None else self._source.token,
                asked_us=self._place.asked_us,
            ),
        )

    def _reconnected(self, event: Reconnected, now_ns: int) -> None:
        """Renew soon, those near their turn first: a fleet that renews at once is a burst that is not answered.

        A request at rank r of all queues waits for r steps, less up to half at random. Those with no rank wait for at
        most as long as they have waited, so that a crowd returns no faster than it came.
        A renewal that is due sooner stays: a connection that is lost again and again does not put it off for ever.
        """
        if self.state is not State.ASKING or self._first_at_ns is None:
            return
        self._unanswered_count = 0
        if self._position is None:
            wait_ns = int(min(SPREAD_MAX_NS, event.waited_ns) * event.jitter)
        else:
            rank = (self._position - 1) * (self.max_concurrency or 1)
            wait_ns = int(min(SPREAD_MAX_NS, rank * SPREAD_STEP_NS) * (1 + event.jitter) / 2)
        renew_at_ns = now_ns + wait_ns
        self._renew_at_ns = renew_at_ns if self._renew_at_ns is None else min(self._renew_at_ns, renew_at_ns)

    def _unanswered_wait_ns(self) -> int:
        """How long to wait for the answer before the next renewal."""
        max_ns = RENEW_MAX_NS
        if self._interval_ns is not None:
            max_ns = min(max_ns, max(QUEUED_BOUND_NS, self._interval_ns * 3 // 2))
        bound_ns = min(self._pace_ns << min(self._unanswered_count, 16), max_ns)
        return self._between(min(self._pace_ns // FLOOR_SHARE, bound_ns), bound_ns)

    def _refused_wait_ns(self, retry_after_ms: int) -> int:
        """From what the refusal demands to twice that, doubled with each refusal in a row, up to 60 s."""
        wait_ns = min(retry_after_ms * NS_PER_MS, RENEW_MAX_NS)
        self._refused_count += 1
        bound_ns = min(wait_ns << min(self._refused_count, 16), RENEW_MAX_NS)
        return self._between(wait_ns, max(bound_ns, wait_ns * 6 // 5))  # never in step, whatever is demanded

    def _between(self, min_ns: int, max_ns: int) -> int:
        return min_ns + int((max_ns - min_ns) * self._jitter())

    def _bucket(self) -> int:
        return self.shard_id % (self.max_concurrency or 1)

    def _was_sent(self, renewal: int) -> bool:
        return 0 <= renewal <= self._renewal

    def _ask_on(self, now_ns: int) -> list[RequesterAction]:
        self.state, self._held = State.ASKING, None
        self._renew_at_ns = now_ns
        return []

    def _decide(self, outcome: Outcome) -> list[RequesterAction]:
        if self._held is None:
            return []
        (grant_id, answer_to), self._held = self._held, None
        self._remember(grant_id, outcome)
        return [SendAnswer(answer_to, outcome)]

    def _remember(self, grant_id: str, outcome: Outcome) -> None:
        self._decided[grant_id] = outcome
        if len(self._decided) > GRANTS_REMEMBERED:
            del self._decided[next(iter(self._decided))]

    def _withdraw(self) -> list[RequesterAction]:
        if self.state is State.OVER:
            return []
        self._end()
        return [SendCancel(self._bucket(), self.request_id)] if self._renewal >= 0 else []

    def _end(self) -> None:
        self.state = State.OVER
        self._renew_at_ns = self._near_at_ns = None

    def _report_progress(self, progress: ReportProgress) -> list[RequesterAction]:
        self._last_progress = progress
        return [progress]
