"""The commands of ``nats-identify`` and their options, for people; each hands over to the module that does it."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from nats_identify import __version__
from nats_identify.cli import hands
from nats_identify.cli.events import EventFilter, follow_events, show_history
from nats_identify.cli.look import LookOptions, run_status
from nats_identify.cli.options import (
    EPILOG,
    BucketOption,
    ByOption,
    ClientOption,
    DurationOption,
    JsonOption,
    NameOption,
    PrefixOption,
    ServerOption,
    ShardOption,
    Where,
    WhyOption,
    WithoutOption,
    YesOption,
    finish,
    naming_option,
    parse_milliseconds,
    parse_prefix,
    parse_seconds,
    table_console,
)
from nats_identify.cli.plan import Figures, run_plan
from nats_identify.cli.up import UpOptions, run_up
from nats_identify.cli.wait import ExitStatus, WaitOptions, run_wait
from nats_identify.cli.when import Instant, parse_instant
from nats_identify.client.environment import WrongEnvironmentError, in_kubernetes, queue_from_environment
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.nats_options import DEFAULT_URL
from nats_identify.operator_wire import (
    PAGE_MAX,
    PAUSE_MAX_MS,
    Command,
    Handover,
    Kick,
    Pardon,
    Pause,
    Release,
    Resume,
    StatusQuery,
)
from nats_identify.processes.nats_server import NatsServerError
from nats_identify.processes.subprocesses import ChildDiedError, block_signals, run_until_signalled
from nats_identify.queue import PRIORITY_MAX, SHARD_ID_MAX
from nats_identify.wire import why_invalid

app = typer.Typer(name="nats-identify", no_args_is_help=True, pretty_exceptions_enable=False)


def _build(model: type[BaseModel], **fields: Any) -> Any:  # noqa: ANN401  # the model, which the caller names
    """Make a message of the options; what the contract does not allow is a wrong option."""
    try:
        return model(**fields)
    except ValidationError as error:
        raise typer.BadParameter(why_invalid(error)) from error


def _instant(text: str) -> Instant:
    try:
        return parse_instant(text, datetime.now().astimezone())
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
        str, typer.Option(callback=parse_milliseconds, help="before Discord accepts a connection")
    ] = "0:300",
    frame_latency_ms: Annotated[
        str, typer.Option(callback=parse_milliseconds, help="one way, of every frame")
    ] = "20:60",
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
        typer.Option(
            min=0, max=65_535, envvar="IDENTIFY_HTTP_PORT", help="of the page, /readyz and /metrics; 0: any free one"
        ),
    ] = 8080,
    prefix: Annotated[
        str, typer.Option(callback=parse_prefix, envvar="IDENTIFY_PREFIX", help="of the subjects, one for each bot")
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


@app.command(epilog=EPILOG)
def status(
    shard: ShardOption = None,
    bucket: BucketOption = None,
    client: ClientOption = None,
    offset: Annotated[int, typer.Option(min=0, help="requests that are passed over")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_MAX, help="requests that are shown")] = 20,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="again every two seconds, until ctrl-C")] = False,
) -> None:
    """Show the leader, the rest of the day's limit, and what each bucket waits for; or explain one shard.

    With one of --shard, --bucket and --client it says for each of those requests why it waits, what is before it and
    when its turn is. The other variables of a login, such as NATS_USER and NATS_PASSWORD, are read as by a coordinator.
    """
    query = _build(StatusQuery, shard_id=shard, bucket=bucket, client=client, offset=offset, limit=limit)
    options = LookOptions(query, as_json, watch)
    finish(run_status(Where.of(server, prefix), options, table_console()))


@app.command(epilog=EPILOG)
def top(server: ServerOption = DEFAULT_URL, prefix: PrefixOption = "identify") -> None:
    """Watch the queue on a live screen: buckets, a start's progress, the day, rates, clients, events.

    Keys: p pauses or resumes, k ends the request of a shard, q leaves; the first two ask first. It costs the
    coordinators one status request every two seconds. Without a terminal it is refused: use status --watch or events.
    """
    from nats_identify.cli.top.run import run_top  # noqa: PLC0415  # what a screen needs, the others do not

    finish(run_top(Where.of(server, prefix), Console(highlight=False)))


@app.command(epilog=EPILOG)
def events(
    name: NameOption = None,
    without: WithoutOption = None,
    shard: ShardOption = None,
    client: ClientOption = None,
    bucket: BucketOption = None,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
) -> None:
    """Follow what happens, a line for each event, until ctrl-C."""
    wanted = EventFilter(frozenset(name or ()), frozenset(without or ()), shard, bucket, client)
    finish(follow_events(Where.of(server, prefix), wanted, as_json=as_json))


@app.command(epilog=EPILOG)
def history(
    since: Annotated[
        Instant, typer.Option(parser=_instant, metavar="WHEN", help="as in 2h, 23:33, or RFC 3339")
    ] = "1h",  # type: ignore[assignment]  # typer parses the default, too
    until: Annotated[
        Instant | None, typer.Option(parser=_instant, metavar="WHEN", show_default="now", help="as --since")
    ] = None,
    name: NameOption = None,
    without: WithoutOption = None,
    shard: ShardOption = None,
    client: ClientOption = None,
    bucket: BucketOption = None,
    *,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    as_json: JsonOption = False,
) -> None:
    """Show what has happened, from the stream that coordinators with IDENTIFY_HISTORY keep.

    A time of day without a zone is one of this machine's zone, of today or, where that is to come, of yesterday.
    """
    wanted = EventFilter(frozenset(name or ()), frozenset(without or ()), shard, bucket, client)
    finish(show_history(Where.of(server, prefix), wanted, since, until, as_json=as_json))


@app.command(epilog="Exit status: 0 the day suffices; 1 no answer; 2 a wrong option; 3 the day does not suffice.")
def plan(
    shards: Annotated[int, typer.Option(min=1, max=SHARD_ID_MAX + 1, help="that start at once")],
    max_concurrency: Annotated[int | None, typer.Option(min=1, max=4096, help="buckets")] = None,
    remaining: Annotated[int | None, typer.Option(min=0, help="session starts that are left today")] = None,
    total: Annotated[int | None, typer.Option(min=1, help="session starts of a day")] = None,
    reserve: Annotated[int | None, typer.Option(min=0, help="the last ones, for lost sessions only")] = None,
    window: Annotated[
        float | None, typer.Option(min=0, callback=parse_seconds, help="seconds between two turns")
    ] = None,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
) -> None:
    """Compute how long a start of all shards takes, and whether the day suffices, before a deploy.

    What is not given is asked of a coordinator. With --max-concurrency, --remaining and --total none is needed: then
    --reserve is 10 and --window 5.2, a window and its margin.
    """
    given = Figures(max_concurrency, remaining, total, reserve, None if window is None else round(window * 1000))
    where = None if given.suffice else Where.of(server, prefix)
    finish(run_plan(shards, given, where, as_json=as_json))


@app.command(epilog=EPILOG)
def pause(
    for_ms: DurationOption = None,
    below_priority: Annotated[
        int | None, typer.Option(min=-PRIORITY_MAX, max=PRIORITY_MAX + 1, help="those of this priority and above go on")
    ] = None,
    why: WhyOption = "",
    by: ByOption = None,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
) -> None:
    """Grant no turn until resume, or until --for has passed; requests keep their places.

    A second pause replaces the first.
    """
    if for_ms is not None and for_ms > PAUSE_MAX_MS:
        message = "--for: a week at most; without it the pause ends by resume alone"
        raise typer.BadParameter(message)
    named = hands.by_or_default(by)
    body = _build(Pause, by=named, why=why, for_ms=for_ms, below_priority=below_priority)
    finish(hands.run_command(Where.of(server, prefix), Command.PAUSE, body, as_json=as_json))


@app.command(epilog=EPILOG)
def resume(
    why: WhyOption = "",
    by: ByOption = None,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
) -> None:
    """End the pause."""
    body = _build(Resume, by=hands.by_or_default(by), why=why)
    finish(hands.run_command(Where.of(server, prefix), Command.RESUME, body, as_json=as_json))


@app.command(epilog=EPILOG)
def kick(
    request_id: Annotated[str | None, typer.Argument(show_default=False, help="as status --shard shows it")] = None,
    shard: Annotated[int | None, typer.Option("--shard", min=0, max=SHARD_ID_MAX, help="look its requests up")] = None,
    why: WhyOption = "",
    by: ByOption = None,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """End a waiting request. Its shard may ask anew, and then stands at the end of its queue.

    With --shard its requests are looked up; where there are several it asks first.
    """
    if (request_id is None) == (shard is None):
        message = "give either a REQUEST_ID or --shard"
        raise typer.BadParameter(message)
    named = hands.by_or_default(by)

    def body(an_id: str) -> Kick:
        return _build(Kick, by=named, why=why, request_id=an_id)  # type: ignore[no-any-return]  # as asked for

    where = Where.of(server, prefix)
    if shard is not None:
        body("checked")  # --by and --why, before anything is asked
        finish(hands.kick_shard(where, shard, body, is_sure=yes, as_json=as_json))
    finish(hands.run_command(where, Command.KICK, body(request_id or ""), as_json=as_json))


@app.command(epilog=EPILOG)
def release(
    grant_id: Annotated[str, typer.Argument(help="as status --shard shows it")],
    outcome: Annotated[str, typer.Option(help="declined: its shard has not sent IDENTIFY and never will")],
    why: WhyOption = "",
    by: ByOption = None,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
) -> None:
    """Give a granted turn back that its shard provably will not use. A wrong one makes the next IDENTIFY too early.

    It warns, and wants the outcome typed, at a terminal or from standard input.
    """
    body = _build(Release, by=hands.by_or_default(by), why=why, grant_id=grant_id, outcome=outcome)
    where = Where.of(server, prefix)

    async def run() -> int:
        typer.echo(hands.RELEASE_WARNING, err=True)
        await hands.ask(f"Release grant {grant_id}?", outcome)
        return await hands.run_command(where, Command.RELEASE, body, as_json=as_json)

    finish(run())


@app.command(epilog=EPILOG)
def pardon(
    shard: Annotated[int, typer.Argument(min=0, max=SHARD_ID_MAX, help="that looped and is mended")],
    why: WhyOption = "",
    by: ByOption = None,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
) -> None:
    """Forget the crash loop of a shard that is mended, so that it does not wait any longer for it."""
    body = _build(Pardon, by=hands.by_or_default(by), why=why, shard_id=shard)
    finish(hands.run_command(Where.of(server, prefix), Command.PARDON, body, as_json=as_json))


@app.command(epilog=EPILOG)
def handover(
    why: WhyOption = "",
    by: ByOption = None,
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
) -> None:
    """Have the leader give the lead up; another coordinator takes over, in the same order."""
    body = _build(Handover, by=hands.by_or_default(by), why=why)
    finish(hands.run_command(Where.of(server, prefix), Command.HANDOVER, body, as_json=as_json))


@app.command(epilog="Exit status: 0 all is well; 1 there is something to do; 2 an option or a variable is wrong.")
def doctor(
    role: Annotated[str, typer.Option(help="whose permissions are tried: operator, shard or coordinator")] = "operator",
    server: ServerOption = DEFAULT_URL,
    prefix: PrefixOption = "identify",
    *,
    as_json: JsonOption = False,
) -> None:
    """Check NATS, the login and its permissions, the KV bucket, the coordinators, the token and the clock.

    A line for each: it is well, or what to do. What it sends changes nothing. The token is tried where DISCORD_TOKEN or
    DISCORD_TOKEN_FILE is set, by one GET /gateway/bot of DISCORD_API_URL; it is never shown.
    """
    from nats_identify.cli.doctor.run import ROLES, run_doctor  # noqa: PLC0415  # as in top

    if role not in ROLES:
        message = f"--role {role}: give one of {', '.join(ROLES)}"
        raise typer.BadParameter(message)
    finish(run_doctor(Where.of(server, prefix), role, as_json=as_json))


@app.command()
def wait(
    shard: Annotated[int, typer.Argument(min=0, max=SHARD_ID_MAX, help="the shard that wants to identify")],
    within: Annotated[
        float,
        typer.Option(
            min=0,
            callback=parse_seconds,
            help="seconds from the end of this command to IDENTIFY; a grant with less is declined",
        ),
    ] = 2.0,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, callback=parse_seconds, help="give up after this number of seconds; by default never"),
    ] = None,
    priority: Annotated[
        int, typer.Option(min=-PRIORITY_MAX, max=PRIORITY_MAX, help="higher goes first; 1: a session that was lost")
    ] = 0,
    server: Annotated[
        str | None, typer.Option(envvar="NATS_URL", help=f"where NATS is; {DEFAULT_URL} outside of a pod")
    ] = None,
    prefix: Annotated[
        str, typer.Option(callback=parse_prefix, envvar="IDENTIFY_PREFIX", help="of the subjects, one for each bot")
    ] = "identify",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on standard output at the end")] = False,
) -> None:
    """Wait until a shard may identify, for scripts: nats-identify wait 3 && exec bot.

    The bot has --within to send its IDENTIFY, and the bucket is held until the grant's end, whether it does so or not.
    SIGTERM and ctrl-C withdraw the request, and decline a grant; after the last line they do nothing. Progress is shown
    on standard error. The other variables of a login, such as NATS_USER and NATS_PASSWORD, are read as by a bot.

    Exit status: 0 granted; 1 a defect; 2 an option or a variable is wrong; 3 refused, or grants leave less than
    --within; 4 not granted within --timeout; 130 after ctrl-C, 143 after SIGTERM.
    """
    url = server or ("" if in_kubernetes() else DEFAULT_URL)
    try:
        queue = queue_from_environment({**os.environ, "NATS_URL": url, "IDENTIFY_PREFIX": prefix})
    except WrongEnvironmentError as error:
        typer.echo(naming_option(error, server), err=True)
        raise typer.Exit(ExitStatus.BAD_SETTINGS) from error
    assert isinstance(queue, NatsQueue), "there is a URL"  # noqa: S101  # for mypy
    options = WaitOptions(shard, priority, within, timeout)
    console = Console(stderr=True, highlight=False)

    async def run() -> int:
        status = await run_wait(queue, options, as_json=as_json, out=typer.echo, console=console)
        if status == ExitStatus.GRANTED:
            block_signals()  # an exit by a signal would mean that the turn was given back
        return status

    raise typer.Exit(run_until_signalled(run(), status_of=lambda number: 128 + number))
