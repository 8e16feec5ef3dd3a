"""The commands of ``nats-identify`` and their options, for people; each hands over to the module that does it."""

import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from nats_identify.children import ChildDiedError, run_until_signalled
from nats_identify.demo.plan import Plan
from nats_identify.demo.run import run_demo
from nats_identify.demo.show import LiveView, PlainView, View
from nats_identify.demo.verdict import Verdict
from nats_identify.embedded import NatsServerError
from nats_identify.up import UpOptions, run_up
from nats_identify.wire import Subjects

app = typer.Typer(
    name="nats-identify",
    help="One IDENTIFY queue for all shards of a Discord bot, on NATS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_RANGE: Final = re.compile(r"\d+(\.\d+)?(:\d+(\.\d+)?)?")
_TROUBLES: Final = (ChildDiedError, NatsServerError, TimeoutError)
"""What a person can act on; anything else is a fault of ours and shows its traceback."""


def _milliseconds(text: str) -> str:
    if not _RANGE.fullmatch(text):
        message = f"{text!r}: give milliseconds, as in 40, or LOWEST:HIGHEST, as in 20:60"
        raise typer.BadParameter(message)
    low, _, high = text.partition(":")
    if high and float(high) < float(low):
        message = f"{text!r}: the lowest comes first"
        raise typer.BadParameter(message)
    return text


def _prefix(text: str) -> str:
    try:
        return Subjects(text).prefix
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _default_store() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "nats-identify"


@app.command()
def demo(
    shards: Annotated[int, typer.Option(help="of the bot")] = 12,
    max_concurrency: Annotated[int, typer.Option(help="buckets, as Discord tells the coordinator")] = 2,
    processes: Annotated[int, typer.Option(help="that the shards are dealt to")] = 3,
    connect_delay_ms: Annotated[
        str, typer.Option(callback=_milliseconds, help="before Discord accepts a connection")
    ] = "0:300",
    frame_latency_ms: Annotated[str, typer.Option(callback=_milliseconds, help="one way, of every frame")] = "20:60",
    window: Annotated[float, typer.Option(help="seconds between two IDENTIFYs of a bucket; Discord's are 5")] = 5.0,
    control: Annotated[bool, typer.Option(help="then run the same fleet without the queue")] = True,
    plain: Annotated[bool, typer.Option("--plain", help="lines instead of a live picture")] = False,
) -> None:
    """Bring a fleet up through the queue, on real processes, against a simulated Discord that judges strictly.

    Exits with 0 if every shard came up, once, without a violation, and the control without the queue violated.
    """
    try:
        plan = Plan(shards, max_concurrency, processes, window, connect_delay_ms, frame_latency_ms, control)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    console = Console(highlight=False, soft_wrap=True)
    is_live = console.is_terminal and not plain and console.encoding.startswith("utf")

    def open_view(title: str) -> View:
        return LiveView(console, plan, title) if is_live else PlainView(console, plan, title)

    async def run() -> int:
        try:
            verdict = await run_demo(plan, open_view)
        except _TROUBLES as trouble:
            verdict = Verdict(failures=[str(trouble)])
        _print_verdict(console, verdict)
        return verdict.status

    raise typer.Exit(run_until_signalled(run(), status_of=lambda number: 128 + number))


@app.command()
def up(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="of NATS, on loopback; 0: any free one")] = 4222,
    store: Annotated[
        Path | None, typer.Option(help="what was granted is remembered here; ~/.local/state/nats-identify")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="holds the bot's token; else DISCORD_TOKEN")
    ] = None,
    max_concurrency: Annotated[int | None, typer.Option(min=1, help="instead of Discord's")] = None,
    http_port: Annotated[int, typer.Option(min=0, max=65_535, help="of /readyz and /metrics; 0: any free one")] = 8080,
    prefix: Annotated[str, typer.Option(callback=_prefix, help="of the subjects, one for each bot")] = "identify",
) -> None:
    """Start NATS and a coordinator on this machine, ready for a bot, until ctrl-C.

    Every IDENTIFY_ variable of the environment is heeded, and DISCORD_TOKEN.
    """
    options = UpOptions(port, store or _default_store(), token_file, max_concurrency, http_port, prefix)

    async def run() -> int:
        try:
            await run_up(options, typer.echo)
        except _TROUBLES as trouble:
            typer.echo(trouble, err=True)
            return getattr(trouble, "status", None) or 1

    raise typer.Exit(run_until_signalled(run(), status_of=lambda _number: 0))


def _print_verdict(console: Console, verdict: Verdict) -> None:
    console.print()
    for line in verdict.lines:
        console.print(line)
    console.print(verdict.sentence, style="bold red" if verdict.failures else "bold green")
