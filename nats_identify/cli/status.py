"""``nats-identify status``: asks one coordinator for the whole picture and lays it out; it changes nothing."""

from datetime import timedelta
from typing import Final

import nats.errors
from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nats_identify.nats_connection import NatsClient, open_connection
from nats_identify.nats_options import NatsOptions
from nats_identify.printable import printable
from nats_identify.reason import Reason
from nats_identify.wire import BucketStatus, HeldBack, Projection, Status, Subjects, WaitingRequest, why_invalid

ANSWER_WITHIN_S: Final = 2.0
SHARDS_NAMED: Final = 8
"""Waiting shards that are named for each bucket, the next first."""

NAME_MAX: Final = 64
TROUBLE_MAX: Final = 300
"""Characters of a name, and of a coordinator's trouble, that are shown."""

_WAITS_FOR: Final = {
    Reason.WINDOW: "its window",
    Reason.SESSION_LIMIT: "the next day: no session start is left but the reserve",
    Reason.CRASH_LOOP: "the end of its crash loop's delay",
    Reason.LIMITS_UNKNOWN: "Discord's limits, which are not known",
    Reason.PAUSED: "the end of a pause by an operator",
    Reason.UNKNOWN: "something that this version does not know: update it",
}


class NoAnswerError(Exception):
    """There is no NATS at that address, or no coordinator on it."""


async def fetch_status(options: NatsOptions, prefix: str) -> Status:
    """Ask, once.

    Args:
        options: where NATS is, and how to log in.
        prefix: of the subjects.

    Raises:
        NoAnswerError: NATS or the coordinator does not answer; the message says which of them.
    """
    subject = Subjects(prefix).status
    said: list[Exception] = []  # the server's refusal: nats-py reports it apart from the request that it ends

    async def listen(error: Exception) -> None:
        said[:] = [error]

    try:
        connection = await open_connection(
            options,
            NatsClient(),
            allow_reconnect=False,
            max_reconnect_attempts=1,  # the first connect is tried this often, too, whatever the line above
            reconnect_time_wait=0.1,
            connect_timeout=2,
            error_cb=listen,
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        message = f"cannot connect to NATS at {options.shown}: {_why(error, said)}"
        raise NoAnswerError(message) from error
    try:
        reply = await connection.request(subject, b"", timeout=ANSWER_WITHIN_S)
        return Status.model_validate_json(reply.data)
    except ValidationError as error:
        message = (
            f"what answers on {subject} at {options.shown} is no coordinator of this version ({why_invalid(error)}); "
            "update the older of the two, or find the other service that answers there"
        )
        raise NoAnswerError(message) from error
    except (nats.errors.Error, OSError) as error:  # TimeoutError is an OSError
        message = f"no coordinator answers on {subject} at {options.shown}: {_why(error, said)}"
        raise NoAnswerError(message) from error
    finally:
        await connection.close()


def draw_status(status: Status) -> RenderableType:
    """Lay it out: a line on the whole, and one on each bucket."""
    limit = status.session_start_limit
    prefix, leader = printable(status.prefix, NAME_MAX), printable(status.leader or "", NAME_MAX)
    leads = "no leader" if status.leader is None else f"{leader} leads, term {status.term}"
    left = "session starts: unknown" if limit.remaining is None else f"{limit.remaining} of {limit.total} starts left"
    reset = "" if limit.reset_after_ms is None else f" for {_duration(limit.reset_after_ms // 1000 * 1000)}"
    heading = f"{prefix}: {leads}\n{left}{reset}, {status.waiting} waiting{_prospects(status)}"
    if status.trouble is not None:
        heading += f"\nno figures from Discord: {printable(status.trouble, TROUBLE_MAX)}"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("bucket", "waiting", "next turn in"):
        table.add_column(column, justify="right")
    table.add_column("waits for")
    table.add_column("first in line")
    for bucket in status.buckets:
        next_turn = f"{bucket.next_release_ms / 1000:.1f} s" if bucket.next_release_ms else "now"
        waits_for = _WAITS_FOR.get(bucket.reason, bucket.reason) if bucket.reason is not None else ""
        table.add_row(f"{bucket.bucket}", f"{bucket.waiting}", next_turn, waits_for, Text(_first(bucket)))
    return Group(Text(heading), "", table)


def _prospects(status: Status) -> str:
    """A line each: those that wait, a restart of every shard, and those that are held back."""
    lines = []
    if status.waiting and status.projection is not None:
        lines.append(f"the last of them may identify {_prospect(status.projection)}")
    if status.restart is not None:
        lines.append(f"a restart of {status.restart.shards} shards now: all up {_prospect(status.restart)}")
    if status.held_back:
        first = [f"{_named(held)} for {_duration(held.opens_in_ms)}" for held in status.crash_loops[:SHARDS_NAMED]]
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
            return f"{when}; today lacks {short} session starts"


def _duration(duration_ms: int) -> timedelta:
    return timedelta(seconds=-(-duration_ms // 1000))


def _first(bucket: BucketStatus) -> str:
    named = ", ".join(_named(request) for request in bucket.first[:SHARDS_NAMED])
    others = bucket.waiting - min(len(bucket.first), SHARDS_NAMED)
    return f"{named} and {others} more" if others else named


def _named(request: WaitingRequest | HeldBack) -> str:
    """The shard and its client, such as its pod. Others choose that name."""
    client = printable(request.client or "", NAME_MAX)
    return f"shard {request.shard_id} ({client})" if client else f"shard {request.shard_id}"


def _why(error: Exception, said: list[Exception]) -> str:
    """Prefer the server's own words, where there are any, to the error that ended the request."""
    why = said[-1] if said else error
    return printable(why) or type(why).__name__
