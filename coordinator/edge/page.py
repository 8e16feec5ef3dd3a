"""What the page shows, made from a replica's state and the recent events. It changes nothing; its size is bounded.

An id of a request or a grant is a capability: a pod that knows another's can withdraw its request, or answer its grant.
The page has no password, so it gets other names for them.
"""

import asyncio
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from heapq import nsmallest
from itertools import islice
from typing import Any, Final

from coordinator.core.replica import Replica
from coordinator.edge import status
from coordinator.edge.busiest import Busiest
from coordinator.edge.query import Selection, pause_status
from coordinator.edge.recent import Recent, RecordedEvent
from coordinator.edge.status import FromDiscord
from nats_identify.clock import Clock
from nats_identify.operator_wire import StatusQuery
from nats_identify.printable import printable
from nats_identify.schedule import replies
from nats_identify.schedule.bucket_queue import QueuedRequest
from nats_identify.schedule.grants import AWAITING, GlobalHold, Hold, HoldState
from nats_identify.schedule.model import MS
from nats_identify.schedule.replies import LinesAhead
from nats_identify.schedule.state import ScheduleState
from nats_identify.wire import ms_up

Json = dict[str, Any]

ALIAS_BYTES: Final = 6
"""Two ids have the same alias once in 2**48."""


class Aliases:
    """Names of requests and grants for the page alone: the same id has the same alias, and none leads back to its id.

    Args:
        key: random for each process.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, name: str) -> str:
        """Return the alias of an id."""
        return blake2b(name.encode(), digest_size=ALIAS_BYTES, key=self._key).hexdigest()

    def hide(self, fields: Json) -> Json:
        """Return these fields of JSON with an alias in the place of each id, and every text printable."""
        return {key: self.of(value) if key in _IDS and value else self._shown(value) for key, value in fields.items()}

    def _shown(self, value: Any) -> Any:  # noqa: ANN401  # whatever JSON can carry
        if isinstance(value, dict):
            return self.hide(value)
        if isinstance(value, list):
            return [self._shown(each) for each in value]
        return printable(value, TEXT_MAX) if isinstance(value, str) else value


_IDS: Final = frozenset({"request_id", "grant_id"})

BUCKETS_SHOWN: Final = 32
"""Buckets that have a lane of their own: those with the most requests. The others are summed up."""

FIRST_SHOWN: Final = 8
"""Requests of one bucket that are shown at most, and `FIRST_IN_ALL` of all of them."""

FIRST_IN_ALL: Final = 160
HELD_BACK_SHOWN: Final = 20
NAME_MAX: Final = 128
TEXT_MAX: Final = 300


def picture(
    replica: Replica,
    recent: Recent,
    busiest: Busiest,
    now_ns: int,
    now_ms: int,
    *,
    limits: FromDiscord,
    version: str,
    trouble: str | None,
    aliases: Aliases,
) -> Json:
    """Return everything that the page shows but the events.

    Args:
        replica: of this process.
        recent: of this process.
        busiest: of this process.
        now_ns: the replica's time.
        now_ms: Unix time in milliseconds, for people.
        limits: what this process has from Discord.
        version: of this program.
        trouble: why this process could not lead now; None: it could.
        aliases: of this process.
    """
    state, settings = replica.schedule.state, replica.settings
    pause = pause_status(state.paused, now_ns)
    known = status.info(replica, now_ns, limits=limits, version=version)
    queues, timing = state.requests.queues, state.timing
    shown = _shown(state)
    most = min(FIRST_SHOWN, FIRST_IN_ALL // max(1, len(shown)))
    return {
        **known.model_dump(mode="json"),
        "at_ms": now_ms,
        "name": settings.name,
        "prefix": settings.prefix,
        "role": replica.role.value,
        "is_leading": replica.is_leading(now_ns),
        "not_ready": trouble,
        "margin_ms": timing.margin_ns // MS,
        "use_within_ms": timing.use_within_ns // MS,
        "reserve": state.budget.reserve,
        "waiting": sum(len(queue) for queue in queues.values()),
        "held_back": sum(queue.deferred_count for queue in queues.values()),
        "crash_loops": _crash_loops(state, now_ns),
        "hold_all_ms": _hold_all_ms(state, now_ns),
        "buckets": [aliases.hide(bucket) for bucket in _buckets(state, shown, most, now_ns)],
        "other_buckets": (state.max_concurrency or 0) - len(shown),
        "other_waiting": sum(len(queue) for bucket, queue in queues.items() if bucket not in shown),
        "paused": None if pause is None else aliases.hide(pause.model_dump(mode="json")),
        "busiest": _busiest(busiest, now_ns),
        "minutes": [{"at_ms": at_ms, "counts": counts} for at_ms, counts in recent.minutes],
        "leaders": [change._asdict() for change in recent.leaders],
    }


def events(aliases: Aliases, recorded: Iterable[RecordedEvent]) -> list[Json]:
    """Return these as the page reads them; text from outside is made printable."""
    return [
        {"number": number, "at_ms": at_ms, "name": name, "fields": aliases.hide(dict(fields))}
        for number, at_ms, name, fields in recorded
    ]


async def find(replica: Replica, clock: Clock, aliases: Aliases, selected: StatusQuery) -> Json:
    """Return a page of the requests that a query selects, and of its live grants, as a status has them.

    Args:
        replica: its queue is looked through in steps, between which the event loop turns.
        clock: the replica's time.
        aliases: of this process.
        selected: names a shard or a client.
    """
    selection = Selection(replica.schedule.state, selected)
    for _ in selection.steps():
        await asyncio.sleep(0)
    now_ns = clock()
    return {
        "requests": [aliases.hide(request.model_dump(mode="json")) for request in selection.requests(now_ns)],
        "requests_total": selection.total,
        "grants": [aliases.hide(grant.model_dump(mode="json")) for grant in selection.grants(now_ns)],
    }


def _shown(state: ScheduleState) -> Sequence[int]:
    """The buckets with a lane: all of few, of many those with the most requests, in the order of their numbers."""
    count, queues = state.max_concurrency or 0, state.requests.queues
    if count <= BUCKETS_SHOWN:
        return range(count)
    fullest = nsmallest(BUCKETS_SHOWN, queues, key=lambda bucket: (-len(queues[bucket]), bucket))
    others = (bucket for bucket in range(count) if bucket not in queues)
    return sorted([*fullest, *islice(others, BUCKETS_SHOWN - len(fullest))])


def _buckets(state: ScheduleState, shown: Sequence[int], most: int, now_ns: int) -> list[Json]:
    holds: dict[int, list[Json]] = {bucket: [] for bucket in shown}
    for hold in state.holds:
        for bucket in state.holds.buckets_of(hold):
            if bucket in holds:
                holds[bucket].append(_grant(hold, now_ns))
    lines = LinesAhead(state)
    return [_bucket(state, bucket, holds[bucket], lines, most, now_ns) for bucket in shown]


def _bucket(state: ScheduleState, bucket: int, grants: list[Json], lines: LinesAhead, most: int, now_ns: int) -> Json:
    queue = state.requests.queues.get(bucket)
    last = None if queue is None else replies.queued(state, queue.last, now_ns, lines).eta_ns
    first = [] if queue is None else [_waiting(state, request, lines, now_ns) for request in queue.part(0, most)]
    return {
        "bucket": bucket,
        "waiting": 0 if queue is None else len(queue),
        "opens_in_ms": ms_up(max(0, state.opens_at_ns(bucket) - now_ns)),
        "last_eta_ms": None if last is None else ms_up(last),
        "first": first,
        "grants": grants,
    }


def _waiting(state: ScheduleState, request: QueuedRequest, lines: LinesAhead, now_ns: int) -> Json:
    """One request; its place, its ETA and its reason are those of its shard's own reply."""
    message, reply = request.message, replies.queued(state, request, now_ns, lines)
    return {
        "request_id": message.request_id,
        "shard_id": message.shard_id,
        "bucket": request.bucket,
        "client": _name(message.client),
        "priority": message.priority,
        "managed": message.managed,
        "position": reply.position,
        "eta_ms": None if reply.eta_ns is None else ms_up(reply.eta_ns),
        "reason": reply.reason.value,
        "waited_ms": max(0, now_ns - request.asked_at_ns) // MS,
        "renewed_ms_ago": max(0, now_ns - request.renewed_at_ns) // MS,
        "is_unresponsive": request.is_unresponsive,
    }


