"""Shows a run while it goes on, on a terminal or as plain lines; what it shows is the board's and the picture's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from rich.console import Console
from rich.live import Live

from nats_identify.cli.demo.board import Board, Stage
from nats_identify.cli.demo.picture import draw, smallest_gap
from nats_identify.cli.demo.plan import Plan
from nats_identify.clock import now_ns

LOOKS_PER_S: Final = 8


class View(Protocol):
    """Shows one run."""

    def look(self, board: Board) -> None:
        """Show the board as it is now."""
        ...

    def close(self) -> None:
        """Leave the last sight of it standing."""
        ...


class LiveView:
    """A picture that is drawn again and again in one place."""

    def __init__(self, console: Console, plan: Plan, title: str) -> None:
        self._console = console
        self._plan = plan
        self._title = title
        # Drawn by `look` alone: a thread of rich's own would read the board while it changes.
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def look(self, board: Board) -> None:
        """Draw the picture of now."""
        columns, lines = self._console.size
        picture = draw(board, self._plan, self._title, now_ns=now_ns(), columns=columns, lines=lines)
        self._live.update(picture, refresh=True)

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()


class PlainView:
    """A line for each change that matters, for logs and pipes."""

    def __init__(self, console: Console, plan: Plan, title: str) -> None:
        self._console = console
        self._plan = plan
        self._told = (0, 0)
        self._console.print(f"{title}:")

    def look(self, board: Board) -> None:
        """Print a line if a shard has come up, or Discord has refused one."""
        if (board.up, board.violations) == self._told:
            return
        self._told = (board.up, board.violations)
        waiting = sum(seat.stage in {Stage.WAITING, Stage.NEXT} for bucket in board.buckets for seat in bucket)
        self._console.print(
            f"  {board.seconds_since_start(now_ns()):6.1f} s  {board.up} of {self._plan.shards} up, {waiting} waiting, "
            f"violations {board.violations}, smallest gap {smallest_gap(board)}"
        )

    def close(self) -> None:
        """Nothing is left to show."""


@asynccontextmanager
async def showing(view: View, board: Board) -> AsyncIterator[None]:
    """Look at the board several times a second in this block, and once more at its end."""

    async def keep_looking() -> None:
        while True:
            view.look(board)
            await asyncio.sleep(1 / LOOKS_PER_S)

    looking = asyncio.ensure_future(keep_looking())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        view.look(board)
        view.close()
