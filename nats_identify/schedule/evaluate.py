"""What to do with one bucket now: grant, nudge, and when to look again. Nothing is changed here.

Shortly before a bucket opens the first request is nudged: its renewal is then fresh when the bucket opens, and its
shard connects meanwhile. A shard that does not renew may be dead, so a step later twice as many are nudged: a hundred
dead requesters in front of a live one are skipped before the bucket has opened. A request is skipped only after it was
nudged and did not renew: after a takeover or an outage the first renewal received is not the first in order.
"""

from dataclasses import dataclass, replace

from nats_identify.schedule.bucket_queue import BucketQueue, QueuedRequest
from nats_identify.schedule.model import Timing
from nats_identify.schedule.state import ScheduleState

STEPS = 10
"""The steps before a bucket opens; the number nudged doubles at each, to over a thousand."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a bucket now. Applying it and evaluating again at the same instant decides nothing more.

    Attributes:
        grant: the request to grant. The bucket is evaluated again after that, so nothing else is decided beside it.
        nudges: the requests to nudge.
        nudge_width: how many unanswered requests may be nudged at most. ``widen_at_ns``: when twice as many.
        look_again_at_ns: when time alone changes this decision, beside the end of the bucket's hold; None: only an
            event does. It covers the `passable_at_ns` of unanswered requests before a fresh one, and the end of a
            crash loop, where the request is not deferred.
    """

    grant: QueuedRequest | None = None
    nudges: tuple[QueuedRequest, ...] = ()
    nudge_width: int = 1
    widen_at_ns: int | None = None
    look_again_at_ns: int | None = None


def step_ns(timing: Timing) -> int:
    """How long a live shard may take to renew after a nudge: ten round trips of a slow network and more."""
    return timing.nudge_lead_ns // STEPS


def evaluate(state: ScheduleState, bucket: int, now_ns: int) -> Decision:
    """Decide what to do with this bucket now."""
    queue = state.requests.queues.get(bucket)
    if queue is None:
        return Decision()
    granted, loop_ends_at_ns = next_grant(state, bucket, now_ns)
    if granted is not None:
        return Decision(grant=granted)
    decision = _nudges(state, queue, state.opens_at_ns(bucket), now_ns)
    if loop_ends_at_ns is None:
        return decision
    return replace(decision, look_again_at_ns=min(loop_ends_at_ns, decision.look_again_at_ns or loop_ends_at_ns))


def next_grant(state: ScheduleState, bucket: int, now_ns: int) -> tuple[QueuedRequest | None, int | None]:
    """Return the request that is granted if this bucket is looked at now: the first in order whose renewal is fresh.

    A stale one before it keeps its place, and is skipped only after it was nudged in vain. A fresh one whose shard
    crash-loops is skipped too: the second value is when the first of these loops ends. Such a request is not deferred,
    since its shard was granted another one meanwhile, or a successor counts the loop from when it read of it.
    """
    loop_ends_at_ns: int | None = None
    if state.opens_at_ns(bucket) > now_ns:
        return None, None
    timing = state.timing
    priority: int | None = None
    for request in state.requests.queues.get(bucket, ()):
        if request.message.priority != priority:
            priority = request.message.priority
            if state.closed_for(priority) is not None:
                break  # those behind are deferred for longer, or have no higher priority
        if request.deferred_until_ns > now_ns:
            break  # as above
        if not request.is_fresh(now_ns, timing):
            skip_at_ns = passable_at_ns(state, request)
            if skip_at_ns is None or skip_at_ns > now_ns:
                break
            continue
        ends_at_ns = state.loop_ends_at_ns(request, now_ns)
        if ends_at_ns <= now_ns:
            return request, None
        loop_ends_at_ns = min(ends_at_ns, loop_ends_at_ns or ends_at_ns)
    return None, loop_ends_at_ns


def passable_at_ns(state: ScheduleState, request: QueuedRequest) -> int | None:
    """When the next request may go before this stale one; None: not before an event.

    At once if its shard is known to be away; else a step after it was nudged without a renewal since. A slow commit
    delays nudges and renewals, so the step counts from its end, for a nudge lead at most.
    """
    if request.is_unresponsive or not request.message.managed:
        return 0
    nudged_at_ns = request.nudged_at_ns
    if nudged_at_ns <= request.renewed_at_ns or nudged_at_ns < state.nudges_valid_from_ns:
        return None
    step_ends_at_ns = max(nudged_at_ns, state.slow_commit_at_ns) + step_ns(state.timing)
    return min(step_ends_at_ns, nudged_at_ns + state.timing.nudge_lead_ns)


def _nudges(state: ScheduleState, queue: BucketQueue, opens_at_ns: int, now_ns: int) -> Decision:
    """Nudge the first in order, up to the width, none of which has renewed since its bucket is near."""
    lead_at_ns = opens_at_ns - state.timing.nudge_lead_ns
    near_at_ns = max(lead_at_ns, state.nudges_valid_from_ns)
    if now_ns < near_at_ns:
        return Decision(look_again_at_ns=lead_at_ns if now_ns < lead_at_ns else None)
    width, widen_at_ns = queue.nudge_width, queue.widen_at_ns
    if widen_at_ns is not None and now_ns >= widen_at_ns:
        width, widen_at_ns = min(2 * width, len(queue)), None
    nudges: list[QueuedRequest] = []
    unanswered = 0
    is_awaited = False
    for request in queue:
        if unanswered == width or state.closed_for(request.message.priority) is not None:
            break
        if request.deferred_until_ns > max(opens_at_ns, now_ns):
            break
        if request.is_unresponsive or (not request.message.managed and request.retry_at_ns > opens_at_ns):
            continue  # known to be away
        has_renewed = request.renewed_at_ns >= max(near_at_ns, request.nudged_at_ns)
        is_fresh = request.is_fresh(now_ns, state.timing)
        is_awaited = is_awaited or (is_fresh and unanswered > 0)  # even if it has not answered a later nudge
        if not request.message.managed or (has_renewed and is_fresh):
            break  # fresh: it is granted once those before it have missed the step after their nudge
        unanswered += 1
        if request.nudged_at_ns < near_at_ns or has_renewed:
            nudges.append(request)
    # A nudge sent meanwhile does not delay the widening: in a row of dead requesters each 503 causes another nudge.
    if nudges or is_awaited or unanswered == width < len(queue):
        widen_at_ns = widen_at_ns or now_ns + step_ns(state.timing)
    look_at_ns = _grantable_at_ns(state, queue, max(opens_at_ns, now_ns)) or widen_at_ns
    if look_at_ns is not None and widen_at_ns is not None:
        look_at_ns = min(look_at_ns, widen_at_ns)
    return Decision(nudges=tuple(nudges), nudge_width=width, widen_at_ns=widen_at_ns, look_again_at_ns=look_at_ns)


def _grantable_at_ns(state: ScheduleState, queue: BucketQueue, after_ns: int) -> int | None:
    """When `next_grant` finds the first fresh request passable, if that is after ``after_ns``; None: not by time alone.

    Until ``after_ns`` the bucket is shut, and its end is looked at in any case.
    """
    passable_ns = 0
    for request in queue:
        if request.deferred_until_ns > after_ns or state.closed_for(request.message.priority) is not None:
            break
        if request.is_fresh(after_ns, state.timing):
            return passable_ns if passable_ns > after_ns and request.is_fresh(passable_ns, state.timing) else None
        skip_at_ns = passable_at_ns(state, request)
        if skip_at_ns is None:
            break
        passable_ns = max(passable_ns, skip_at_ns)
    return None