def _grant(hold: Hold, now_ns: int) -> Json:
    grant = hold.grant
    return {
        "grant_id": grant.grant_id,
        "request_id": grant.request_id,
        "shard_id": grant.shard_id,
        "bucket": grant.bucket,
        "client": _name(hold.client),
        "state": "unconfirmed" if hold.state in AWAITING or hold.state is HoldState.UNCOMMITTED else hold.state.value,
        "opens_in_ms": ms_up(max(0, hold.opens_at_ns - now_ns)),
        "granted_ms_ago": _ms_ago(hold.granted_at_ns or hold.known_at_ns or None, now_ns),
        "identified_ms_ago": _ms_ago(hold.identified_at_ns, now_ns),
    }


def _crash_loops(state: ScheduleState, now_ns: int) -> list[Json]:
    """The requests that the guard defers, the soonest first; they are the last of their queues."""
    deferred = (
        request
        for queue in state.requests.queues.values()
        if queue.deferred_count
        for request in queue.part(len(queue) - queue.deferred_count, len(queue))
    )
    soonest = nsmallest(HELD_BACK_SHOWN, deferred, key=lambda request: request.deferred_until_ns)
    return [
        {
            "shard_id": request.message.shard_id,
            "client": _name(request.message.client),
            "opens_in_ms": ms_up(max(0, request.deferred_until_ns - now_ns)),
        }
        for request in soonest
    ]


def _hold_all_ms(state: ScheduleState, now_ns: int) -> int | None:
    """For how long every bucket is held since the past is not known here; None: it is not."""
    ends_at_ns = [hold.opens_at_ns for hold in state.holds.all() if isinstance(hold, GlobalHold)]
    left_ns = max(ends_at_ns, default=0) - now_ns
    return ms_up(left_ns) if left_ns > 0 else None


def _busiest(busiest: Busiest, now_ns: int) -> list[Json]:
    shown, over_ns = busiest.shown(now_ns)
    return [{**one._asdict(), "client": _name(one.client), "over_ms": over_ns // MS} for one in shown]


def _ms_ago(at_ns: int | None, now_ns: int) -> int | None:
    return None if at_ns is None else max(0, now_ns - at_ns) // MS


def _name(client: str) -> str | None:
    return printable(client, NAME_MAX) if client else None
