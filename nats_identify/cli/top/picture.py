"""Draws the board for a screen of 80 columns and 24 lines, or a larger one. It remembers nothing between two pictures.

Every line is cut to the width of the screen, and there are never more lines than the screen has.
"""

from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from nats_identify.cli.status import NAME_MAX, TROUBLE_MAX, describe_pause, named_shard, next_turn_ms
from nats_identify.cli.top.board import RATE_OVER_S, Board, Happened
from nats_identify.cli.when import show_ms
from nats_identify.operator_wire import FullStatus
from nats_identify.printable import printable
from nats_identify.reason import Reason
from nats_identify.wire import BucketStatus, WaitingRequest

EVENTS_MIN: Final = 5
"""Lines that stay for events however many buckets there are."""

_FIXED_LINES: Final = 9  # title, day, start, rate, clients, pause or trouble, header, rule, keys
_BAR: Final = 20
_SMALL_BAR: Final = 8
_WIDE: Final = 96
_DIM: Final = "bright_black"

_STYLES: Final = {
    "granted": "bright_yellow",
    "identified": "cyan",
    "ready": "green",
    "rejected": "bold red",
    "refused": "red",
    "undeliverable": "red",
    "expired": "red",
    "crash_loop": "bold red",
    "exhausted": "bold red",
    "paused": "bold yellow",
    "resumed": "bold yellow",
    "leader": "bold magenta",
}

_SHORT: Final = {
    Reason.WINDOW: "window",
    Reason.SESSION_LIMIT: "next day",
    Reason.CRASH_LOOP: "crash loop",
    Reason.LIMITS_UNKNOWN: "limits",
    Reason.PAUSED: "pause",
}


def draw(
    board: Board, line: str, *, is_question: bool, at: str, now_s: float, columns: int, lines: int
) -> RenderableType:
    """Return the picture of this moment.

    Args:
        board: what is known.
        line: the last line: the keys, a question, or what became of a command.
        is_question: whether it is a question.
        at: the time of day.
        now_s: of the board's clock.
        columns: of the screen.
        lines: of the screen.
    """
    status = board.status
    if status is None:
        return Group(Text("no coordinator has answered yet"), _fit(Text(board.trouble, "bold red"), columns))
    aged_ms = int(board.age_s(now_s) * 1000)
    head = [_title(status, at, columns), _day(status, aged_ms), _start(board, status, aged_ms), _rates(board, now_s)]
    head += [_busiest(status), _alarm(board, status, aged_ms)]
    room = max(1, lines - _FIXED_LINES)
    rows = _buckets(board, status, aged_ms, columns, max(1, room - min(EVENTS_MIN, room - 1)))
    events = list(board.events)[-max(0, room - len(rows)) :] if room > len(rows) else []
    shown = [_event(event) for event in events] or [Text("nothing has happened yet", _DIM)][: room - len(rows)]
    blank = [Text("")] * max(0, room - len(rows) - len(shown))
    keys = Text(line, "bold black on yellow" if is_question else "reverse")
    keys.pad_right(max(0, columns - keys.cell_len))
    body = [*head, _header(columns), *rows, Text("─" * columns, _DIM), *shown, *blank, keys]
    return Group(*(_fit(text, columns) for text in body[-lines:]))


def _fit(text: Text, columns: int) -> Text:
    """Cut a line; a text that is longer would be wrapped and move the others off the screen."""
    text.no_wrap = True
    text.truncate(columns, overflow="ellipsis")
    return text


