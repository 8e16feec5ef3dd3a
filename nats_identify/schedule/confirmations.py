"""What became of a granted turn: used, declined, not received, or never answered. It grants nothing."""

from nats_identify.schedule import margin, model
from nats_identify.schedule.model import Event, Grant, Outcome, ScheduleAction
from nats_identify.schedule.replies import fields_of
from nats_identify.schedule.state import ScheduleState
from nats_identify.schedule.timers import TimerKind

PLAIN_RETRIES = 4
"""A plain request that nobody receives is tried again after 1, 2, 4 and 8 s, then forgotten."""

WAITED_LEAST_NS = 1 * model.SECOND
"""Who was granted sooner may have found an idle bucket: its success tells nothing of the margin."""


def confirm(state: ScheduleState, grant_id: str, outcome: Outcome, at_ns: int) -> list[ScheduleAction]:
    """Take in an answer that was received at ``at_ns``. The first one settles the turn for good."""
    grant = state.holds.get(grant_id)
    if grant is None:
        return _answer_without_grant(state, grant_id, outcome, at_ns)
    if not grant.request_id:
        return []  # nobody can have heard of it
    if not grant.committed:  # perhaps by a successor, if the write was done and its outcome is not known here
        state.buffer_early_confirm(grant_id, outcome, at_ns)
        return []
    if outcome is Outcome.DECLINED:
        return _decline(state, grant, at_ns) if grant.outcome is None else []
    actions: list[ScheduleAction] = []
    if grant.outcome is None:
        state.identify(grant, at_ns)
        actions.append(Event("identified", fields_of(grant)))
    if outcome is not Outcome.IDENTIFIED and grant.outcome is Outcome.IDENTIFIED:
        grant.outcome = outcome
        _adapt_margin(state, outcome, waited_ns=grant.granted_at_ns - grant.asked_at_ns)
        actions.append(Event(outcome, fields_of(grant)))
    return actions


def _adapt_margin(state: ScheduleState, outcome: Outcome, *, waited_ns: int = 0) -> None:
    """Learn the margin: from every refusal, and from the success of one that had waited for its bucket to open."""
    if outcome is Outcome.REJECTED:
        state.set_margin(margin.widened(state.timing.margin_ns, state.margin_setting_ns))
    elif waited_ns >= WAITED_LEAST_NS:
        state.set_margin(margin.narrowed(state.timing.margin_ns, state.margin_setting_ns))


def _answer_without_grant(state: ScheduleState, grant_id: str, outcome: Outcome, at_ns: int) -> list[ScheduleAction]:
    """It overtook the ledger, or it is a READY that came after the window."""
    fields = state.used.pop(grant_id, None) if outcome in {Outcome.READY, Outcome.REJECTED} else None
    if fields is None:
        state.buffer_early_confirm(grant_id, outcome, at_ns)
        return []
    _adapt_margin(state, outcome)
    return [Event(outcome, fields)]


def undeliverable(state: ScheduleState, grant_id: str, now_ns: int) -> list[ScheduleAction]:
    """503 proves that nothing was sent: to the leader that committed the grant and published it once."""
    grant = state.holds.get(grant_id)
    if grant is None or grant.publish_count != 1 or grant.outcome is not None:
        return []
    request = state.requests.get(grant.request_id)
    actions = _refund(state, grant, "undeliverable", is_unsent=True)
    if request is not None and not request.message.managed:
        request.retry_at_ns = now_ns + (model.SECOND << request.undeliverable_count)
        request.undeliverable_count += 1
        state.timers.at(request.retry_at_ns, TimerKind.ASKING, request.message.request_id)
        if request.undeliverable_count > PLAIN_RETRIES:
            state.requests.forget(request)
    return actions


def _decline(state: ScheduleState, grant: Grant, at_ns: int) -> list[ScheduleAction]:
    """The turn was not used. The decline is kept: an entry of a leader that did not receive it may bring it back.

    That entry's budget has no refund for it, so each adoption of the grant counts one, and one is counted in all. It
    may be read long after the hold is over: only newer answers displace the decline.
    """
    state.buffer_early_confirm(grant.grant_id, Outcome.DECLINED, at_ns)
    state.end_plain(grant, at_ns)
    return _refund(state, grant, "declined")


def _refund(state: ScheduleState, grant: Grant, name: str, *, is_unsent: bool = False) -> list[ScheduleAction]:
    state.refund(grant)
    state.end_hold(grant, is_unsent=is_unsent)
    return [Event(name, fields_of(grant))]


def expire_hold(state: ScheduleState, grant: Grant) -> None:
    """A hold has run out: what was answered is settled, what was not may have been lost.

    A plain requester that answers nothing is believed to have identified: its id is spent.
    """
    state.end_plain(grant, grant.opens_at_ns)
    state.end_hold(grant)
    if not grant.managed:
        state.mark_day_begun(grant, grant.opens_at_ns)
    if grant.outcome is Outcome.IDENTIFIED:
        state.retain_for_ready(grant.grant_id, fields_of(grant))
