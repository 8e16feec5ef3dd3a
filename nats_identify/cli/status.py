"""``nats-identify status``: lays out what a coordinator answers, for people. It asks nothing and changes nothing."""

from datetime import timedelta
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nats_identify.cli.when import show_ms
from nats_identify.operator_wire import FullStatus, GrantStatus, PauseStatus, RequestAhead, RequestStatus
from nats_identify.printable import printable
from nats_identify.reason import Reason
from nats_identify.wire import BucketStatus, HeldBack, Projection, Status, WaitingRequest

SHARDS_NAMED: Final = 8
"""Waiting shards that are named for each bucket, the next first."""

CLIENTS_NAMED: Final = 5
"""Clients that are named among the busiest."""

NAME_MAX: Final = 64
TROUBLE_MAX: Final = 300
"""Characters of a name, and of a coordinator's trouble, that are shown."""

WAITS_FOR: Final = {
    Reason.WINDOW: "its window",
    Reason.SESSION_LIMIT: "the next day: no session start is left but the reserve",
    Reason.CRASH_LOOP: "the end of its crash loop's delay",
    Reason.LIMITS_UNKNOWN: "Discord's limits, which are not known",
    Reason.PAUSED: "the end of a pause by an operator",
    Reason.UNKNOWN: "something that this version does not know: update it",
}


def draw_status(status: Status) -> RenderableType:
    """Lay it out: a line on the whole, and one on each bucket."""
    limit = status.session_start_limit
    prefix, leader = printable(status.prefix, NAME_MAX), printable(status.leader or "", NAME_MAX)
    leads = "no leader" if status.leader is None else f"{leader} leads, term {status.term}"
    left = "session starts: unknown" if limit.remaining is None else f"{limit.remaining} of {limit.total} starts left"
    reset = "" if limit.reset_after_ms is None else f" for {_duration(limit.reset_after_ms // 1000 * 1000)}"
    kept = f" ({status.reserve} reserved)" if status.reserve else ""
    heading = f"{prefix}: {leads}\n{left}{kept}{reset}, {status.waiting} waiting{_prospects(status)}"
    if status.trouble is not None:
        heading += f"\nno figures from Discord: {printable(status.trouble, TROUBLE_MAX)}"
    if isinstance(status, FullStatus):
        heading += "".join(f"\n{line}" for line in _operators_lines(status))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("bucket", "waiting", "next turn in"):
        table.add_column(column, justify="right")
    table.add_column("waits for")
    table.add_column("first in line")
    for bucket in status.buckets:
        next_ms = next_turn_ms(status, bucket)
        at_once = "now" if bucket.waiting else "open"
        next_turn = "unknown" if next_ms is None else show_ms(next_ms) if next_ms else at_once
        waits_for = WAITS_FOR.get(bucket.reason, bucket.reason) if bucket.reason is not None else ""
        table.add_row(f"{bucket.bucket}", f"{bucket.waiting}", next_turn, waits_for, Text(_first(bucket)))
    return Group(Text(heading), "", table)


def next_turn_ms(status: Status, bucket: BucketStatus) -> int | None:
    """When the first of a bucket may be granted, in ms: its window and what it waits for are over; None: unknown.

    The bucket itself may be open long before that, as under a pause.
    """
    over_ms: int | None = 0
    match bucket.reason:
        case Reason.PAUSED:
            pause = status.paused if isinstance(status, FullStatus) else None
            over_ms = None if pause is None else pause.left_ms
        case Reason.SESSION_LIMIT:
            over_ms = status.session_start_limit.reset_after_ms
        case Reason.CRASH_LOOP:
            first = {request.request_id for request in bucket.first[:1]}
            over_ms = next((held.opens_in_ms for held in status.crash_loops if held.request_id in first), None)
        case Reason.LIMITS_UNKNOWN | Reason.UNKNOWN:
            over_ms = None
    return None if over_ms is None else max(bucket.next_release_ms, over_ms)


def _operators_lines(status: FullStatus) -> list[str]:
    """A line each: the pause in force, and the clients that send most."""
    lines = [describe_pause(status.paused)] if status.paused is not None else []
    if status.busiest:
        over = show_ms(status.busiest[0].over_ms)
        named = [
            f"{printable(client.client, NAME_MAX) or 'without a name'} {client.messages} ({client.new_requests} new)"
            for client in status.busiest[:CLIENTS_NAMED]
        ]
        lines.append(f"busiest clients, messages in {over}: {', '.join(named)}")
    return lines


def describe_pause(pause: PauseStatus) -> str:
    """The pause in one line: which requests, by which operator, why, and until when."""
    which = "every request" if pause.below_priority is None else f"every request below priority {pause.below_priority}"
    by = f" by {printable(pause.by, NAME_MAX)}" if pause.by else ""
    why = f"; {printable(pause.why, TROUBLE_MAX)}" if pause.why else ""
    end = "until resume" if pause.left_ms is None else f"for {show_ms(pause.left_ms)} more"
    return f"PAUSED{by}: {which} waits {end}{why}"


def _prospects(status: Status) -> str:
    """A line each: those that wait, a restart of every shard, and those that are held back."""
    lines = []
    if status.waiting and status.projection is not None:
        lines.append(f"the last of them may identify {_prospect(status.projection)}")
    if status.restart is not None:
        lines.append(f"a restart of {status.restart.shards} shards now: all up {_prospect(status.restart)}")
    if status.held_back:
        first = [f"{named_shard(held)} for {_duration(held.opens_in_ms)}" for held in status.crash_loops[:SHARDS_NAMED]]
        lines.append(f"{status.held_back} held back, crash-looping: {', '.join(first)}")
    return "".join(f"\n{line}" for line in lines)


def _prospect(projection: Projection) -> str:
    when = "at an unknown time" if projection.all_up_in_ms is None else f"in {_duration(projection.all_up_in_ms)}"
    match projection.session_starts_short:
        case None:
            return when
        case 0:
            return f"{when}; today's session starts suffice"
        case short:
            return f"{when}; today lacks {short} session {'start' if short == 1 else 'starts'}"


def _first(bucket: BucketStatus) -> str:
    named = ", ".join(named_shard(request) for request in bucket.first[:SHARDS_NAMED])
    others = bucket.waiting - min(len(bucket.first), SHARDS_NAMED)
    return f"{named} and {others} more" if others > 0 else named


def named_shard(request: WaitingRequest | HeldBack | RequestStatus | RequestAhead | GrantStatus) -> str:
    """The shard and its client, such as its pod. Others choose that name."""
    client = printable(request.client or "", NAME_MAX)
    return f"shard {request.shard_id} ({client})" if client else f"shard {request.shard_id}"


def _duration(duration_ms: int) -> timedelta:
    return timedelta(seconds=-(-duration_ms // 1000))
