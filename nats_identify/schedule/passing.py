"""What time alone changes: holds run out, askings are given up, days end. It grants nothing, and reads no clock."""

from nats_identify.schedule import answers, model, plain
from nats_identify.schedule.alarms import LOOK_MOST_NS, Look
from nats_identify.schedule.book import Book
from nats_identify.schedule.day import Day
from nats_identify.schedule.model import Happened, Reply, ScheduleAction
from nats_identify.schedule.replies import facts_of


def pass_time(book: Book, day: Day, now_ns: int) -> list[ScheduleAction]:
    """Do all that has fallen due; return what to send."""
    actions: list[ScheduleAction] = []
    while (alarm := book.alarms.pop_due(now_ns)) is not None:
        match alarm:
            case (_, Look.GRANT, str(grant_id)):
                _look_at_grant(book, grant_id, now_ns)
            case (_, Look.ASKING, str(request_id)):
                actions += _look_at_asking(book, request_id, now_ns)
            case (_, Look.BUCKET, int(bucket)):
                book.due.add(bucket)
            case (_, Look.EVERYTHING, _):
                book.all_due()
                if book.quiet_until_ns > now_ns:  # we were away once more meanwhile
                    book.alarms.at(book.quiet_until_ns, Look.EVERYTHING)
            case _:
                actions += day.look(now_ns)
    return actions


def _look_at_grant(book: Book, grant_id: str, now_ns: int) -> None:
    grant = book.holds.get(grant_id)
    if grant is None:
        return
    if not grant.committed:  # its write is still under way: the hold begins at its end
        book.alarms.at(now_ns + model.SECOND, Look.GRANT, grant_id)
    elif grant.opens_at_ns > now_ns:
        book.alarms.at(grant.opens_at_ns, Look.GRANT, grant_id)
    else:
        answers.let_over(book, grant)


def _look_at_asking(book: Book, request_id: str, now_ns: int) -> list[ScheduleAction]:
    asking = book.room.get(request_id)
    if asking is None:
        return []
    book.hold_back(asking, asking.held_back_until_ns, now_ns)
    if asking.gone_at_ns > now_ns or asking.grant_id is not None:  # a granted one ends with its hold
        look_at_ns = min(max(asking.gone_at_ns, now_ns + model.SECOND), now_ns + LOOK_MOST_NS)
        if asking.retry_at_ns > now_ns:
            look_at_ns = min(look_at_ns, asking.retry_at_ns)
        elif asking.retry_at_ns:  # a plain one that could not be delivered is tried again
            book.due.add(asking.bucket)
        book.alarms.at(look_at_ns, Look.ASKING, request_id)
        return []
    book.room.forget(asking)
    book.due.add(asking.bucket)
    expired = Happened("expired", facts_of(asking))
    if asking.timeout_at_ns is None or now_ns < asking.timeout_at_ns:
        return [expired]
    message = "not granted within timeout_ms; ask again"
    refused = Reply(asking.ask.reply_to, model.Refused(request_id, model.Code.TIMEOUT, message))
    return [*plain.final(book, asking.ask, [refused]), expired]
