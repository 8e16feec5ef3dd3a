"""What time alone changes: holds and requests expire, days end. Nothing is granted here, and no clock is read."""

from nats_identify.schedule import limits, model, plain
from nats_identify.schedule.grants import Hold, HoldState
from nats_identify.schedule.model import Event, Reply, ScheduleAction
from nats_identify.schedule.replies import fields_of, waited_ms
from nats_identify.schedule.state import ScheduleState
from nats_identify.schedule.timers import LOOK_MAX_NS, TimerKind


def fire_due_timers(state: ScheduleState, now_ns: int) -> list[ScheduleAction]:
    """Do all that has fallen due; return what to send."""
    actions: list[ScheduleAction] = []
    while (timer := state.take_due_timer(now_ns)) is not None:
        match timer:
            case (_, TimerKind.HOLD, str(grant_id)):
                _look_at_hold(state, grant_id, now_ns)
            case (_, TimerKind.REQUEST, str(request_id)):
                actions += _look_at_request(state, request_id, now_ns)
            case (_, TimerKind.BUCKET, int(bucket)):
                state.mark_dirty(bucket)
            case (_, TimerKind.ALL, _):
                state.mark_all_dirty()
                if state.grants_paused_until_ns > now_ns:  # the connection was lost once more meanwhile
                    state.look_at_all(state.grants_paused_until_ns)
            case _:
                actions += limits.end_day_if_over(state, now_ns)
    return actions


def _look_at_hold(state: ScheduleState, grant_id: str, now_ns: int) -> None:
    hold = state.holds.get(grant_id)
    if hold is None:
        return
    if isinstance(hold, Hold) and hold.state is HoldState.UNCOMMITTED:  # the hold counts from the end of its write
        state.look_at_hold(grant_id, now_ns + model.SECOND)
    elif hold.opens_at_ns > now_ns:
        state.look_at_hold(grant_id, hold.opens_at_ns)
    else:
        state.expire_hold(hold)


def _look_at_request(state: ScheduleState, request_id: str, now_ns: int) -> list[ScheduleAction]:
    request = state.requests.get(request_id)
    if request is None:
        return []
    state.defer(request, request.deferred_until_ns, now_ns)
    if request.expires_at_ns > now_ns or request.grant_id is not None:  # a granted one ends with its hold
        look_at_ns = min(max(request.expires_at_ns, now_ns + model.SECOND), now_ns + LOOK_MAX_NS)
        if request.retry_at_ns > now_ns:
            look_at_ns = min(look_at_ns, request.retry_at_ns)
        elif request.retry_at_ns:  # a plain one that could not be delivered is tried again
            state.mark_dirty(request.bucket)
        state.look_at_request(request_id, look_at_ns)
        return []
    state.drop_request(request)
    expired = Event("expired", fields_of(request, waited_ms=waited_ms(request.asked_at_ns, now_ns)))
    if request.timeout_at_ns is None or now_ns < request.timeout_at_ns:
        return [expired]
    text = "not granted within timeout_ms; ask again"
    refused = Reply(request.message.reply_to, model.Refused(request_id, model.Code.TIMEOUT, text))
    return [*plain.final(state, request.message, [refused]), expired]
