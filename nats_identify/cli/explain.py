"""Explains in plain sentences why the requests that a status selects wait, and when their turn is. It asks nothing."""

from datetime import datetime, timedelta
from typing import Final

from nats_identify.cli.status import NAME_MAX, TROUBLE_MAX, describe_pause, named_shard
from nats_identify.cli.when import show_ms
from nats_identify.operator_wire import FullStatus, GrantStatus, RequestStatus, StatusQuery
from nats_identify.printable import printable
from nats_identify.reason import Reason

AHEAD_NAMED: Final = 5
"""Requests that are named before the one that is explained: the nearest, in order."""

FULL_MAX: Final = 3
"""More requests than these have a line each instead of a paragraph."""

_LATE_MS: Final = 60_000
"""Renewals are a minute apart at most; one that is later is named."""

_STATES: Final = {
    "unconfirmed": "it has not confirmed yet that it sent IDENTIFY",
    "identified": "it has sent IDENTIFY; Discord has not answered yet",
    "ready": "Discord has accepted it: it is up",
    "rejected": "Discord has refused it (Invalid Session): it asks again",
}


def explain(status: FullStatus, query: StatusQuery, now: datetime) -> list[str]:
    """Return lines that answer why what was selected waits; an empty line stands between two requests.

    Args:
        status: the answer to this query.
        query: it selects requests.
        now: with the zone in which times are written.
    """
    what = _selection(query)
    granted = {request.grant_id for request in status.requests if request.grant_id}
    grants = [grant for grant in status.grants if grant.grant_id not in granted]
    if not status.requests_total and not status.requests and not grants:
        return _nothing(status, query, what)
    lines: list[str] = []
    is_full = len(status.requests) <= FULL_MAX
    for request in status.requests:
        lines += [*_paragraph(status, request, now), ""] if is_full else [_in_a_line(request)]
    lines += [f"{_grant(grant)}." for grant in grants]
    shown = query.offset + len(status.requests)
    if status.requests_total and not status.requests:  # the page is beyond the last, or what was on it has ended
        count = f"{status.requests_total} request{'' if status.requests_total == 1 else 's'}"
        again = "; begin again with --offset 0" if query.offset else ""
        lines.append(f"{what} has {count}, and none is at offset {query.offset}{again}.")
    elif status.next_offset is not None or shown < status.requests_total:
        lines.append(f"{what}: {shown} of {status.requests_total} requests are shown; go on with --offset {shown}.")
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _selection(query: StatusQuery) -> str:
    if query.shard_id is not None:
        return f"Shard {query.shard_id}"
    return f"Bucket {query.bucket}" if query.bucket is not None else f"Client {printable(query.client, NAME_MAX)}"


def _nothing(status: FullStatus, query: StatusQuery, what: str) -> list[str]:
    prefix = printable(status.prefix, NAME_MAX)
    lines = [f"{what} has no request here and no live grant: it does not wait for this queue (prefix {prefix})."]
    if query.shard_id is not None:
        lines.append("It is up, or it has not asked, or it asks under another prefix or another NATS address.")
        if status.max_concurrency is not None:
            lines.append(f"Its bucket is {query.shard_id % status.max_concurrency}.")
    return lines