def bar(done: int, total: int, width: int, style: str = "green") -> Text:
    """A bar of this width."""
    filled = width if total <= 0 else max(0, min(width, done * width // total))
    return Text.assemble(("━" * filled, style), ("─" * (width - filled), _DIM))


def _title(status: FullStatus, at: str, columns: int) -> Text:
    prefix, leader = printable(status.prefix, NAME_MAX), printable(status.leader or "", NAME_MAX)
    leads = (f"{leader} leads, term {status.term}", "green") if status.leader else ("NO LEADER", "bold red")
    text = Text.assemble((prefix, "bold"), "  ", leads, (f"  asked {printable(status.name, NAME_MAX)}", _DIM))
    gap = columns - text.cell_len - len(at)
    return text.append(" " * gap + at, _DIM) if gap > 0 else text


def _day(status: FullStatus, aged_ms: int) -> Text:
    limit = status.session_start_limit
    if limit.remaining is None or limit.total is None:
        return Text("day    not known", "bold red")
    style = "red" if limit.remaining <= status.reserve else "yellow" if limit.remaining * 5 < limit.total else "green"
    reset = "" if limit.reset_after_ms is None else f", next day in {_clock(limit.reset_after_ms - aged_ms)}"
    text = Text.assemble("day    ", bar(limit.remaining, limit.total, _BAR, style), "  ")
    text.append(f"{limit.remaining} of {limit.total} starts left", "bold")
    return text.append(f"{reset}, {status.reserve} reserved")


def _start(board: Board, status: FullStatus, aged_ms: int) -> Text:
    done = len(board.identified)
    text = Text.assemble("start  ", bar(done, done + max(0, status.waiting), _BAR), "  ")
    text.append(f"{done} identified, {status.waiting} wait", "bold")
    text.append(f", {len(board.ready)} ready")
    up_ms = status.projection.all_up_in_ms if status.projection is not None else None
    if status.waiting and up_ms is not None:
        text.append(f", last turn in {_clock(up_ms - aged_ms)}")
    return text


def _rates(board: Board, now_s: float) -> Text:
    grants, over_s = board.rate(now_s)
    over = "the last minute" if over_s >= RATE_OVER_S else f"{over_s:.0f} s"
    return Text(f"rate   {grants} {'grant' if grants == 1 else 'grants'} in {over}")


def _alarm(board: Board, status: FullStatus, aged_ms: int) -> Text:
    """What an operator must know first: no answer, trouble with Discord, a pause, crash loops."""
    if board.trouble:
        return Text(f"the figures are {show_ms(aged_ms)} old: {board.trouble}", "bold red")
    if status.trouble is not None:
        return Text(f"no figures from Discord: {printable(status.trouble, TROUBLE_MAX)}", "bold red")
    if status.paused is not None:
        return Text(describe_pause(status.paused), "bold yellow")
    if status.held_back:
        named = ", ".join(named_shard(held) for held in status.crash_loops)
        return Text(f"crash loops: {status.held_back} held back: {named}", "bold red")
    return Text("")


def _header(columns: int) -> Text:
    progress = f"{'identified':<{_SMALL_BAR + 6}}" if columns >= _WIDE else ""
    return Text(f"bucket  waiting   next in  {'waits for':<11}{progress}next in line", "bold")


def _buckets(board: Board, status: FullStatus, aged_ms: int, columns: int, most: int) -> list[Text]:
    """A line each; where there are more than fit, those in which shards wait come first."""
    buckets = status.buckets
    if len(buckets) > most:
        chosen = sorted(buckets, key=lambda bucket: (not bucket.waiting, bucket.bucket))[: max(0, most - 1)]
        rest = status.waiting - sum(bucket.waiting for bucket in chosen)
        more = [Text(f"… and {len(buckets) - len(chosen)} more buckets, in which {max(0, rest)} wait", _DIM)][:most]
        return [*(_bucket(board, status, bucket, aged_ms, columns) for bucket in chosen), *more]
    return [_bucket(board, status, bucket, aged_ms, columns) for bucket in buckets]


def _bucket(board: Board, status: FullStatus, bucket: BucketStatus, aged_ms: int, columns: int) -> Text:
    next_ms = next_turn_ms(status, bucket)
    opens = "unknown" if next_ms is None else _clock(next_ms - aged_ms) if next_ms > aged_ms else "open"
    waits_for = "" if bucket.reason is None else _SHORT.get(bucket.reason, bucket.reason.value)
    style = "" if bucket.waiting else _DIM
    text = Text(f"{bucket.bucket:>6}  {bucket.waiting:>7}  {opens:>8}  {waits_for:<11}", style)
    if columns >= _WIDE:
        done = board.identified_of(bucket.bucket)
        text.append_text(bar(done, done + max(0, bucket.waiting), _SMALL_BAR)).append(f" {done:<5}")
    for place, request in enumerate(bucket.first):
        text.append(_next(request), "bold yellow" if place == 0 else "").append("  ")
    return text


def _next(request: WaitingRequest) -> str:
    client = printable(request.client or "", NAME_MAX)
    return f"{request.shard_id} ({client})" if client else f"{request.shard_id}"


def _busiest(status: FullStatus) -> Text:
    if not status.busiest:
        return Text("busy   no client has sent anything lately", _DIM)
    over = show_ms(status.busiest[0].over_ms)
    named = [f"{printable(client.client, NAME_MAX) or '-'} {client.messages}" for client in status.busiest]
    return Text(f"busy   messages in {over}: {', '.join(named)}")


def _event(event: Happened) -> Text:
    fields = event.fields
    text = Text.assemble(
        (f"{_time_of(fields.get('at')):<8}  ", _DIM), (f"{printable(event.name, 16):<13}", _STYLES.get(event.name, ""))
    )
    for key, value in fields.items():
        if key in {"at", "request_id", "grant_id", "instance"} or value in (None, ""):
            continue
        text.append(f" {printable(key, NAME_MAX).removesuffix('_id')} {printable(value, TROUBLE_MAX)}")
    return text


def _time_of(at: object) -> str:
    """The time of day of an event, in this machine's zone, as in the title."""
    try:
        return f"{datetime.fromisoformat(str(at)).astimezone():%H:%M:%S}"
    except (ValueError, OverflowError):
        return "?"


def _clock(duration_ms: int) -> str:
    return show_ms(max(0, duration_ms))
