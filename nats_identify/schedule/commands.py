"""The commands of an operator, applied to the state. Nothing is granted or sent here.

A leader applies each, and keeps its reply and its event until the ledger entry that records it is committed: so what
has been reported as done outlives the leader. One that is not carried out changes nothing, and is answered at once.

A standby ends a kicked request and forgives a pardoned shard, as it ends a cancelled request. It takes the rest from
the ledger: whether a grant may be released is decided where the confirms and the ledger come together, by the leader.
"""

from nats_identify.schedule.grants import AWAITING, Hold, HoldState
from nats_identify.schedule.model import (
    Code,
    CommandReply,
    Event,
    Fields,
    Kick,
    Operator,
    Pardon,
    Pause,
    Refused,
    Release,
    Reply,
    Resume,
    ScheduleAction,
)
from nats_identify.schedule.pause import Paused
from nats_identify.schedule.replies import fields_of, ms
from nats_identify.schedule.state import ScheduleState

Command = Pause | Resume | Kick | Release | Pardon

TOO_MANY_UNSENT = "too many replies wait for the ledger; give the command again in some seconds"
"""To an operator whose command would have one more reply to keep."""

TIMER = "timer"
"""The ``by`` of a pause's end that no operator commanded."""


def apply(state: ScheduleState, command: Command, now_ns: int) -> list[ScheduleAction]:
    """Apply a command; return what to send at once: the refusal of one that is not carried out, or nothing."""
    name = type(command).__name__.lower()
    if state.is_leading and state.unsent.is_full:
        return [CommandReply(command.operator.reply_to, name, TOO_MANY_UNSENT, Code.OVERLOADED)]
    match command:
        case Pause() if state.is_leading:
            return _pause(state, command, now_ns)
        case Resume(operator) if state.is_leading:
            return _resume(state, operator)
        case Kick(operator, request_id):
            return _kick(state, operator, request_id)
        case Release(operator, grant_id) if state.is_leading:
            return _release(state, operator, grant_id, now_ns)
        case Pardon(operator, shard_id):
            return _pardon(state, operator, shard_id, now_ns)
        case _:
            return []


def end_pause_if_over(state: ScheduleState, now_ns: int) -> list[ScheduleAction]:
    """End a pause whose time is over; a standby leaves that to the leader, or to itself once it leads."""
    paused = state.paused
    if paused is None or paused.ends_ns is None or not state.is_leading:
        return []
    if paused.ends_ns > now_ns:  # it has replaced one that would have ended now
        state.look_at_pause()
        return []
    state.end_pause()
    return [Event("resumed", {"by": TIMER, "why": paused.why})]


def _pause(state: ScheduleState, command: Pause, now_ns: int) -> list[ScheduleAction]:
    operator, for_ns, below = command.operator, command.for_ns, command.below_priority
    was_paused = state.paused is not None
    ends_ns = None if for_ns is None else now_ns + for_ns
    state.start_pause(Paused(below_priority=below, ends_ns=ends_ns, by=operator.by, why=operator.why))
    whom = "no request is granted" if below is None else f"no request of a priority below {below} is granted"
    until = "until resume" if for_ns is None else f"for {ms(for_ns)} ms, or until resume"
    text = f"paused: {whom} {until}; turns that are granted already go on"
    event = Event("paused", _said_by(operator, below_priority=below, for_ms=ms(for_ns)))
    return _done(state, operator, "pause", f"{text}; it replaces the pause before" if was_paused else text, event)


def _resume(state: ScheduleState, operator: Operator) -> list[ScheduleAction]:
    if state.paused is None:
        return _done(state, operator, "resume", "no pause was in force; nothing has changed")
    state.end_pause()
    return _done(state, operator, "resume", "resumed: requests are granted again", Event("resumed", _said_by(operator)))


def _kick(state: ScheduleState, operator: Operator, request_id: str) -> list[ScheduleAction]:
    request = state.requests.get(request_id)
    if request is not None and request.grant_id is not None:
        text = (
            f"request {request_id} has the turn {request.grant_id}, and its shard may use it; where it will not for "
            f"certain, release that grant first"
        )
        return _not_done(state, operator, "kick", Code.BAD_REQUEST, text)
    if not state.is_leading:
        state.end_request(request_id)  # known or not: a late copy of its message does not queue it
        return []
    if request is None:
        has_ended = state.requests.has_ended(request_id)
        why = "has ended already" if has_ended else "is not known; see the status for those that wait"
        code = Code.ENDED if has_ended else Code.BAD_REQUEST
        return _not_done(state, operator, "kick", code, f"request {request_id} {why}")
    state.end_request(request_id)
    text = f"an operator ended request {request_id}; it may ask again with a new request_id"
    kicked = Event("kicked", fields_of(request, **_said_by(operator)))
    refused = Reply(request.message.reply_to, Refused(request_id, Code.ENDED, text))
    if not request.message.managed:
        state.keep_refusal(request.message, [refused])
        return _done(state, operator, "kick", f"request {request_id} was ended, and refused", kicked)
    return _done(state, operator, "kick", f"request {request_id} was ended, and refused", kicked, refused)


def _release(state: ScheduleState, operator: Operator, grant_id: str, now_ns: int) -> list[ScheduleAction]:
    hold = state.holds.get(grant_id)
    if state.was_declined(grant_id) and hold is None:
        return _done(state, operator, "release", f"grant {grant_id} was declined or released before")
    if not isinstance(hold, Hold):
        text = f"no live grant is {grant_id}: its hold is over, or it never was; see the status for live grants"
        return _not_done(state, operator, "release", Code.ENDED, text)
    if hold.state is HoldState.UNCOMMITTED:
        text = f"grant {grant_id} is being recorded; give the command again in a second"
        return _not_done(state, operator, "release", Code.OVERLOADED, text)
    if hold.state not in AWAITING:
        text = f"grant {grant_id} is {hold.state}: its IDENTIFY was sent, so its bucket stays shut for the window"
        return _not_done(state, operator, "release", Code.BAD_REQUEST, text)
    state.decline(hold, now_ns)
    released = Event("released", fields_of(hold, **_said_by(operator)))
    return _done(state, operator, "release", f"grant {grant_id} was released as declined; its bucket is free", released)


def _pardon(state: ScheduleState, operator: Operator, shard_id: int, now_ns: int) -> list[ScheduleAction]:
    had_any = state.pardon(shard_id, now_ns)
    if not state.is_leading:
        return []
    if not had_any:
        return _done(state, operator, "pardon", f"nothing was held against shard {shard_id}")
    pardoned = Event("pardoned", {"shard_id": shard_id, **_said_by(operator)})
    return _done(
        state, operator, "pardon", f"the grants of shard {shard_id} are forgotten; it is not deferred", pardoned
    )


def _said_by(operator: Operator, **more: str | int | None) -> Fields:
    return {**more, "by": operator.by, "why": operator.why}


def _done(
    state: ScheduleState, operator: Operator, command: str, text: str, *before: ScheduleAction
) -> list[ScheduleAction]:
    """Keep the reply, and what is sent before it, until the entry that records the command is committed."""
    state.keep_reply([*before, CommandReply(operator.reply_to, command, text)])
    return []


def _not_done(state: ScheduleState, operator: Operator, command: str, code: Code, text: str) -> list[ScheduleAction]:
    return [CommandReply(operator.reply_to, command, text, code)] if state.is_leading else []
