"""Whom to tell that a bucket is about to open. It grants nothing, and sends nothing itself.

The head is told a moment before: its renewal is then fresh when the bucket opens, and its shard connects
meanwhile. Who does not answer may be dead, so a step later twice as many are told: a hundred dead
requesters in front of a live one are passed before the bucket has opened. Nobody is passed over who was not
told, or has only just been: after a takeover or an outage the first to be heard is not the first in line.
"""

from nats_identify.schedule.book import Book
from nats_identify.schedule.line import Asking, Line
from nats_identify.schedule.model import Timing

STEPS = 10
"""So many steps fit into the time before a bucket opens; doubled at each, over a thousand are told."""


def step_ns(timing: Timing) -> int:
    """How long a live shard may take to answer a nudge: ten round trips of a slow network and more."""
    return timing.nudge_lead_ns // STEPS


def may_be_passed(book: Book, asking: Asking, now_ns: int) -> bool:
    """Whether the next one goes first: this one is known to be away, or was told of its turn and has not answered."""
    if asking.silent or not asking.ask.managed:
        return True
    told_at_ns = asking.nudged_at_ns
    if told_at_ns <= asking.heard_at_ns or told_at_ns < book.attentive_since_ns:
        return False
    has_had_a_step = now_ns - max(told_at_ns, book.slow_commit_at_ns) >= step_ns(book.timing)
    return has_had_a_step or now_ns - told_at_ns >= book.timing.nudge_lead_ns


def nudge(book: Book, line: Line, opens_at_ns: int, now_ns: int) -> list[Asking]:
    """Mark and return those to be told now: the first in order, up to the width, none of whom has answered."""
    near_at_ns = max(opens_at_ns - book.timing.nudge_lead_ns, book.attentive_since_ns)
    if now_ns < near_at_ns:
        line.nudge_width, line.widen_at_ns = 1, None
        return []
    if line.widen_at_ns is not None and now_ns >= line.widen_at_ns:
        line.nudge_width, line.widen_at_ns = min(2 * line.nudge_width, len(line)), None
    told: list[Asking] = []
    unheard = 0
    is_awaited = False
    for asking in line:
        if unheard == line.nudge_width or book.budget.closed_for(asking.ask.priority) is not None:
            break
        if asking.held_back_until_ns > max(opens_at_ns, now_ns):
            break
        if asking.silent or (not asking.ask.managed and asking.retry_at_ns > opens_at_ns):
            continue  # known to be away
        has_answered = asking.heard_at_ns >= max(near_at_ns, asking.nudged_at_ns)
        if not asking.ask.managed or (has_answered and asking.is_fresh(now_ns, book.timing)):
            is_awaited = unheard > 0
            break  # this one will take the turn, a step after those before it were told
        unheard += 1
        if asking.nudged_at_ns < near_at_ns or has_answered:
            asking.nudged_at_ns = now_ns
            told.append(asking)
    # Not put off by those told meanwhile: of a long row of dead each 503 has the next one told.
    if told or is_awaited or unheard == line.nudge_width < len(line):
        line.widen_at_ns = line.widen_at_ns or now_ns + step_ns(book.timing)
    return told


def next_look_ns(book: Book, line: Line, opens_at_ns: int, now_ns: int) -> int | None:
    """When this line wants to be looked at again on account of its nudges, or None."""
    near_at_ns = opens_at_ns - book.timing.nudge_lead_ns
    return near_at_ns if now_ns < near_at_ns else line.widen_at_ns
