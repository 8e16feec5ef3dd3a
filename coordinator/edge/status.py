"""Describes a replica as the wire's Info and Status, from its own state. It changes nothing; its size is bounded."""

from collections.abc import Collection
from heapq import nsmallest
from typing import Protocol

from coordinator.core.replica import Replica
from coordinator.edge import projection
from nats_identify.schedule import replies
from nats_identify.schedule.bucket_queue import QueuedRequest
from nats_identify.schedule.model import MS
from nats_identify.schedule.state import ScheduleState
from nats_identify.wire import INT_MAX, BucketStatus, HeldBack, Info, SessionStartLimit, Status, WaitingRequest, ms_up

LISTED_PER_BUCKET = 20
LISTED_IN_ALL = 400
"""With 4096 buckets, and the longest names that may be given, a status stays below a NATS message of 1 MB."""


class FromDiscord(Protocol):
    """What this process has from Discord.

    Attributes:
        shards: how many Discord recommends, None where that is not known.
        trouble: why the last fetch failed, or None.
    """

    shards: int | None
    trouble: str | None


def info(replica: Replica, now_ns: int, *, limits: FromDiscord, version: str) -> Info:
    """Return the limits a client needs."""
    state, shards = replica.schedule.state, limits.shards
    leader, term = _leader(replica)
    return Info(
        max_concurrency=state.max_concurrency,
        window_ms=state.timing.window_ns // MS,
        session_start_limit=_limit(state, now_ns),
        shards=shards,
        projection=projection.of_waiting(state, now_ns),
        restart=None if shards is None else projection.of_restart(state, shards, now_ns),
        leader=leader,
        term=term,
        version=version,
        trouble=limits.trouble,
    )


def status(
    replica: Replica, now_ns: int, *, limits: FromDiscord, version: str, buckets: Collection[int] | None = None
) -> Status:
    """Return the whole picture; ``buckets``: of these alone, and without their first requests."""
    state = replica.schedule.state
    known = info(replica, now_ns, limits=limits, version=version)
    listed = min(LISTED_PER_BUCKET, LISTED_IN_ALL // max(1, len(state.requests.queues))) if buckets is None else 0
    shown = range(state.max_concurrency or 0) if buckets is None else buckets
    return Status(
        **dict(known),
        name=replica.settings.name,
        role=replica.role.value,
        prefix=replica.settings.prefix,
        waiting=sum(len(line) for line in state.requests.queues.values()),
        reserve=state.budget.reserve,
        margin_ms=state.timing.margin_ns // MS,
        held_back=sum(line.deferred_count for line in state.requests.queues.values()),
        crash_loops=_held_back(state, now_ns),
        buckets=[_bucket(state, bucket, listed, now_ns) for bucket in shown],
    )


def _leader(replica: Replica) -> tuple[str | None, int]:
    """The leader and its term, by the last ledger that was read."""
    ledger = replica.view.ledger
    return (None, 0) if ledger is None else (ledger.leader, ledger.term)


def _limit(state: ScheduleState, now_ns: int) -> SessionStartLimit:
    resets_at_ns = state.budget.resets_at_ns
    reset_after_ms = None if resets_at_ns is None else ms_up(max(0, resets_at_ns - now_ns))
    return SessionStartLimit(total=state.budget.total, remaining=state.budget.left, reset_after_ms=reset_after_ms)


def _bucket(state: ScheduleState, bucket: int, listed: int, now_ns: int) -> BucketStatus:
    line = state.requests.queues.get(bucket, ())
    first = next(iter(line), None)
    return BucketStatus(
        bucket=bucket,
        waiting=len(line),
        next_release_ms=ms_up(max(0, state.opens_at_ns(bucket) - now_ns)),
        reason=None if first is None else replies.queued(state, first, now_ns).reason,  # as its own reply says
        first=[_waiting(request, now_ns) for request, _ in zip(line, range(listed), strict=False)],
    )


def _held_back(state: ScheduleState, now_ns: int) -> list[HeldBack]:
    lines = [line for line in state.requests.queues.values() if line.deferred_count]
    held_back = [request for line in lines for request in line if request.deferred_until_ns]
    soonest = nsmallest(LISTED_PER_BUCKET, held_back, key=lambda request: request.deferred_until_ns)
    return [
        HeldBack(
            request_id=request.message.request_id,
            shard_id=request.message.shard_id,
            opens_in_ms=ms_up(max(0, request.deferred_until_ns - now_ns)),
            client=request.message.client or None,
        )
        for request in soonest
    ]


def _waiting(request: QueuedRequest, now_ns: int) -> WaitingRequest:
    ask = request.message
    return WaitingRequest(
        request_id=ask.request_id,
        shard_id=ask.shard_id,
        priority=ask.priority,
        managed=ask.managed,
        waited_ms=min(max(0, now_ns - request.asked_at_ns) // MS, INT_MAX),
        client=ask.client or None,
    )
