"""``nats-identify status``: asks once, or again and again with ``--watch``, and prints what was answered."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from nats_identify.cli.explain import explain
from nats_identify.cli.operator import NoAnswerError, Operator, connected
from nats_identify.cli.options import Exit, Where, as_line
from nats_identify.cli.status import draw_status
from nats_identify.operator_wire import FullStatus, StatusQuery

WATCH_EVERY_S: Final = 2.0
"""What a watch costs a coordinator: one request in this time."""


@dataclass(frozen=True, slots=True)
class LookOptions:
    """What is to be shown.

    Attributes:
        query: which requests are explained; without a selection it is the whole picture.
        as_json: one line of JSON for each answer.
        is_watch: go on until a signal.
    """

    query: StatusQuery
    as_json: bool
    is_watch: bool


async def run_status(where: Where, options: LookOptions, console: Console) -> int:
    """Show it. Return the exit status.

    Raises:
        NoAnswerError: of the first question; a watch reports later ones and goes on.
    """
    if options.is_watch:
        await _watch(where, options, console)
    async with connected(where) as operator:
        _print(await operator.status(options.query), options, console)
    return Exit.DONE


def draw(status: FullStatus, options: LookOptions) -> RenderableType:
    """The paragraphs of what was selected, or the whole picture."""
    if not options.query.is_selection:
        return draw_status(status)
    return Text("\n".join(explain(status, options.query, datetime.now().astimezone())))


def _print(status: FullStatus, options: LookOptions, console: Console) -> None:
    if options.as_json:
        typer.echo(as_line(status))
    else:
        console.print(draw(status, options), soft_wrap=options.query.is_selection)


async def _watch(where: Where, options: LookOptions, console: Console) -> None:
    async def ignore() -> None:
        """The next question reports it."""

    is_live = console.is_terminal and not options.as_json
    async with connected(where, on_away=ignore, on_back=ignore) as operator:
        await operator.status(options.query)  # the first must be answered
        if is_live:
            with Live(console=console, auto_refresh=False, screen=True) as live:
                while True:
                    live.update(await _picture(operator, options), refresh=True)
                    await asyncio.sleep(WATCH_EVERY_S)
        trouble = ""
        while True:
            try:
                _print(await operator.status(options.query), options, console)
                trouble = ""
            except NoAnswerError as error:
                if str(error) != trouble:  # once, until it is another
                    typer.echo(str(error), err=True)
                trouble = str(error)
            await asyncio.sleep(WATCH_EVERY_S)


async def _picture(operator: Operator, options: LookOptions) -> RenderableType:
    at = f"{datetime.now().astimezone():%H:%M:%S %Z}"
    try:
        return Group(draw(await operator.status(options.query), options), "", Text(f"{at} · ctrl-C ends it", "dim"))
    except NoAnswerError as error:
        return Group(Text(str(error), "bold red"), "", Text(f"{at} · it goes on asking; ctrl-C ends it", "dim"))
