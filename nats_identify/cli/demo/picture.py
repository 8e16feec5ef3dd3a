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

from nats_identify.cli.demo.board import Board, Seat, Stage
from nats_identify.cli.demo.plan import Plan
from nats_identify.clock import NS_PER_S

LOOKS: Final = {
    Stage.UP: ("✓", "green"),
    Stage.IDENTIFIED: ("◆", "bold cyan"),
    Stage.GRANTED: ("●", "bold bright_yellow"),
    Stage.NEXT: ("▸", "yellow"),
    Stage.WAITING: ("·", "bright_blue"),
    Stage.REFUSED: ("✗", "bold bright_red"),
    Stage.UNSEEN: ("-", "bright_black"),
}
"""A glyph for each stage, too: colours alone are not enough."""

_AROUND_LINES: Final = 9  # a picture without its buckets
_GAP_COLUMNS: Final = 9  # " ≥ 5.20 s"
_BETWEEN: Final = 3  # columns between two buckets on one line
_BAR_COLUMNS: Final = 40


def draw(board: Board, plan: Plan, title: str, *, now_ns: int, columns: int, lines: int) -> RenderableType:
    """Return the picture of this moment, for a screen of this size."""
    heading = Text.assemble((title, "bold"), (f"   {_describe(plan)}", "bright_black"))
    rows = _draw_buckets(board, columns=columns - 2, lines=lines - _AROUND_LINES)
    parts: list[RenderableType] = [heading, "", *rows, "", _draw_progress(board, plan, now_ns)]
    return Padding(Group(*parts, _draw_legend(board), _draw_figures(board, now_ns)), (1, 1))


def smallest_gap(board: Board) -> str:
    """The smallest gap of all buckets, in words."""
    return f"{min(board.smallest_gap_s.values()):.2f} s" if board.smallest_gap_s else "none yet"


def _describe(plan: Plan) -> str:
    counts = ((plan.shards, "shard"), (len(plan.deal()), "process"), (plan.buckets, "bucket"))
    words = [f"{count} {word}{'' if count == 1 else 'es' if word.endswith('s') else 's'}" for count, word in counts]
    return " · ".join([*words, f"{plan.window_s:g} s apart"])


@dataclass(frozen=True, slots=True)
class _Form:
    """How buckets are drawn.

    Attributes:
        label: before a bucket's number.
        number_columns: of the largest bucket's number.
        id_columns: of the largest shard id; 0 where cells hold a glyph alone.
        cells: of a bucket on one line.
        across: buckets on one line.
    """

    label: str
    number_columns: int
    id_columns: int
    cells: int
    across: int

    def lines_of(self, buckets: list[list[Seat]]) -> int:
        """Lines that all buckets take."""
        each = -(-max(len(seats) for seats in buckets) // self.cells)
        return each * -(-len(buckets) // self.across)


def _fit(buckets: list[list[Seat]], *, columns: int, label: str, id_columns: int, across_most: int) -> _Form:
    """Fit as many cells, and then as many buckets, on a line as there is room for."""
    number_columns = len(str(len(buckets) - 1))
    label_columns = len(label) + number_columns + 2
    cell_columns = id_columns + 2 if id_columns else 1
    longest = max(len(seats) for seats in buckets)
    cells = max(1, min(longest, (columns - label_columns - _GAP_COLUMNS) // cell_columns))
    one_columns = label_columns + cells * cell_columns + _GAP_COLUMNS
    across = max(1, min(across_most, (columns + _BETWEEN) // (one_columns + _BETWEEN)))
    return _Form(label, number_columns, id_columns, cells, across)


def _choose_form(buckets: list[list[Seat]], *, columns: int, lines: int) -> _Form:
    """A bucket to a line if there is room; else several; else without the shards' ids, which must do."""
    id_columns = max(len(str(seat.shard_id)) for seats in buckets for seat in seats)
    for label, across_most in (("bucket ", 1), ("", len(buckets))):
        form = _fit(buckets, columns=columns, label=label, id_columns=id_columns, across_most=across_most)
        if form.lines_of(buckets) <= lines:
            return form
    return _fit(buckets, columns=columns, label="", id_columns=0, across_most=len(buckets))


def _draw_buckets(board: Board, *, columns: int, lines: int) -> list[RenderableType]:
    buckets = board.buckets
    form = _choose_form(buckets, columns=columns, lines=lines)
    rows: list[RenderableType] = []
    for first in range(0, len(buckets), form.across):
        row = Table.grid(padding=(0, _BETWEEN, 0, 0))
        numbers = range(first, min(first + form.across, len(buckets)))
        row.add_row(*(_draw_bucket(board, number, buckets[number], form) for number in numbers))
        rows.append(row)
    return rows


def _draw_bucket(board: Board, number: int, seats: list[Seat], form: _Form) -> Text:
    """One bucket, on as many lines as it takes; its smallest gap is at the end of the first."""
    gap_s = board.smallest_gap_s.get(number)
    gap = "" if gap_s is None else f"≥ {gap_s:.2f} s"
    label = f"{form.label}{number:>{form.number_columns}}  "
    text = Text(no_wrap=True)
    for start in range(0, len(seats), form.cells):
        text.append(label if start == 0 else "\n" + " " * len(label), "bold")
        for place in range(start, start + form.cells):
            text.append_text(_draw_cell(seats[place] if place < len(seats) else None, form))
        if start == 0:
            text.append(f"{gap:>{_GAP_COLUMNS}}", "bright_black")
    return text


def _draw_cell(seat: Seat | None, form: _Form) -> Text:
    if seat is None:
        return Text(" " * (form.id_columns + 2 if form.id_columns else 1))
    glyph, style = LOOKS[seat.stage]
    return Text(f"{glyph}{seat.shard_id:<{form.id_columns}} " if form.id_columns else glyph, style)


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
    """Explain the glyphs, with how many there are of each; refused and unseen are left out where there are none."""
    seats = [seat for bucket in board.buckets for seat in bucket]
    words = []
    for stage, (glyph, style) in LOOKS.items():
        count = sum(seat.stage is stage for seat in seats)
        if count or stage not in {Stage.REFUSED, Stage.UNSEEN}:
            words.append(Text(f"{glyph} {stage} {count}", style if count else "bright_black"))
    return Text("   ").join(words)


def _draw_figures(board: Board, now_ns: int) -> Text:
    violations_style = "bold bright_red" if board.violations else "bold green"
    figures = Text.assemble(
        "violations ", (f"{board.violations}", violations_style), f"   smallest gap {smallest_gap(board)}"
    )
    if board.remaining is not None:
        figures.append(f"   starts left {board.remaining}")
    if board.next_turn_ns is not None and not board.is_all_up:
        figures.append(f"   next turn in {max(0, board.next_turn_ns - now_ns) / NS_PER_S:.1f} s", "yellow")
    return figures
