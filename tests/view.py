"""What tests read of a schedule: one frozen view, and a few answers for those that ask at each event.

Only this file and `tests.invariants` know how the state keeps it: a change in there is followed here alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nats_identify.schedule import replies
from nats_identify.schedule.budget import StaticDay
from nats_identify.schedule.grants import GlobalHold, Hold
from nats_identify.schedule.model import Outcome, Queued, Reason
from nats_identify.schedule.scheduler import Scheduler
from nats_identify.schedule.state import ScheduleState


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request that waits or is granted; ``grant_id`` is None while it waits."""

    shard_id: int
    bucket: int
    renewal: int
    source: str
    asked_us: int
    asked_at_ns: int
    deferred_until_ns: int
    grant_id: str | None


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold; a global one serves no request."""

    request_id: str | None
    opens_at_ns: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class View:
    """A schedule at one instant.

    Attributes:
        remaining: what is left of the day, below zero where more was spent; None: unknown.
        resets_at_ns, static_day: when the day ends, and what is known of a day of static limits.
        requests: by id, in the order of admission.
        queues: the ids that wait in each bucket, in order; a bucket without any is not in it.
        holds: by grant id, in the order in which they began.
        opens_at_ns: when the last hold of each bucket ends; 0 where it has none.
        margin_ns: as learnt so far.
    """

    remaining: int | None
    resets_at_ns: int | None
    static_day: StaticDay
    requests: Mapping[str, RequestView]
    queues: Mapping[int, tuple[str, ...]]
    holds: Mapping[str, HoldView]
    opens_at_ns: Mapping[int, int]
    margin_ns: int


def view_of(schedule: Scheduler) -> View:
    """Return what this schedule has now."""
    state = schedule.state
    return View(
        remaining=state.budget.remaining,
        resets_at_ns=state.budget.resets_at_ns,
        static_day=state.budget.day,
        requests={
            name: RequestView(
                shard_id=request.message.shard_id,
                bucket=request.bucket,
                renewal=request.message.renewal,
                source=request.message.source,
                asked_us=request.message.asked_us,
                asked_at_ns=request.asked_at_ns,
                deferred_until_ns=request.deferred_until_ns,
                grant_id=request.grant_id,
            )
            for name, request in state.requests.by_id.items()
        },
        queues={
            bucket: tuple(request.message.request_id for request in queue)
            for bucket, queue in state.requests.queues.items()
        },
        holds=dict(_hold(hold) for hold in state.holds.all()),
        opens_at_ns={bucket: state.holds.opens_at_ns(bucket) for bucket in range(state.max_concurrency or 1)},
        margin_ns=state.timing.margin_ns,
    )


def _hold(hold: Hold | GlobalHold) -> tuple[str, HoldView]:
    if isinstance(hold, GlobalHold):
        return hold.grant_id, HoldView(None, hold.opens_at_ns, None)
    return hold.grant.grant_id, HoldView(hold.grant.request_id, hold.opens_at_ns, hold.state.outcome)


# --- single answers, which cost no view


def buckets_of(schedule: Scheduler) -> int:
    """Today's number of buckets; 1 while it is unknown."""
    return schedule.state.max_concurrency or 1


def remaining_of(schedule: Scheduler) -> int | None:
    """What is left of the day, as `View` has it."""
    return schedule.state.budget.remaining


def is_day_spent(schedule: Scheduler) -> bool:
    """Whether the day has nothing left, for any priority."""
    return schedule.state.budget.closed_for(1) is Reason.SESSION_LIMIT


def knows_request(schedule: Scheduler, request_id: str) -> bool:
    """Whether this request waits or is granted."""
    return schedule.state.requests.get(request_id) is not None


def knows_grant(schedule: Scheduler, grant_id: str) -> bool:
    """Whether this grant has a hold."""
    return schedule.state.holds.get(grant_id) is not None


def is_deferred(schedule: Scheduler, request_id: str, now_ns: int) -> bool:
    """Whether this request waits since its shard crash-loops."""
    request = schedule.state.requests.get(request_id)
    if request is None:
        return False
    return max(request.deferred_until_ns, schedule.state.loop_ends_at_ns(request, now_ns)) > now_ns


# --- what the edge is given, and what it must agree with


def state_of(schedule: Scheduler) -> ScheduleState:
    """The state, for a part of the edge that takes one."""
    return schedule.state


def queued_replies(schedule: Scheduler, now_ns: int) -> dict[str, Queued]:
    """What the ``queued`` reply of each waiting request would say now."""
    state = schedule.state
    waiting = [request for queue in state.requests.queues.values() for request in queue]
    return {one.message.request_id: replies.queued(state, one, now_ns) for one in waiting}
