"""What time alone changes: holds run out, askings are given up, days end. It grants nothing, and reads no clock."""

from nats_identify.schedule import confirmations, model, plain
from nats_identify.schedule.limits import LimitsTracker
from nats_identify.schedule.model import Event, Reply, ScheduleAction
from nats_identify.schedule.replies import fields_of
from nats_identify.schedule.state import ScheduleState
from nats_identify.schedule.timers import LOOK_MOST_NS, TimerKind


def fire_due_timers(state: ScheduleState, day: LimitsTracker, now_ns: int) -> list[ScheduleAction]:
    """Do all that has fallen due; return what to send."""
    actions: list[ScheduleAction] = []
    while (timer := state.timers.pop_due(now_ns)) is not None:
        match timer:
            case (_, TimerKind.GRANT, str(grant_id)):
                _look_at_grant(state, grant_id, now_ns)
            case (_, TimerKind.ASKING, str(request_id)):
                actions += _look_at_asking(state, request_id, now_ns)
            case (_, TimerKind.BUCKET, int(bucket)):
                state.dirty_buckets.add(bucket)
            case (_, TimerKind.EVERYTHING, _):
                state.mark_all_dirty()
                if state.grants_paused_until_ns > now_ns:  # we were away once more meanwhile
                    state.timers.at(state.grants_paused_until_ns, TimerKind.EVERYTHING)
            case _:
                actions += day.kind(now_ns)
    return actions


def _look_at_grant(state: ScheduleState, grant_id: str, now_ns: int) -> None:
    grant = state.holds.get(grant_id)
    if grant is None:
        return
    if not grant.committed:  # its write is still under way: the hold begins at its end
        state.timers.at(now_ns + model.SECOND, TimerKind.GRANT, grant_id)
    elif grant.opens_at_ns > now_ns:
        state.timers.at(grant.opens_at_ns, TimerKind.GRANT, grant_id)
    else:
        confirmations.expire_hold(state, grant)


def _look_at_asking(state: ScheduleState, request_id: str, now_ns: int) -> list[ScheduleAction]:
    request = state.requests.get(request_id)
    if request is None:
        return []
    state.defer(request, request.deferred_until_ns, now_ns)
    if request.expires_at_ns > now_ns or request.grant_id is not None:  # a granted one ends with its hold
        look_at_ns = min(max(request.expires_at_ns, now_ns + model.SECOND), now_ns + LOOK_MOST_NS)
        if request.retry_at_ns > now_ns:
            look_at_ns = min(look_at_ns, request.retry_at_ns)
        elif request.retry_at_ns:  # a plain one that could not be delivered is tried again
            state.dirty_buckets.add(request.bucket)
        state.timers.at(look_at_ns, TimerKind.ASKING, request_id)
        return []
    state.requests.forget(request)
    state.dirty_buckets.add(request.bucket)
    expired = Event("expired", fields_of(request))
    if request.timeout_at_ns is None or now_ns < request.timeout_at_ns:
        return [expired]
    text = "not granted within timeout_ms; ask again"
    refused = Reply(request.message.reply_to, model.Refused(request_id, model.Code.TIMEOUT, text))
    return [*plain.final(state, request.message, [refused]), expired]
