"""The commands that change the queue: pause, resume, kick, release, pardon, handover. The leader carries them out."""

import asyncio
import sys
from collections.abc import Callable
from typing import Final

import typer

from nats_identify.cli.operator import ShardRequests, connected
from nats_identify.cli.options import CommandError, Exit, Where, as_line, operator_name
from nats_identify.cli.status import named_shard
from nats_identify.cli.when import show_ms
from nats_identify.operator_wire import PAGE_MAX, Command, Done, Kick, NotDone
from nats_identify.printable import printable
from nats_identify.wire import Message

RELEASE_WARNING: Final = """\
Release gives a granted turn back and opens its bucket at once. If the shard has sent IDENTIFY, or still may, the next
IDENTIFY of this bucket is too early: Discord answers Invalid Session, and that start is lost. Release a grant only when
its process is provably gone. Without a release the bucket opens by itself."""


def by_or_default(by: str | None) -> str:
    """Return the operator's name."""
    return by or operator_name()


async def send(where: Where, command: Command, body: Message) -> Done | NotDone:
    """Connect, have the leader do it, and return its reply."""
    async with connected(where) as operator:
        return await operator.command(command, body)


def report(reply: Done | NotDone, *, as_json: bool) -> Exit:
    """Print what was done, or why not. Return the exit status."""
    if as_json:
        typer.echo(as_line(reply))
    elif isinstance(reply, Done):
        typer.echo(f"done: {printable(reply.message)}" + (f" (term {reply.term})" if reply.term else ""))
    else:
        typer.echo(f"not done ({reply.code}): {printable(reply.message)}", err=True)
    return Exit.DONE if isinstance(reply, Done) else Exit.REFUSED


async def run_command(where: Where, command: Command, body: Message, *, as_json: bool) -> int:
    """Have the leader do it, and print what it did. Return the exit status."""
    return report(await send(where, command, body), as_json=as_json)


async def requests_of(where: Where, shard_id: int) -> ShardRequests:
    """Return the requests of a shard, of which one at least waits.

    Raises:
        CommandError: it has none.
    """
    async with connected(where) as operator:
        found = await operator.requests_of(shard_id)
    if found.waiting:
        return found
    if found.is_granted:
        message = f"shard {shard_id} is granted already: nothing waits that could be ended"
    else:
        message = f"shard {shard_id} has no request here: nothing waits that could be ended"
    raise CommandError(message, Exit.REFUSED)


async def kick_shard(where: Where, shard_id: int, kick: Callable[[str], Kick], *, is_sure: bool, as_json: bool) -> int:
    """End the requests of a shard, after a question where there are several. Return the exit status.

    Raises:
        CommandError: there is none, or the question was answered with no.
    """
    found = await requests_of(where, shard_id)
    count = len(found.waiting)
    if count > 1 and not is_sure:
        for request in found.waiting[:PAGE_MAX]:
            waited = show_ms(request.waited_ms)
            name = printable(request.request_id, 64)
            typer.echo(f"{named_shard(request)}: request {name}, position {request.position}, waits {waited}", err=True)
        if count > PAGE_MAX:
            typer.echo(f"and {count - PAGE_MAX} more", err=True)
        await ask(f"Shard {shard_id} has {count} requests. End all of them?")
    worst = Exit.DONE
    async with connected(where) as operator:
        for request in found.waiting:
            reply = await operator.command(Command.KICK, kick(request.request_id))
            worst = max(worst, report(reply, as_json=as_json))
    if found.left_out:
        more = f"{found.left_out} more requests of shard {shard_id} were not looked up: give the command again"
        typer.echo(more, err=True)
        worst = max(worst, Exit.FAILED)
    return worst


async def ask(question: str, word: str | None = None) -> None:
    """Ask on standard error, and read the answer from standard input.

    Args:
        question: for people.
        word: what must be typed; None: yes or no.

    Raises:
        CommandError: the answer is no, or there is no standard input to read it from.
    """
    typer.echo(f"{question} {f'Type {word}' if word else '[y/N]'}: ", nl=False, err=True)
    answer = await _line_of_input()
    if not answer:
        typer.echo("", err=True)
        advice = "" if word else "; give --yes where there is no terminal"
        message = f"nothing was done: there was no answer{advice}"
        raise CommandError(message, Exit.REFUSED)
    if answer.strip().lower() not in ({word} if word else {"y", "yes"}):
        message = "nothing was done"
        raise CommandError(message, Exit.REFUSED)


async def _line_of_input() -> str:
    """Read a line without a thread, which could not be interrupted; empty at the end of the input, or without one."""
    if sys.stdin is None:  # closed before this process began, as by ``<&-``
        return ""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    try:
        loop.add_reader(sys.stdin, read)
    except (OSError, ValueError):  # a file, which is always ready
        return sys.stdin.readline()
    try:
        return await line
    finally:
        loop.remove_reader(sys.stdin)
