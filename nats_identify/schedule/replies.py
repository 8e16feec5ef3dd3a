"""The replies to requesters and the events, made from the state. Nothing is changed here."""

from bisect import bisect_left
from itertools import accumulate

from nats_identify.schedule import model
from nats_identify.schedule.bucket_queue import RENEW_MAX_NS, QueuedRequest
from nats_identify.schedule.grants import Hold
from nats_identify.schedule.model import MS, Code, Fields, Reason, Refused, RequestReceived
from nats_identify.schedule.state import ScheduleState


def granted(state: ScheduleState, hold: Hold, now_ns: int) -> model.Granted:
    """The grant itself."""
    grant = hold.grant
    return model.Granted(
        shard_id=grant.shard_id,
        bucket=grant.bucket,
        request_id=grant.request_id,
        grant_id=grant.grant_id,
        renewal=grant.renewal,
        use_within_ns=grant.use_within_ns,
        waited_ns=now_ns - hold.asked_at_ns,
        remaining=state.budget.left,
        max_concurrency=grant.max_concurrency,
    )


class LinesAhead:
    """How many requests of all queues are before a position: counted once, for the replies to many requests."""

    def __init__(self, state: ScheduleState) -> None:
        self._lengths = sorted(len(queue) for queue in state.requests.queues.values())
        self._sums = [0, *accumulate(self._lengths)]

    def before(self, position: int) -> int:
        """The requests before this position of each queue, all of a shorter one."""
        shorter = bisect_left(self._lengths, position)
        return self._sums[shorter] + (len(self._lengths) - shorter) * (position - 1)