def _paragraph(status: FullStatus, request: RequestStatus, now: datetime) -> list[str]:
    """One request: position, ETA, reason, since when, last renewal, and what is before it."""
    shard = named_shard(request)
    if request.grant_id is not None:
        first = f"{shard[0].upper()}{shard[1:]} is granted in bucket {request.bucket} and has not confirmed it yet."
    else:
        eta = "at an unknown time" if request.eta_ms is None else _in(request.eta_ms, now)
        first = (
            f"{shard[0].upper()}{shard[1:]} waits in bucket {request.bucket} at position {request.position}; "
            f"its turn comes {eta}."
        )
    since = now - timedelta(milliseconds=min(max(request.waited_ms, 0), 10**11))
    renewed = f"its last renewal came {show_ms(request.renewed_ms_ago)} ago"
    if request.managed and request.renewed_ms_ago > _LATE_MS:
        renewed += ", which is late: its process may be gone or cut off"
    kind = "managed" if request.managed else "plain: it does not renew"
    lines = [
        first,
        *([] if request.grant_id is not None else _reasons(status, request)),
        f"It has waited since {since:%H:%M:%S} ({show_ms(request.waited_ms)}); {renewed}.",
        f"Its request is {printable(request.request_id, NAME_MAX)}, priority {request.priority}, {kind}.",
    ]
    if request.is_unresponsive:
        lines.append("It did not receive its last message: others pass it until it renews. Is its process alive?")
    lines += [f"{_grant(grant)}." for grant in status.grants if grant.grant_id == request.grant_id]
    return lines


def _reasons(status: FullStatus, request: RequestStatus) -> list[str]:
    """What it waits for, and what to do where an operator can do something."""
    match request.reason:
        case Reason.PAUSED:
            text = "It waits for the end of a pause by an operator."
            return [text, f"{describe_pause(status.paused)}."] if status.paused is not None else [text]
        case Reason.CRASH_LOOP:
            return [
                "Its shard id was granted too many turns lately, so it waits longer each time (crash loop).",
                f"When it is mended: nats-identify pardon {request.shard_id}.",
            ]
        case Reason.LIMITS_UNKNOWN:
            why = f": {printable(status.trouble, TROUBLE_MAX)}" if status.trouble else ""
            return [f"It waits for Discord's limits, which are not known{why}."]
        case Reason.SESSION_LIMIT:
            return ["No session start is left today but the reserve: it waits for the next day."]
    return [f"It waits for the window of its bucket{_ahead(request)}."]


def _ahead(request: RequestStatus) -> str:
    if not request.ahead_count:
        return "; nothing is before it"
    nearest = request.ahead[-AHEAD_NAMED:]
    named = ", ".join(named_shard(ahead) for ahead in nearest)
    count = "the request before it" if request.ahead_count == 1 else f"the {request.ahead_count} requests before it"
    if request.ahead_count > len(nearest):
        return f" and for {count}, the nearest: {named}"
    return f" and for {count}: {named}"


def _in_a_line(request: RequestStatus) -> str:
    eta = "unknown" if request.eta_ms is None else show_ms(request.eta_ms)
    place = f"position {request.position}, turn in {eta}, waits for {request.reason}"
    if request.grant_id is not None:
        place = f"granted as {printable(request.grant_id, NAME_MAX)} and not confirmed yet"
    renewed = f"renewed {show_ms(request.renewed_ms_ago)} ago"
    name = printable(request.request_id, NAME_MAX)
    return f"{named_shard(request)}: bucket {request.bucket}, {place}, {renewed}, request {name}"


def _grant(grant: GrantStatus) -> str:
    shard = named_shard(grant)
    ago = "" if grant.granted_ms_ago is None else f" {show_ms(grant.granted_ms_ago)} ago"
    state = _STATES.get(grant.state, printable(grant.state, NAME_MAX))
    return (
        f"{shard[0].upper()}{shard[1:]} was granted{ago} in bucket {grant.bucket} "
        f"(grant {printable(grant.grant_id, NAME_MAX)}): {state}; the bucket opens in {show_ms(grant.opens_in_ms)}"
    )


def _in(eta_ms: int, now: datetime) -> str:
    """A duration, and the time of day where it is long, with the date where that is another day."""
    if eta_ms <= 0:
        return "now"
    at = now + timedelta(milliseconds=min(eta_ms, 10**11))
    day = "" if at.date() == now.date() else f" on {at:%Y-%m-%d}"
    return f"in {show_ms(eta_ms)}" + (f", at {at:%H:%M:%S}{day}" if eta_ms >= _LATE_MS else "")
