"""What became of a grant: used, declined, not received, or never confirmed. Nothing is granted here."""

from nats_identify.schedule import model
from nats_identify.schedule.grants import AWAITING, GlobalHold, HoldState
from nats_identify.schedule.model import Event, Outcome, ScheduleAction
from nats_identify.schedule.replies import fields_of
from nats_identify.schedule.state import ScheduleState

WAITED_MIN_NS = 1 * model.SECOND
"""A shard that was granted sooner may have found an idle bucket: its success proves nothing about the margin."""


def confirm(state: ScheduleState, grant_id: str, outcome: Outcome, at_ns: int) -> list[ScheduleAction]:
    """Apply a confirm that was received at ``at_ns``. The first one settles the grant for good."""
    hold = state.holds.get(grant_id)
    if hold is None:
        return _confirm_without_grant(state, grant_id, outcome, at_ns)
    if isinstance(hold, GlobalHold):
        return []  # it was never sent to a requester
    if hold.state is HoldState.UNCOMMITTED:  # a successor may have sent it, if the write was done after all
        state.buffer_early_confirm(grant_id, outcome, at_ns)
        return []
    if outcome is Outcome.DECLINED:
        if hold.state not in AWAITING:
            return []
        state.decline(hold, at_ns)
        return [Event("declined", fields_of(hold))]
    actions: list[ScheduleAction] = []
    if hold.state in AWAITING:
        state.identify(hold, at_ns)
        actions.append(Event("identified", fields_of(hold)))
    if outcome is not Outcome.IDENTIFIED and hold.state is HoldState.IDENTIFIED:
        state.settle(hold, outcome, at_ns)
        _adapt_margin(state, outcome, waited_ns=hold.granted_at_ns - hold.asked_at_ns if hold.follows_margin else 0)
        actions.append(Event(outcome, fields_of(hold)))
    return actions


def _adapt_margin(state: ScheduleState, outcome: Outcome, *, waited_ns: int = 0) -> None:
    """Widen after every rejection; narrow after the success of a shard that had waited for the margin to pass.

    ``waited_ns``: 0 where no margin was waited for: READY had opened the bucket, so success proves nothing of a margin.
    """
    if outcome is Outcome.REJECTED:
        state.widen_margin()
    elif waited_ns >= WAITED_MIN_NS:
        state.narrow_margin()


def _confirm_without_grant(state: ScheduleState, grant_id: str, outcome: Outcome, at_ns: int) -> list[ScheduleAction]:
    """Keep a confirm that overtook the ledger; or apply a READY that came after the window."""
    used = state.take_used(grant_id) if outcome in {Outcome.READY, Outcome.REJECTED} else None
    if used is None:
        state.buffer_early_confirm(grant_id, outcome, at_ns)
        return []
    _adapt_margin(state, outcome)
    return [Event(outcome, fields_of(used))]


def undeliverable(state: ScheduleState, grant_id: str, now_ns: int) -> list[ScheduleAction]:
    """End the hold: for the leader that committed the grant and published it once, a 503 proves it was not received."""
    hold = state.holds.get(grant_id)
    if isinstance(hold, GlobalHold) or hold is None:
        return []
    if hold.state is not HoldState.UNANSWERED or hold.publish_count != 1:
        return []
    state.refund(hold)
    request = state.end_hold(hold, is_unsent=True)
    if request is not None and not request.message.managed:
        state.retry_later(request, now_ns)
    return [Event("undeliverable", fields_of(hold))]
