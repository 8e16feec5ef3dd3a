"""How long until shards are all up, and whether the day suffices: arithmetic over the state. It changes nothing."""

from collections.abc import Mapping

from nats_identify.schedule.model import DAY
from nats_identify.schedule.pause import Paused
from nats_identify.schedule.state import ScheduleState
from nats_identify.wire import Projection, ms_up


def of_waiting(state: ScheduleState, now_ns: int) -> Projection:
    """Those that wait: when the last of them may identify."""
    lines = state.requests.queues
    deferred_until_ns = max((line.last.deferred_until_ns for line in lines.values()), default=0)
    lowest = min((line.last.message.priority for line in lines.values()), default=0)
    shares = {bucket: len(line) for bucket, line in lines.items()}
    return _project(state, shares, deferred_until_ns - now_ns, now_ns, state.pause_of(lowest) if lines else None)


def of_restart(state: ScheduleState, shards: int, now_ns: int) -> Projection:
    """A start of this many shards, numbered from 0, that all ask now; requests that wait already are part of them."""
    buckets = state.max_concurrency or 1
    shares = {bucket: (shards - bucket + buckets - 1) // buckets for bucket in range(min(shards, buckets))}
    for bucket, line in state.requests.queues.items():
        shares[bucket] = max(shares.get(bucket, 0), len(line))
    return _project(state, shares, 0, now_ns, state.pause_of(0))


def _project(
    state: ScheduleState, shares: Mapping[int, int], least_ns: int, now_ns: int, paused: Paused | None
) -> Projection:
    """Each bucket grants its share one hold apart; what today has no session start for waits for the days to come.

    A pause is counted in; with one that does not end by itself it is not known when they are up.
    """
    budget, hold_ns, shards = state.budget, state.timing.confirmed_hold_ns, sum(shares.values())
    if budget.known is None or budget.total is None or state.max_concurrency is None:
        return Projection(shards=shards)
    short = max(0, shards - max(0, budget.known - budget.reserve))
    pause_ns = 0 if paused is None else max(0, (paused.ends_ns or now_ns) - now_ns)
    opens_in_ns = {bucket: max(pause_ns, state.opens_at_ns(bucket) - now_ns) for bucket in shares}
    turns_ns = max((opens_in_ns[bucket] + (share - 1) * hold_ns for bucket, share in shares.items()), default=0)
    up_in_ns: int | None = max(turns_ns, least_ns, 0)
    a_day = budget.total - budget.reserve
    if short and (budget.resets_at_ns is None or a_day < 1):
        up_in_ns = None
    elif short:
        resets_in_ns = max(0, (budget.resets_at_ns or 0) - now_ns)
        days, last = divmod(short - 1, a_day)
        up_in_ns = max(up_in_ns or 0, resets_in_ns + days * DAY + last // len(shares) * hold_ns)
    if paused is not None and paused.ends_ns is None:
        up_in_ns = None
    return Projection(
        shards=shards,
        all_up_in_ms=None if up_in_ns is None else ms_up(up_in_ns),
        session_starts_short=short,
        budget_suffices=not short,
    )
