"""What became of a granted turn: used, declined, not received, or never answered. It grants nothing."""

from nats_identify.schedule import margin, model
from nats_identify.schedule.alarms import Look
from nats_identify.schedule.book import Book
from nats_identify.schedule.model import Grant, Happened, Outcome, ScheduleAction
from nats_identify.schedule.replies import facts_of

PLAIN_RETRIES = 4
"""A plain request that nobody receives is tried again after 1, 2, 4 and 8 s, then forgotten."""

WAITED_LEAST_NS = 1 * model.SECOND
"""Who was granted sooner may have found an idle bucket: its success tells nothing of the margin."""


def answer(book: Book, grant_id: str, outcome: Outcome, at_ns: int) -> list[ScheduleAction]:
    """Take in an answer that was received at ``at_ns``. The first one settles the turn for good."""
    grant = book.holds.get(grant_id)
    if grant is None:
        return _answer_without_grant(book, grant_id, outcome, at_ns)
    if not grant.request_id:
        return []  # nobody can have heard of it
    if not grant.committed:  # perhaps by a successor, if the write was done and its outcome is not known here
        book.stash(grant_id, outcome, at_ns)
        return []
    if outcome is Outcome.DECLINED:
        return _decline(book, grant, at_ns) if grant.outcome is None else []
    actions: list[ScheduleAction] = []
    if grant.outcome is None:
        book.identify(grant, at_ns)
        actions.append(Happened("identified", facts_of(grant)))
    if outcome is not Outcome.IDENTIFIED and grant.outcome is Outcome.IDENTIFIED:
        grant.outcome = outcome
        _tune(book, outcome, waited_ns=grant.granted_at_ns - grant.asked_at_ns)
        actions.append(Happened(outcome, facts_of(grant)))
    return actions


def _tune(book: Book, outcome: Outcome, *, waited_ns: int = 0) -> None:
    """Learn the margin: from every refusal, and from the success of one that had waited for its bucket to open."""
    if outcome is Outcome.REJECTED:
        book.tune(margin.widened(book.timing.margin_ns, book.margin_setting_ns))
    elif waited_ns >= WAITED_LEAST_NS:
        book.tune(margin.narrowed(book.timing.margin_ns, book.margin_setting_ns))


def _answer_without_grant(book: Book, grant_id: str, outcome: Outcome, at_ns: int) -> list[ScheduleAction]:
    """It overtook the ledger, or it is a READY that came after the window."""
    facts = book.used.pop(grant_id, None) if outcome in {Outcome.READY, Outcome.REJECTED} else None
    if facts is None:
        book.stash(grant_id, outcome, at_ns)
        return []
    _tune(book, outcome)
    return [Happened(outcome, facts)]


def undeliverable(book: Book, grant_id: str, now_ns: int) -> list[ScheduleAction]:
    """503 proves that nothing was sent: to the leader that committed the grant and published it once."""
    grant = book.holds.get(grant_id)
    if grant is None or grant.sent != 1 or grant.outcome is not None:
        return []
    asking = book.room.get(grant.request_id)
    actions = _give_back(book, grant, "undeliverable", is_unsent=True)
    if asking is not None and not asking.ask.managed:
        asking.retry_at_ns = now_ns + (model.SECOND << asking.undeliverable_count)
        asking.undeliverable_count += 1
        book.alarms.at(asking.retry_at_ns, Look.ASKING, asking.ask.request_id)
        if asking.undeliverable_count > PLAIN_RETRIES:
            book.room.forget(asking)
    return actions


def _decline(book: Book, grant: Grant, at_ns: int) -> list[ScheduleAction]:
    """The turn was not used. The decline is kept: an entry of a leader that did not receive it may bring it back.

    That entry's budget has no refund for it, so each adoption of the grant counts one, and one is counted in all. It
    may be read long after the hold is over: only newer answers displace the decline.
    """
    book.stash(grant.grant_id, Outcome.DECLINED, at_ns)
    book.end_plain(grant, at_ns)
    return _give_back(book, grant, "declined")


def _give_back(book: Book, grant: Grant, name: str, *, is_unsent: bool = False) -> list[ScheduleAction]:
    book.give_back(grant)
    book.let_go(grant, is_unsent=is_unsent)
    return [Happened(name, facts_of(grant))]


def let_over(book: Book, grant: Grant) -> None:
    """A hold has run out: what was answered is settled, what was not may have been lost.

    A plain requester that answers nothing is believed to have identified: its id is spent.
    """
    book.end_plain(grant, grant.opens_at_ns)
    book.let_go(grant)
    if not grant.managed:
        book.believe_used(grant, grant.opens_at_ns)
    if grant.outcome is Outcome.IDENTIFIED:
        book.remember_used(grant.grant_id, facts_of(grant))
