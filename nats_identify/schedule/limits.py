"""The day's course: limits from Discord, the day's end, the refusals when the day is spent. No fetch is made here."""

from nats_identify.schedule import plain, replies
from nats_identify.schedule.model import BUCKETS_MAX, Event, FetchLimits, Limits, Reason, ScheduleAction
from nats_identify.schedule.state import ScheduleState


def learn(state: ScheduleState, limits: Limits, now_ns: int) -> list[ScheduleAction]:
    """Apply Discord's limits; impossible ones leave the old limits as they are."""
    if not 1 <= limits.max_concurrency <= BUCKETS_MAX:
        return []
    state.set_limits(limits, now_ns)
    return [Event("limits", replies.limits(state, now_ns))]


def end_day_if_over(state: ScheduleState, now_ns: int) -> list[ScheduleAction]:
    """Close or refill the budget if the day has ended."""
    if not state.end_day(now_ns):
        return []
    over = Event("limits", replies.limits(state, now_ns))
    return [over] if state.budget.static else [over, FetchLimits("the day has ended")]


def refuse_plain_when_exhausted(state: ScheduleState, now_ns: int) -> list[ScheduleAction]:
    """When the budget runs out for a priority, refuse its plain requests at once: no reply says that they wait."""
    if not state.note_exhausted():
        return []
    actions: list[ScheduleAction] = [Event("exhausted", replies.limits(state, now_ns))]
    for request in [request for queue in state.requests.queues.values() for request in queue]:
        message = request.message
        if not message.managed and state.budget.closed_for(message.priority) is Reason.SESSION_LIMIT:
            refusal = replies.exhausted(state, message.request_id, now_ns)
            actions += plain.final(state, message, replies.refuse(message, refusal))
    return actions
