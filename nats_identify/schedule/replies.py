"""What is said to a requester and to whoever watches, made from the book. It changes nothing."""

from nats_identify.schedule import model
from nats_identify.schedule.book import Book
from nats_identify.schedule.line import RENEW_MOST_NS, Asking
from nats_identify.schedule.model import MS, Ask, Code, Facts, Grant, Reason, Refused


def granted(book: Book, grant: Grant, now_ns: int) -> model.Granted:
    """The turn itself."""
    return model.Granted(
        shard_id=grant.shard_id,
        bucket=grant.bucket,
        request_id=grant.request_id,
        grant_id=grant.grant_id,
        renewal=grant.renewal,
        use_within_ns=grant.use_within_ns,
        waited_ns=now_ns - grant.asked_at_ns,
        remaining=book.budget.left,
        max_concurrency=grant.max_concurrency,
    )


def queued(book: Book, asking: Asking, now_ns: int) -> model.Queued:
    """Where an asking stands: the ETA counts one confirmed hold for each asking ahead, and the days it must wait."""
    ask = asking.ask
    position = book.room.lines[asking.bucket].position(asking)
    opens_in_ns = max(0, book.opens_at_ns(asking.bucket) - now_ns)
    turn_in_ns = opens_in_ns + (position - 1) * book.timing.confirmed_hold_ns
    eta_ns, reason = _day_of(book, position, turn_in_ns, ask.priority, now_ns)
    held_back_ns = asking.held_back_until_ns - now_ns
    if held_back_ns > 0 and reason is not Reason.LIMITS_UNKNOWN:
        eta_ns, reason = max(eta_ns or 0, held_back_ns), Reason.CRASH_LOOP
    # While anything is left of the day those ahead may not take it: near the head a shard keeps its pace.
    is_open = held_back_ns <= 0 and book.budget.closed_for(ask.priority) is None
    wait_ns = turn_in_ns if is_open or eta_ns is None else eta_ns
    return model.Queued(
        shard_id=ask.shard_id,
        bucket=asking.bucket,
        request_id=ask.request_id,
        position=position,
        eta_ns=eta_ns,
        renew_in_ns=min(max(wait_ns // 2, book.timing.nudge_lead_ns), RENEW_MOST_NS),
        reason=reason,
        max_concurrency=book.max_concurrency,
    )


def _day_of(book: Book, position: int, turn_in_ns: int, priority: int, now_ns: int) -> tuple[int | None, Reason]:
    """When the turn comes that is so far off if the day allows it, and what it waits for."""
    budget, lines = book.budget, book.room.lines
    if budget.known is None or budget.total is None:
        return None, Reason.LIMITS_UNKNOWN
    kept = budget.kept_from(priority)
    left = max(0, budget.known - kept)
    if (position - 1) * len(lines) < left:  # nearly always, and cheap
        return turn_in_ns, Reason.WINDOW
    ahead = sum(min(len(line), position - 1) for line in lines.values())
    if ahead < left:
        return turn_in_ns, Reason.WINDOW
    if budget.resets_at_ns is None:
        return None, Reason.SESSION_LIMIT
    days, first = divmod(ahead - left, max(1, budget.total - kept))
    resets_in_ns = max(0, budget.resets_at_ns - now_ns) + days * model.DAY
    return max(turn_in_ns, resets_in_ns + first // len(lines) * book.timing.confirmed_hold_ns), Reason.SESSION_LIMIT


def wrong_bucket(book: Book, ask: Ask) -> Refused | None:
    """Refuse a bucket that neither today's max_concurrency nor the one claimed explains."""
    today, claimed = book.max_concurrency, ask.max_concurrency
    if today is None or ask.bucket == ask.shard_id % today:
        return None
    if claimed is not None and ask.bucket == ask.shard_id % claimed:
        return None
    right = ask.shard_id % today
    message = f"shard {ask.shard_id} belongs to bucket {right} (max_concurrency {today}), not {ask.bucket}"
    return Refused(ask.request_id, Code.WRONG_BUCKET, message, max_concurrency=today)


def overloaded(request_id: str, message: str) -> Refused:
    """Refuse what cannot be kept."""
    return Refused(request_id, Code.OVERLOADED, message, retry_after_ns=5 * model.SECOND)


def ended(ask: Ask) -> Refused:
    """Refuse an id whose request was identified or withdrawn: it never gets a second turn."""
    message = f"request {ask.request_id} has had its turn or was withdrawn; ask again with a new request_id"
    return Refused(ask.request_id, Code.ENDED, message)


def exhausted(book: Book, request_id: str, now_ns: int) -> Refused:
    """Refuse a plain requester until the day ends."""
    budget = book.budget
    resets_in_ns = None if budget.resets_at_ns is None else max(0, budget.resets_at_ns - now_ns)
    kept = f"{budget.left} of {budget.total} session starts are left today; the last {budget.reserve}"
    message = f"{kept} are kept for priority 1 and above"
    return Refused(request_id, Code.SESSION_LIMIT, message, retry_after_ns=resets_in_ns)


def refuse(ask: Ask, refusal: Refused, *, is_news: bool = True) -> list[model.ScheduleAction]:
    """Say so to the requester, and where ``is_news`` to whoever watches."""
    actions: list[model.ScheduleAction] = [model.Reply(ask.reply_to, refusal)]
    if is_news:
        actions.append(model.Happened("refused", facts_of(ask, code=refusal.code)))
    return actions


def facts_of(record: Grant | Asking | Ask, **more: str | int | None) -> Facts:
    """The ids of a grant or of an asking, for an event."""
    if isinstance(record, Grant):
        return {
            "shard_id": record.shard_id,
            "bucket": record.bucket,
            "request_id": record.request_id,
            "grant_id": record.grant_id,
            **more,
        }
    ask = record.ask if isinstance(record, Asking) else record
    bucket = record.bucket
    named: Facts = {"client": ask.client} if ask.client else {}
    return {"shard_id": ask.shard_id, "bucket": bucket, "request_id": ask.request_id, **named, **more}


def ms(duration_ns: int | None) -> int | None:
    """Milliseconds for people, rounded down."""
    return None if duration_ns is None else duration_ns // MS


def limits(book: Book, now_ns: int) -> Facts:
    """The day's limit as it stands."""
    budget = book.budget
    resets_in_ns = None if budget.resets_at_ns is None else max(0, budget.resets_at_ns - now_ns)
    return {
        "max_concurrency": book.max_concurrency,
        "total": budget.total,
        "remaining": budget.left,
        "reserve": budget.reserve,
        "reset_in_ms": ms(resets_in_ns),
    }
