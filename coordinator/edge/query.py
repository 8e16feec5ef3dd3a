"""Answers a status query: the requests and the live grants that it selects. It changes nothing.

Size: with the longest names and 4096 buckets an answer stays below a NATS message of 1 MB. Time: requests are looked
through in steps, between which the event loop turns, and what a page costs does not depend on who else waits.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice
from typing import Final

from coordinator.core.replica import Replica
from coordinator.edge import status
from coordinator.edge.busiest import Busiest
from coordinator.edge.status import FromDiscord
from nats_identify.operator_wire import (
    AHEAD_MAX,
    PAGE_MAX,
    ClientStatus,
    FullStatus,
    GrantStatus,
    PauseStatus,
    RequestAhead,
    RequestStatus,
    StatusQuery,
)
from nats_identify.schedule import replies
from nats_identify.schedule.bucket_queue import BucketQueue, QueuedRequest
from nats_identify.schedule.grants import Hold
from nats_identify.schedule.model import MS, Reason
from nats_identify.schedule.pause import Paused
from nats_identify.schedule.senders import sender_of
from nats_identify.schedule.state import ScheduleState
from nats_identify.wire import INT_MAX, ms_up

SCANNED_AT_ONCE: Final = 5_000
"""Requests that are looked at in one step: about a millisecond."""

BUCKETS_BESIDE: Final = 64
"""With more buckets than this, a selection shows only those with something selected: all 4096 would take 40 ms."""

AHEAD_IN_ALL: Final = 300
"""Requests before others that one answer names: of a page of 100 three each, with the longest names 0.3 MB."""


class Selection:
    """The page of requests that a query selects, in the order of their queues; those that are granted come first.

    Attributes:
        total: how many the query selects. ``page``: those from its offset on.
    """

    def __init__(self, state: ScheduleState, query: StatusQuery) -> None:
        self.query = query
        self.total = 0
        self.page: list[QueuedRequest] = []
        self._state = state
        self._matches = _matcher(query)
        granted = [(state.requests.get(hold.grant.request_id), hold.grant.grant_id) for hold in state.holds]
        held = [one for one, grant_id in granted if one is not None and one.grant_id == grant_id]
        bucket = _bucket_of(state, query)
        lines = [iter([one for one in held if bucket in {None, one.bucket}])]
        lines += [queue.as_it_stands() for _, queue in sorted(_queues(state, bucket), key=lambda item: item[0])]
        self._requests = chain.from_iterable(lines)

    def steps(self) -> Iterator[None]:
        """Look through the requests, a step at a time; they are those that waited when it was made."""
        query, matches = self.query, self._matches
        while scanned := list(islice(self._requests, SCANNED_AT_ONCE)):
            found = scanned if matches is None else [one for one in scanned if matches(one)]
            first = max(0, query.offset - self.total)
            self.page += found[first : first + query.limit - len(self.page)]
            self.total += len(found)
            yield

    def requests(self, now_ns: int) -> list[RequestStatus]:
        """Return the page as it is now; a request that has ended meanwhile is left out."""
        state = self._state
        page = [one for one in self.page if state.requests.get(one.message.request_id) is one]
        lines = replies.LinesAhead(state)
        ahead_max = min(AHEAD_MAX, AHEAD_IN_ALL // max(1, len(page)))
        return [_request(state, one, lines, ahead_max, now_ns) for one in page]

    def grants(self, now_ns: int) -> list[GrantStatus]:
        """Return the live grants that the query selects, in the order in which they began."""
        query, holds = self.query, self._state.holds
        selected: list[Hold] = []
        for hold in holds:
            if query.bucket is not None:
                is_selected = query.bucket in holds.buckets_of(hold)
            elif query.shard_id is not None:
                is_selected = hold.grant.shard_id == query.shard_id
            else:
                is_selected = _is_of(query.client or "", hold.client, hold.reply_to)
            if is_selected:
                selected.append(hold)
        return [_grant(hold, now_ns) for hold in selected[:PAGE_MAX]]


def full_status(
    replica: Replica,
    now_ns: int,
    *,
    limits: FromDiscord,
    version: str,
    busiest: Busiest,
    selection: Selection | None = None,
) -> FullStatus:
    """Return the whole picture; beside a selection, what is selected and its buckets without their first requests."""
    state = replica.schedule.state
    requests = [] if selection is None else selection.requests(now_ns)
    grants = [] if selection is None else selection.grants(now_ns)
    buckets = None if selection is None else _buckets_beside(state, [*requests, *grants])
    known = status.status(replica, now_ns, limits=limits, version=version, buckets=buckets)
    busy, over_ns = busiest.shown(now_ns)
    ends = 0 if selection is None else selection.query.offset + len(selection.page)
    total = 0 if selection is None else selection.total
    return FullStatus(
        **dict(known),
        paused=pause_status(state.paused, now_ns),
        busiest=[
            ClientStatus(client=one.client, new_requests=one.new_requests, messages=one.messages, over_ms=over_ns // MS)
            for one in busy
        ],
        requests=requests,
        requests_total=total,
        next_offset=ends if ends < total and selection is not None and selection.page else None,
        grants=grants,
    )


def _buckets_beside(state: ScheduleState, selected: Iterable[RequestStatus | GrantStatus]) -> Collection[int]:
    """Return the buckets that are shown beside a selection: all, or where there are many those of the selected."""
    buckets = state.max_concurrency or 0
    if buckets <= BUCKETS_BESIDE:
        return range(buckets)
    return sorted({one.bucket for one in selected if one.bucket < buckets})


def problem_of(query: StatusQuery, state: ScheduleState) -> str | None:
    """Return why a query that can be read selects nothing that can be there, or None."""
    buckets = state.max_concurrency
    if query.bucket is None or buckets is None or query.bucket < buckets:
        return None
    return f"bucket: there is no bucket {query.bucket}; max_concurrency is {buckets}, so give 0 to {buckets - 1}"


def pause_status(paused: Paused | None, now_ns: int) -> PauseStatus | None:
    """The pause of a schedule's state, as a status has it."""
    if paused is None:
        return None
    paused = paused.with_time_left(now_ns)
    left_ms = None if paused.ends_ns is None else ms_up(paused.ends_ns)
    return PauseStatus(below_priority=paused.below_priority, left_ms=left_ms, why=paused.why, by=paused.by)


