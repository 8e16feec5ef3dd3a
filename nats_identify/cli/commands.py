"""The commands of ``nats-identify`` and their options, for people; each hands over to the module that does it."""

import asyncio
import math
import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from nats_identify import __version__
from nats_identify.cli.status import NoAnswerError, draw_status, fetch_status
from nats_identify.cli.up import UpOptions, run_up
from nats_identify.cli.wait import ExitStatus, WaitOptions, run_wait
from nats_identify.client.environment import (
    WrongEnvironmentError,
    in_kubernetes,
    nats_options,
    queue_from_environment,
)
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.nats_options import DEFAULT_URL
from nats_identify.processes.nats_server import NatsServerError
from nats_identify.processes.subprocesses import ChildDiedError, run_until_signalled
from nats_identify.queue import PRIORITY_MAX, SHARD_ID_MAX
from nats_identify.wire import Subjects

app = typer.Typer(
    name="nats-identify",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_RANGE: Final = re.compile(r"\d+(\.\d+)?(:\d+(\.\d+)?)?")


def _milliseconds(text: str) -> str:
    if not _RANGE.fullmatch(text):
        message = f"{text!r}: give milliseconds, as in 40, or LOWEST:HIGHEST, as in 20:60"
        raise typer.BadParameter(message)
    low, _, high = text.partition(":")
    if high and float(high) < float(low):
        message = f"{text!r}: the lowest comes first"
        raise typer.BadParameter(message)
    return text


def _naming_option(error: WrongEnvironmentError, server: str | None) -> str:
    """Return what is wrong, with ``--server`` named where that was given and not ``NATS_URL``."""
    is_option = bool(server) and server != os.environ.get("NATS_URL")
    return str(error).replace("NATS_URL", "--server", 1) if is_option else str(error)


def _seconds(duration_s: float | None) -> float | None:
    if duration_s is not None and not math.isfinite(duration_s):
        message = f"{duration_s}: give a number of seconds"
        raise typer.BadParameter(message)
    return duration_s


def _prefix(text: str) -> str:
    try:
        return Subjects(text).prefix
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _show_version(*, is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"nats-identify {__version__}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
    ] = False,
) -> None:
    """One IDENTIFY queue for all shards of a Discord bot, on NATS."""


def _default_store() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "nats-identify"


@app.command()
def demo(
    shards: Annotated[int, typer.Option(help="of the bot")] = 12,
    max_concurrency: Annotated[int, typer.Option(help="buckets, max_concurrency of the simulated Discord")] = 2,
    processes: Annotated[int, typer.Option(help="that the shards are dealt to")] = 3,
    connect_delay_ms: Annotated[
        str, typer.Option(callback=_milliseconds, help="before Discord accepts a connection")
    ] = "0:300",
    frame_latency_ms: Annotated[str, typer.Option(callback=_milliseconds, help="one way, of every frame")] = "20:60",
    window: Annotated[float, typer.Option(help="seconds between two IDENTIFYs of a bucket; Discord's are 5")] = 5.0,
    control: Annotated[bool, typer.Option(help="then run the same fleet without the queue")] = True,
    *,
    bots: Annotated[
        str | None, typer.Option(help="real bots of this library, which must be installed: discord.py, disnake …")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="lines instead of a live picture")] = False,
) -> None:
    """Bring a fleet up through the queue, on real processes, against a simulated Discord that judges strictly.

    Exits with 0 if every shard came up, once, without a violation, and the control without the queue violated.
    """
    # Imported late: the others must not need what the simulated Discord does.

    from nats_identify.cli.demo.bots import fleet_of  # noqa: PLC0415  # see above
    from nats_identify.cli.demo.command import demonstrate  # noqa: PLC0415  # as above
    from nats_identify.cli.demo.plan import Plan  # noqa: PLC0415  # as above

    try:
        fleet = {} if bots is None else fleet_of(bots)
        plan = Plan(shards, max_concurrency, processes, window, connect_delay_ms, frame_latency_ms, control, **fleet)
    except (ValueError, ImportError) as error:
        raise typer.BadParameter(str(error)) from error
    running = demonstrate(plan, Console(highlight=False, soft_wrap=True), is_plain=plain)
    raise typer.Exit(run_until_signalled(running, status_of=lambda number: 128 + number))


