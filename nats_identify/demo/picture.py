"""Draws a board with rich, for any terminal from 80 columns on; it remembers nothing between two pictures.

Each bucket is a line of shards from left to right: those whose turn has been, then those who wait, in order.
"""

from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nats_identify.demo.board import Board, Seat, Stage
from nats_identify.demo.plan import Plan

LOOKS: Final = {
    Stage.UP: ("✓", "green"),
    Stage.IDENTIFIED: ("◆", "bold cyan"),
    Stage.GRANTED: ("●", "bold bright_yellow"),
    Stage.NEXT: ("▸", "yellow"),
    Stage.WAITING: ("·", "bright_blue"),
    Stage.REFUSED: ("✗", "bold bright_red"),
    Stage.UNSEEN: ("-", "bright_black"),
}
"""A glyph for each stage, too: not everybody sees colours."""

_AROUND_LINES: Final = 9  # a picture without its buckets
_GAP_COLUMNS: Final = 9  # " ≥ 5.20 s"
_BETWEEN: Final = 3  # columns between two buckets on one line
_BAR_COLUMNS: Final = 40


def draw(board: Board, plan: Plan, title: str, *, now_ns: int, columns: int, lines: int) -> RenderableType:
    """Return the picture of this moment, for a screen of this size."""
    heading = Text.assemble((title, "bold"), (f"   {_describe(plan)}", "bright_black"))
    rows = _draw_buckets(board, columns=columns - 2, lines=lines - _AROUND_LINES)
    parts: list[RenderableType] = [heading, "", *rows, "", _draw_progress(board, plan, now_ns)]
    return Padding(Group(*parts, _draw_legend(board), _draw_figures(board)), (1, 1))


def smallest_gap(board: Board) -> str:
    """The smallest gap of all buckets, in words."""
    return f"{min(board.smallest_gap_s.values()):.2f} s" if board.smallest_gap_s else "none yet"


def _describe(plan: Plan) -> str:
    counts = ((plan.shards, "shard"), (len(plan.deal()), "process"), (plan.buckets, "bucket"))
    words = [f"{count} {word}{'' if count == 1 else 'es' if word.endswith('s') else 's'}" for count, word in counts]
    return " · ".join([*words, f"{plan.window_s:g} s apart"])


@dataclass(frozen=True, slots=True)
class _Form:
    """How a bucket is drawn: with or without the shards' ids, and how many cells to a line."""

    label_columns: int
    id_columns: int
    cells: int
    across: int

    @property
    def is_dense(self) -> bool:
        return self.id_columns == 0

    def lines_of(self, buckets: list[list[Seat]]) -> int:
        """Lines that all buckets take."""
        each = -(-max(len(seats) for seats in buckets) // self.cells)
        return each * -(-len(buckets) // self.across)


def _form(buckets: list[list[Seat]], *, columns: int, id_columns: int) -> _Form:
    """Fit as many cells, and then as many buckets, on a line as there is room for."""
    label_columns = len(str(len(buckets) - 1)) + 2
    cell_columns = id_columns + 2 if id_columns else 1
    longest = max(len(seats) for seats in buckets)
    cells = max(1, min(longest, (columns - label_columns - _GAP_COLUMNS) // cell_columns))
    one_columns = label_columns + cells * cell_columns + _GAP_COLUMNS
    return _Form(label_columns, id_columns, cells, max(1, (columns + _BETWEEN) // (one_columns + _BETWEEN)))


def _draw_buckets(board: Board, *, columns: int, lines: int) -> list[RenderableType]:
    """Draw them with the shards' ids where that fits, else without; what does not fit at all is counted."""
    buckets = board.buckets
    id_columns = max(len(str(seat.shard_id)) for seats in buckets for seat in seats)
    form = _form(buckets, columns=columns, id_columns=id_columns)
    if form.lines_of(buckets) > lines:
        form = _form(buckets, columns=columns, id_columns=0)
    rows: list[RenderableType] = []
    for first in range(0, len(buckets), form.across):
        row = Table.grid(padding=(0, _BETWEEN, 0, 0))
        numbers = range(first, min(first + form.across, len(buckets)))
        row.add_row(*(_draw_bucket(board, number, buckets[number], form) for number in numbers))
        rows.append(row)
    return rows


def _draw_bucket(board: Board, number: int, seats: list[Seat], form: _Form) -> Text:
    gap_s = board.smallest_gap_s.get(number)
    gap = "" if gap_s is None else f"≥ {gap_s:.2f} s"
    text = Text(no_wrap=True)
    for start in range(0, len(seats), form.cells):
        label = f"{number}" if start == 0 else ""
        text.append(f"{label:>{form.label_columns - 2}}  ", "bold")
        for place in range(start, start + form.cells):
            text.append_text(_draw_cell(seats[place] if place < len(seats) else None, form))
        text.append(f"{gap:>{_GAP_COLUMNS}}" if start == 0 else " " * _GAP_COLUMNS, "bright_black")
        if start + form.cells < len(seats):
            text.append("\n")
    return text


def _draw_cell(seat: Seat | None, form: _Form) -> Text:
    if seat is None:
        return Text(" " if form.is_dense else " " * (form.id_columns + 2))
    glyph, style = LOOKS[seat.stage]
    return Text(glyph if form.is_dense else f"{glyph}{seat.shard_id:<{form.id_columns}} ", style)


def _draw_progress(board: Board, plan: Plan, now_ns: int) -> RenderableType:
    row = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=plan.shards, completed=board.up, width=_BAR_COLUMNS, complete_style="green")
    at_ns = board.last_up_ns if board.is_all_up and board.last_up_ns is not None else now_ns
    took = f"{max(0.0, board.seconds_since_start(at_ns)):.1f} s"
    words = Text.assemble(
        (f"{board.up} of {plan.shards} up", "bold"), f"  {took}", (f", ideal {plan.ideal_s:.1f} s", "bright_black")
    )
    row.add_row(bar, words)
    return row


def _draw_legend(board: Board) -> Text:
    """Say what the glyphs mean, and how many there are of each."""
    seats = [seat for bucket in board.buckets for seat in bucket]
    legend = Text()
    for stage, (glyph, style) in LOOKS.items():
        count = sum(seat.stage is stage for seat in seats)
        legend.append(f"{glyph} {stage} {count}   ", style if count else "bright_black")
    return legend


def _draw_figures(board: Board) -> Text:
    violations_style = "bold bright_red" if board.violations else "bold green"
    figures = Text.assemble(
        "violations ", (f"{board.violations}", violations_style), f"   smallest gap {smallest_gap(board)}"
    )
    if board.remaining is not None:
        figures.append(f"   session starts left {board.remaining}")
    return figures
