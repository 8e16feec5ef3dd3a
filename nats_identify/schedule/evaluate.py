"""Whom to tell that a bucket is about to open. It grants nothing, and sends nothing itself.

The head is told a moment before: its renewal is then fresh when the bucket opens, and its shard connects
meanwhile. Who does not answer may be dead, so a step later twice as many are told: a hundred dead
requesters in front of a live one are passed before the bucket has opened. Nobody is passed over who was not
told, or has only just been: after a takeover or an outage the first to be heard is not the first in line.
"""

from nats_identify.schedule.bucket_queue import BucketQueue, QueuedRequest
from nats_identify.schedule.model import Timing
from nats_identify.schedule.state import ScheduleState

STEPS = 10
"""So many steps fit into the time before a bucket opens; doubled at each, over a thousand are told."""


def step_ns(timing: Timing) -> int:
    """How long a live shard may take to answer a nudge: ten round trips of a slow network and more."""
    return timing.nudge_lead_ns // STEPS


def may_be_skipped(state: ScheduleState, request: QueuedRequest, now_ns: int) -> bool:
    """Whether the next one goes first: this one is known to be away, or was told of its turn and has not answered."""
    if request.is_unresponsive or not request.message.managed:
        return True
    told_at_ns = request.nudged_at_ns
    if told_at_ns <= request.renewed_at_ns or told_at_ns < state.nudges_valid_from_ns:
        return False
    has_had_a_step = now_ns - max(told_at_ns, state.slow_commit_at_ns) >= step_ns(state.timing)
    return has_had_a_step or now_ns - told_at_ns >= state.timing.nudge_lead_ns


def nudge(state: ScheduleState, queue: BucketQueue, opens_at_ns: int, now_ns: int) -> list[QueuedRequest]:
    """Mark and return those to be told now: the first in order, up to the width, none of whom has answered."""
    near_at_ns = max(opens_at_ns - state.timing.nudge_lead_ns, state.nudges_valid_from_ns)
    if now_ns < near_at_ns:
        queue.nudge_width, queue.widen_at_ns = 1, None
        return []
    if queue.widen_at_ns is not None and now_ns >= queue.widen_at_ns:
        queue.nudge_width, queue.widen_at_ns = min(2 * queue.nudge_width, len(queue)), None
    told: list[QueuedRequest] = []
    unheard = 0
    is_awaited = False
    for request in queue:
        if unheard == queue.nudge_width or state.budget.closed_for(request.message.priority) is not None:
            break
        if request.deferred_until_ns > max(opens_at_ns, now_ns):
            break
        if request.is_unresponsive or (not request.message.managed and request.retry_at_ns > opens_at_ns):
            continue  # known to be away
        has_answered = request.renewed_at_ns >= max(near_at_ns, request.nudged_at_ns)
        if not request.message.managed or (has_answered and request.is_fresh(now_ns, state.timing)):
            is_awaited = unheard > 0
            break  # this one will take the turn, a step after those before it were told
        unheard += 1
        if request.nudged_at_ns < near_at_ns or has_answered:
            request.nudged_at_ns = now_ns
            told.append(request)
    # Not put off by those told meanwhile: of a long row of dead each 503 has the next one told.
    if told or is_awaited or unheard == queue.nudge_width < len(queue):
        queue.widen_at_ns = queue.widen_at_ns or now_ns + step_ns(state.timing)
    return told


def next_look_ns(state: ScheduleState, queue: BucketQueue, opens_at_ns: int, now_ns: int) -> int | None:
    """When this line wants to be looked at again on account of its nudges, or None."""
    near_at_ns = opens_at_ns - state.timing.nudge_lead_ns
    return near_at_ns if now_ns < near_at_ns else queue.widen_at_ns