@app.command()
def up(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="of NATS, on loopback; 0: any free one")] = 4222,
    store: Annotated[
        Path | None, typer.Option(help="what was granted is remembered here; ~/.local/state/nats-identify")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="holds the bot's token; else DISCORD_TOKEN")
    ] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(min=1, envvar="IDENTIFY_MAX_CONCURRENCY", help="instead of Discord's")
    ] = None,
    http_port: Annotated[
        int,
        typer.Option(min=0, max=65_535, envvar="IDENTIFY_HTTP_PORT", help="of /readyz and /metrics; 0: any free one"),
    ] = 8080,
    prefix: Annotated[
        str, typer.Option(callback=_prefix, envvar="IDENTIFY_PREFIX", help="of the subjects, one for each bot")
    ] = "identify",
) -> None:
    """Start NATS and a coordinator on this machine, ready for a bot, until ctrl-C.

    Every IDENTIFY_ variable of the environment is heeded but IDENTIFY_FRESH_START, and DISCORD_TOKEN. Without
    IDENTIFY_CRASH_LOOP_GRANTS there is no guard against crash loops.
    """
    options = UpOptions(port, store or _default_store(), token_file, max_concurrency, http_port, prefix)

    async def run() -> int:
        try:
            await run_up(options, typer.echo)
        except ChildDiedError as death:
            typer.echo(death, err=True)
            return max(1, death.status or 1)  # 2 where a setting is wrong
        except (NatsServerError, TimeoutError) as trouble:
            typer.echo(trouble, err=True)
            return 1
        return 0

    raise typer.Exit(run_until_signalled(run(), status_of=lambda _number: 0))


@app.command()
def status(
    server: Annotated[str, typer.Option(envvar="NATS_URL", help="where NATS is")] = "nats://127.0.0.1:4222",
    prefix: Annotated[
        str, typer.Option(callback=_prefix, envvar="IDENTIFY_PREFIX", help="of the subjects, one for each bot")
    ] = "identify",
) -> None:
    """Show the leader, the rest of the day's limit, and the waiting shards of each bucket.

    The other variables of a login, such as NATS_USER and NATS_PASSWORD, are read as by a coordinator.
    """
    try:
        options = nats_options({**os.environ, "NATS_URL": server})
        answer = asyncio.run(fetch_status(options, prefix))
    except WrongEnvironmentError as error:
        typer.echo(_naming_option(error, server), err=True)
        raise typer.Exit(2) from error
    except NoAnswerError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error
    Console(highlight=False).print(draw_status(answer))


@app.command()
def wait(
    shard: Annotated[int, typer.Argument(min=0, max=SHARD_ID_MAX, help="the shard that wants to identify")],
    within: Annotated[
        float,
        typer.Option(
            min=0,
            callback=_seconds,
            help="seconds from the end of this command to IDENTIFY; a grant with less is declined",
        ),
    ] = 2.0,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, callback=_seconds, help="give up after this number of seconds; by default never"),
    ] = None,
    priority: Annotated[
        int, typer.Option(min=-PRIORITY_MAX, max=PRIORITY_MAX, help="higher goes first; 1: a session that was lost")
    ] = 0,
    server: Annotated[
        str | None, typer.Option(envvar="NATS_URL", help=f"where NATS is; {DEFAULT_URL} outside of a pod")
    ] = None,
    prefix: Annotated[
        str, typer.Option(callback=_prefix, envvar="IDENTIFY_PREFIX", help="of the subjects, one for each bot")
    ] = "identify",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on standard output at the end")] = False,
) -> None:
    """Wait until a shard may identify, for scripts: nats-identify wait 3 && exec bot.

    The bot has --within to send its IDENTIFY, and the bucket is held until the grant's end, whether it does so or not.
    SIGTERM and ctrl-C withdraw the request. Progress is shown on standard error. The other variables of a login, such
    as NATS_USER and NATS_PASSWORD, are read as by a bot.

    Exit status: 0 granted; 1 a defect; 2 an option or a variable is wrong; 3 refused, or grants leave less than
    --within; 4 not granted within --timeout; 130 after ctrl-C, 143 after SIGTERM.
    """
    url = server or ("" if in_kubernetes() else DEFAULT_URL)
    try:
        queue = queue_from_environment({**os.environ, "NATS_URL": url, "IDENTIFY_PREFIX": prefix})
    except WrongEnvironmentError as error:
        typer.echo(_naming_option(error, server), err=True)
        raise typer.Exit(ExitStatus.BAD_SETTINGS) from error
    assert isinstance(queue, NatsQueue), "there is a URL"  # noqa: S101  # for mypy
    waiting = run_wait(
        queue,
        WaitOptions(shard, priority, within, timeout),
        as_json=as_json,
        out=typer.echo,
        console=Console(stderr=True, highlight=False),
    )
    raise typer.Exit(run_until_signalled(waiting, status_of=lambda number: 128 + number))
