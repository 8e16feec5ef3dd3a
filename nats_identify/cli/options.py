"""What the commands of `nats-identify` share: their common options, their exit status, and how an ending is reported.

It connects to nothing. One command's own options are in `commands`.
"""

import getpass
import json
import math
import os
import re
import socket
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Final

import typer
from pydantic import BaseModel
from rich.console import Console

from nats_identify import wire
from nats_identify.cli.when import parse_duration_ms
from nats_identify.client.environment import WrongEnvironmentError, nats_options
from nats_identify.nats_options import NatsOptions
from nats_identify.printable import printable
from nats_identify.processes.subprocesses import run_until_signalled
from nats_identify.queue import SHARD_ID_MAX


class Exit(IntEnum):
    """The exit status of every command, beside 128 and the number of the signal that ended it."""

    DONE = 0
    FAILED = 1
    WRONG_OPTION = 2
    REFUSED = 3
    TIMED_OUT = 4


class CommandError(Exception):
    """A command ends here. The message says why, and what to do.

    Attributes:
        status: the exit status.
    """

    def __init__(self, message: str, status: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.status = status


EPILOG: Final = (
    "Exit status: 0 done; 1 no answer, or it failed; 2 an option or a variable is wrong; 3 refused, or not enough; "
    "4 not in time; 130 after ctrl-C, 143 after SIGTERM."
)
"""The same for every command that has nothing of its own to say."""

PLAIN_COLUMNS: Final = 400
"""Of a table that is piped: eight shards with the longest names a bucket fit."""


def parse_prefix(text: str) -> str:
    """Check a prefix of subjects."""
    try:
        return wire.Subjects(text).prefix
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_seconds(duration_s: float | None) -> float | None:
    """Check a finite number of seconds."""
    if duration_s is not None and not math.isfinite(duration_s):
        message = f"{duration_s}: give a number of seconds"
        raise typer.BadParameter(message)
    return duration_s


_RANGE: Final = re.compile(r"\d+(\.\d+)?(:\d+(\.\d+)?)?")


def parse_milliseconds(text: str) -> str:
    """Check milliseconds, or a range of them, for the demo."""
    if not _RANGE.fullmatch(text):
        message = f"{text!r}: give milliseconds, as in 40, or LOWEST:HIGHEST, as in 20:60"
        raise typer.BadParameter(message)
    low, _, high = text.partition(":")
    if high and float(high) < float(low):
        message = f"{text!r}: the lowest comes first"
        raise typer.BadParameter(message)
    return text


def _parse_duration(text: str) -> int:
    try:
        return parse_duration_ms(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def operator_name() -> str:
    """Return ``user@host`` of this process, for people: NATS does not pass on the user of a publisher."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as in many containers
        user = f"{os.getuid()}"
    return wire.client_name(f"{user}@{socket.gethostname()}")


_PREFIX: Final = typer.Option(callback=parse_prefix, envvar="IDENTIFY_PREFIX", help="of the subjects, one for each bot")
_SHARD: Final = typer.Option("--shard", min=0, max=SHARD_ID_MAX, help="of this shard id alone")
_BUCKET: Final = typer.Option("--bucket", min=0, help="of this bucket alone")
_CLIENT: Final = typer.Option("--client", help="of this client alone, such as a pod")

ServerOption = Annotated[str, typer.Option(envvar="NATS_URL", help="where NATS is")]
PrefixOption = Annotated[str, _PREFIX]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, one object a line")]
ByOption = Annotated[
    str | None, typer.Option("--by", show_default="user@host", help="who does it, for the events and the log")
]
WhyOption = Annotated[str, typer.Option("--why", help="for the events and the log; 200 characters at most")]
YesOption = Annotated[bool, typer.Option("--yes", help="ask no question")]
ShardOption = Annotated[int | None, _SHARD]
BucketOption = Annotated[int | None, _BUCKET]
ClientOption = Annotated[str | None, _CLIENT]
NameOption = Annotated[list[str] | None, typer.Option("--name", help="of this name, as in granted; may be repeated")]
WithoutOption = Annotated[
    list[str] | None, typer.Option("--without", help="leave events of this name out; may be repeated")
]
DurationOption = Annotated[
    int | None, typer.Option("--for", parser=_parse_duration, metavar="DURATION", help="as in 90s, 10m or 1h30m")
]


@dataclass(frozen=True, slots=True)
class Where:
    """Which queue is meant.

    Attributes:
        nats: where NATS is, and how to log in.
        prefix: of the subjects.
    """

    nats: NatsOptions
    prefix: str

    @classmethod
    def of(cls, server: str, prefix: str) -> "Where":
        """Read the rest of the login from the environment, as a coordinator does.

        Raises:
            typer.Exit: an option or a variable is wrong; it was reported.
        """
        try:
            return cls(nats_options({**os.environ, "NATS_URL": server}), prefix)
        except WrongEnvironmentError as error:
            typer.echo(naming_option(error, server), err=True)
            raise typer.Exit(Exit.WRONG_OPTION) from error


def naming_option(error: WrongEnvironmentError, server: str | None) -> str:
    """Return what is wrong, with ``--server`` named where that was given and not ``NATS_URL``."""
    is_option = bool(server) and server != os.environ.get("NATS_URL")
    return str(error).replace("NATS_URL", "--server", 1) if is_option else str(error)


def finish(running: Coroutine[Any, Any, int]) -> None:
    """Run a command to its end, report why it failed on standard error, and exit with its status."""

    async def run() -> int:
        try:
            return await running
        except CommandError as error:
            typer.echo(str(error), err=True)
            return error.status

    raise typer.Exit(run_until_signalled(run(), status_of=lambda number: 128 + number))


def as_line(value: BaseModel | dict[str, Any]) -> str:
    """Return JSON in ASCII on one line: no text from outside can reach a terminal as it is."""
    body = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(body, default=printable)


def table_console() -> Console:
    """Return standard output; where it is no terminal, no line of a table is broken."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_COLUMNS)