def _bucket_of(state: ScheduleState, query: StatusQuery) -> int | None:
    """The one bucket in which the requests are that the query selects; None: any."""
    if query.shard_id is not None:
        return query.shard_id % state.requests.max_concurrency
    return query.bucket


def _queues(state: ScheduleState, bucket: int | None) -> list[tuple[int, BucketQueue]]:
    queues = state.requests.queues
    if bucket is None:
        return list(queues.items())
    return [(bucket, queues[bucket])] if bucket in queues else []


def _matcher(query: StatusQuery) -> Callable[[QueuedRequest], bool] | None:
    """Return whether a request of the bucket is selected; None: each is."""
    if query.shard_id is not None:
        return lambda request: request.message.shard_id == query.shard_id
    client = query.client
    if client is None:
        return None
    if "." not in client:  # twice as fast
        return lambda request: request.message.client == client
    return lambda request: _is_of(client, request.message.client, request.message.reply_to)


def _is_of(client: str, name: str, reply_to: str) -> bool:
    """Whether a request of this name and reply subject is of this client: by its name, or by its inbox."""
    return client == name or ("." in client and reply_to.startswith(client) and client == sender_of(reply_to))


def _request(
    state: ScheduleState, request: QueuedRequest, lines: replies.LinesAhead, ahead_max: int, now_ns: int
) -> RequestStatus:
    ask = request.message
    eta_ms: int | None = 0
    position, reason = 0, Reason.WINDOW  # it is granted, and waits for nothing but its shard's answer
    ahead: list[QueuedRequest] = []
    if request.grant_id is None:
        queued = replies.queued(state, request, now_ns, lines)
        position, reason = queued.position, queued.reason
        eta_ms = None if queued.eta_ns is None else ms_up(queued.eta_ns)
        ahead = state.requests.queues[request.bucket].part(max(0, position - 1 - ahead_max), position - 1)
    return RequestStatus(
        request_id=ask.request_id,
        shard_id=ask.shard_id,
        bucket=request.bucket,
        client=ask.client or None,
        priority=ask.priority,
        managed=ask.managed,
        position=position,
        eta_ms=eta_ms,
        reason=reason,
        waited_ms=min(replies.waited_ms(request.asked_at_ns, now_ns), INT_MAX),
        renewed_ms_ago=min(replies.waited_ms(request.renewed_at_ns, now_ns), INT_MAX),
        is_unresponsive=request.is_unresponsive,
        grant_id=request.grant_id,
        ahead_count=max(0, position - 1),
        ahead=[_ahead(one) for one in ahead],
    )


def _ahead(request: QueuedRequest) -> RequestAhead:
    ask = request.message
    return RequestAhead(request_id=ask.request_id, shard_id=ask.shard_id, client=ask.client or None)


def _grant(hold: Hold, now_ns: int) -> GrantStatus:
    grant, granted_at_ns = hold.grant, hold.granted_at_ns or hold.known_at_ns
    return GrantStatus(
        grant_id=grant.grant_id,
        request_id=grant.request_id,
        shard_id=grant.shard_id,
        bucket=grant.bucket,
        client=hold.client or None,
        state=hold.state.outcome or "unconfirmed",
        opens_in_ms=ms_up(max(0, hold.opens_at_ns - now_ns)),
        granted_ms_ago=max(0, now_ns - granted_at_ns) // MS if granted_at_ns else None,
    )
