"""``nats-identify top``: asks, listens, draws, and sends what a key and a yes ask for."""

import asyncio
import sys
from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import Final

from nats.aio.msg import Msg
from rich.console import Console
from rich.live import Live

from nats_identify.cli.events import read_event
from nats_identify.cli.operator import NoAnswerError, Operator, connected
from nats_identify.cli.options import CommandError, Exit, Where, operator_name
from nats_identify.cli.status import named_shard
from nats_identify.cli.top.board import Board
from nats_identify.cli.top.dialog import Act, Dialog, Do, LookUp, Quit
from nats_identify.cli.top.keyboard import keys
from nats_identify.cli.top.picture import draw
from nats_identify.cli.when import show_ms
from nats_identify.operator_wire import Command, Done, Kick, Pause, Resume
from nats_identify.printable import printable
from nats_identify.wire import Message

ASK_EVERY_S: Final = 2.0
"""What it costs a coordinator: one status request in this time."""

DRAW_EVERY_S: Final = 0.2
"""The shortest time between two pictures, however much happens."""

_WHY: Final = "by a key of top"


async def run_top(where: Where, console: Console) -> int:
    """Show the screen until q or a signal. Return the exit status.

    Raises:
        CommandError: there is no terminal, or no NATS, or no coordinator at the start.
    """
    is_typed_at = sys.stdin is not None and sys.stdin.isatty()  # None: it was closed before this process began
    if not (console.is_terminal and is_typed_at) or console.is_dumb_terminal:
        message = "top needs a terminal; elsewhere use nats-identify status --watch, or nats-identify events"
        raise CommandError(message, Exit.WRONG_OPTION)
    if not console.encoding.startswith("utf"):
        message = "top needs a terminal with UTF-8; set LANG=C.UTF-8, or use nats-identify status --watch"
        raise CommandError(message, Exit.WRONG_OPTION)

    async def ignore() -> None:
        """The next question reports it."""

    async with connected(where, on_away=ignore, on_back=ignore) as operator:
        screen = Screen(operator, console)
        await screen.begin()
        with Live(console=console, auto_refresh=False, screen=True) as live, keys(screen.press, screen.leave):
            await screen.run(live)
    return Exit.DONE


class Screen:
    """One screen.

    Args:
        operator: asks and sends.
        console: the terminal.
    """

    def __init__(self, operator: Operator, console: Console) -> None:
        self.board = Board(monotonic())
        self.dialog = Dialog()
        self._operator = operator
        self._console = console
        self._news = asyncio.Event()
        self._is_left = False
        self._acting: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Ask for the first time, and listen.

        Raises:
            NoAnswerError: there is nothing to show.
        """
        self.board.answered(await self._operator.status(), monotonic())
        await self._operator.listen(self._operator.subjects.events, self._on_event)

    async def run(self, live: Live) -> None:
        """Draw until it is left."""
        questions = asyncio.ensure_future(self._keep_asking())
        try:
            while not self._is_left:
                self._draw(live)
                self._news.clear()
                await asyncio.sleep(DRAW_EVERY_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(1 - DRAW_EVERY_S):
                        await self._news.wait()
                if questions.done():
                    questions.result()  # a defect, which must not be hidden
        finally:
            for task in (questions, *self._acting):
                task.cancel()

    def press(self, key: str) -> None:
        """Take a key."""
        status = self.board.status
        act = self.dialog.press(key, is_paused=status is not None and status.paused is not None)
        self._news.set()
        if isinstance(act, Quit):
            self.leave()
        elif act is not None and not self._acting:
            task = asyncio.ensure_future(self._act(act))
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)

    def leave(self) -> None:
        """End it."""
        self._is_left = True
        self._news.set()

    async def _act(self, act: Act) -> None:
        try:
            if isinstance(act, LookUp):
                await self._look_up(act.shard_id)
            elif isinstance(act, Do):
                self.dialog.message = f"{act.command} …"
                self.dialog.message = await self._do(act)
                self.board.answered(await self._operator.status(), monotonic())  # the screen shows it at once
        except CommandError as error:
            self.dialog.message = str(error)
        self._news.set()

    async def _look_up(self, shard_id: int) -> None:
        found = await self._operator.requests_of(shard_id)
        described = [
            f"{named_shard(request)}, position {request.position}, waiting {show_ms(request.waited_ms)}"
            for request in found.waiting
        ]
        request_ids = tuple(request.request_id for request in found.waiting)
        self.dialog.found(shard_id, described, request_ids, left_out=found.left_out)

    async def _do(self, act: Do) -> str:
        """Send it, and return what became of it."""
        said = []
        for body in self._bodies(act):
            reply = await self._operator.command(act.command, body)
            done = "done" if isinstance(reply, Done) else f"not done ({reply.code})"
            said.append(f"{done}: {printable(reply.message)}")
        return "; ".join(said)

    def _bodies(self, act: Do) -> list[Message]:
        by = operator_name()
        match act.command:
            case Command.PAUSE:
                return [Pause(by=by, why=_WHY)]
            case Command.RESUME:
                return [Resume(by=by, why=_WHY)]
        return [Kick(by=by, why=_WHY, request_id=request_id) for request_id in act.request_ids]

    def _on_event(self, message: Msg) -> None:
        fields = read_event(message.data)
        if fields is not None:
            self.board.happened(message.subject.rpartition(".")[2], fields, monotonic())
            self._news.set()

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            try:
                self.board.answered(await self._operator.status(), monotonic())
            except NoAnswerError as error:
                self.board.failed(str(error))
            self._news.set()

    def _draw(self, live: Live) -> None:
        columns, lines = self._console.size
        picture = draw(
            self.board,
            self.dialog.line,
            is_question=self.dialog.is_open,
            at=f"{datetime.now().astimezone():%H:%M:%S %Z}",
            now_s=monotonic(),
            columns=columns,
            lines=lines,
        )
        live.update(picture, refresh=True)