def queued(state: ScheduleState, request: QueuedRequest, now_ns: int, lines: LinesAhead | None = None) -> model.Queued:
    """The position of a request: the ETA counts a confirmed hold for each request ahead, and the days it must wait.

    A pause is counted in, where it is known when it ends.
    """
    message, paused = request.message, state.pause_of(request.message.priority)
    position = state.requests.queues[request.bucket].position(request)
    opens_in_ns = max(0, state.opens_at_ns(request.bucket) - now_ns)
    if paused is not None:
        opens_in_ns = max(opens_in_ns, (paused.ends_ns or now_ns) - now_ns)
    turn_in_ns = opens_in_ns + (position - 1) * state.timing.confirmed_hold_ns
    eta_ns, reason = _day_of(state, position, turn_in_ns, message.priority, now_ns, lines)
    held_back_ns = request.deferred_until_ns - now_ns
    if held_back_ns > 0 and reason is not Reason.LIMITS_UNKNOWN:
        eta_ns, reason = max(eta_ns or 0, held_back_ns), Reason.CRASH_LOOP
    if paused is not None:  # what else it waits for may outlast the pause, and is said first
        eta_ns = None if paused.ends_ns is None else eta_ns
        reason = Reason.PAUSED if reason is Reason.WINDOW else reason
    # While session starts are left, the requests ahead may not use them: near the head a request keeps its pace.
    is_open = held_back_ns <= 0 and state.closed_for(message.priority) is None
    wait_ns = turn_in_ns if is_open or eta_ns is None else eta_ns
    return model.Queued(
        shard_id=message.shard_id,
        bucket=request.bucket,
        request_id=message.request_id,
        position=position,
        eta_ns=eta_ns,
        renew_in_ns=min(max(wait_ns // 2, state.timing.nudge_lead_ns), RENEW_MAX_NS),
        reason=reason,
        max_concurrency=state.max_concurrency,
    )


def _day_of(
    state: ScheduleState, position: int, turn_in_ns: int, priority: int, now_ns: int, lines: LinesAhead | None
) -> tuple[int | None, Reason]:
    """When a turn in ``turn_in_ns`` comes, given the rest of the day, and what it waits for."""
    budget, queues = state.budget, state.requests.queues
    if budget.known is None or budget.total is None:
        return None, Reason.LIMITS_UNKNOWN
    kept = budget.reserved_from(priority)
    left = max(0, budget.known - kept)
    if (position - 1) * len(queues) < left:  # nearly always, and cheap
        return turn_in_ns, Reason.WINDOW
    if lines is not None:
        ahead = lines.before(position)
    else:  # the first of each queue has none before it
        ahead = sum(min(len(queue), position - 1) for queue in queues.values()) if position > 1 else 0
    if ahead < left:
        return turn_in_ns, Reason.WINDOW
    if budget.resets_at_ns is None:
        return None, Reason.SESSION_LIMIT
    days, first = divmod(ahead - left, max(1, budget.total - kept))
    resets_in_ns = max(0, budget.resets_at_ns - now_ns) + days * model.DAY
    return max(turn_in_ns, resets_in_ns + first // len(queues) * state.timing.confirmed_hold_ns), Reason.SESSION_LIMIT


def wrong_bucket(state: ScheduleState, message: RequestReceived) -> Refused | None:
    """Refuse a bucket that fits neither today's max_concurrency nor the claimed one."""
    today, claimed = state.max_concurrency, message.max_concurrency
    if today is None or message.bucket == message.shard_id % today:
        return None
    if claimed is not None and message.bucket == message.shard_id % claimed:
        return None
    right = message.shard_id % today
    text = f"shard {message.shard_id} belongs to bucket {right} (max_concurrency {today}), not {message.bucket}"
    return Refused(message.request_id, Code.WRONG_BUCKET, text, max_concurrency=today)


def overloaded(request_id: str, text: str) -> Refused:
    """Refuse a request that cannot be queued."""
    return Refused(request_id, Code.OVERLOADED, text, retry_after_ns=5 * model.SECOND)


def ended(message: RequestReceived) -> Refused:
    """Refuse an id whose request was identified or withdrawn: it never gets a second turn."""
    text = f"request {message.request_id} has had its turn or was withdrawn; ask again with a new request_id"
    return Refused(message.request_id, Code.ENDED, text)


def exhausted(state: ScheduleState, request_id: str, now_ns: int) -> Refused:
    """Refuse a plain requester until the day ends."""
    budget = state.budget
    resets_in_ns = None if budget.resets_at_ns is None else max(0, budget.resets_at_ns - now_ns)
    text = f"{budget.left} of {budget.total} session starts are left today"
    if budget.reserve:
        text += f"; the last {budget.reserve} are kept for priority 1 and above"
    return Refused(request_id, Code.SESSION_LIMIT, text, retry_after_ns=resets_in_ns)


def refuse(message: RequestReceived, refusal: Refused, *, is_news: bool = True) -> list[model.ScheduleAction]:
    """Reply with a refusal, and publish the event where ``is_news``."""
    actions: list[model.ScheduleAction] = [model.Reply(message.reply_to, refusal)]
    if is_news:
        actions.append(model.Event("refused", fields_of(message, code=refusal.code)))
    return actions


def fields_of(record: Hold | QueuedRequest | RequestReceived, **more: str | int | None) -> Fields:
    """The ids of a grant or of a request, for an event; and whose it is, and how long it waited, as far as is known."""
    if isinstance(record, Hold):
        grant = record.grant
        fields: Fields = {
            "shard_id": grant.shard_id,
            "bucket": grant.bucket,
            "request_id": grant.request_id,
            "grant_id": grant.grant_id,
        }
        if record.client:
            fields["client"] = record.client
        if record.asked_at_ns:
            fields["waited_ms"] = waited_ms(record.asked_at_ns, record.granted_at_ns or record.known_at_ns)
        return {**fields, **more}
    message = record.message if isinstance(record, QueuedRequest) else record
    bucket = record.bucket
    named: Fields = {"client": message.client} if message.client else {}
    return {"shard_id": message.shard_id, "bucket": bucket, "request_id": message.request_id, **named, **more}


def waited_ms(asked_at_ns: int, until_ns: int) -> int:
    """How long a request has waited, for people: rounded down, never below zero."""
    return max(0, until_ns - asked_at_ns) // MS


def ms(duration_ns: int | None) -> int | None:
    """Milliseconds for people, rounded down."""
    return None if duration_ns is None else duration_ns // MS


def limits(state: ScheduleState, now_ns: int) -> Fields:
    """The day's limit as it stands."""
    budget = state.budget
    resets_in_ns = None if budget.resets_at_ns is None else max(0, budget.resets_at_ns - now_ns)
    return {
        "max_concurrency": state.max_concurrency,
        "total": budget.total,
        "remaining": budget.left,
        "reserve": budget.reserve,
        "reset_in_ms": ms(resets_in_ns),
    }
