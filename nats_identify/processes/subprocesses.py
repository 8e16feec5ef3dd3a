"""Starts child processes, keeps their last lines, and stops all of them at the end."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from nats_identify.printable import printable_lines

LINES_KEPT: Final = 20
ERRORS_KEPT: Final = 15  # of these at most: they show the cause
"""Last lines of a child that are shown when it dies."""

LINE_BYTES_MAX: Final = 65_536

STOP_WITHIN_S: Final = 5.0
"""A child that SIGTERM has not ended by then is killed."""

ResultT = TypeVar("ResultT")


class ChildDiedError(Exception):
    """A process ended although it was still needed; its last lines show why.

    Attributes:
        status: its exit status, negative for a signal; None where it is not known.
    """

    def __init__(self, name: str, status: int | None, last_lines: Iterable[str]) -> None:
        super().__init__("\n".join([f"{name} ended{_how(status)}", *(printable_lines(line) for line in last_lines)]))
        self.status = status


WaitDead = Callable[[], Coroutine[Any, Any, ChildDiedError]]
"""Waits until a process has died; returns how."""


class Child:
    """One child process.

    Attributes:
        name: for people.
        ended: done, with the exit status, when it has ended.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.ended = asyncio.ensure_future(process.wait())
        self._process = process
        self._output: deque[str] = deque(maxlen=LINES_KEPT)
        self._errors: deque[str] = deque(maxlen=LINES_KEPT)
        self._first_line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
        self._readers = [asyncio.ensure_future(self._read(pipe, pipe is process.stdout)) for pipe in pipes]

    async def first_line(self) -> str:
        """Wait for the first line on its standard output; for ever if none comes."""
        return await asyncio.shield(self._first_line)

    async def wait_dead(self) -> ChildDiedError:
        """Wait until it has ended; return how."""
        status = await asyncio.shield(self.ended)
        await self._read_out()
        errors = list(self._errors)[-ERRORS_KEPT:]  # apart: the order between the two pipes is not known
        return ChildDiedError(self.name, status, [*list(self._output)[-(LINES_KEPT - len(errors)) :], *errors])

    async def stop(self) -> None:
        """End it and what it started: SIGTERM, then SIGKILL. Idempotent."""
        self._signal(signal.SIGTERM)
        await asyncio.wait({self.ended}, timeout=STOP_WITHIN_S)
        self._signal(signal.SIGKILL)
        await asyncio.wait({self.ended})
        await self._read_out()

    def _signal(self, number: signal.Signals) -> None:
        """Signal its process group, which it leads; once it has been reaped, its id may be another's."""
        if not self.ended.done():
            with suppress(ProcessLookupError):  # it ended just now
                os.killpg(self._process.pid, number)

    async def _read(self, pipe: asyncio.StreamReader, is_output: bool) -> None:
        while line := await _line(pipe):
            (self._output if is_output else self._errors).append(line.rstrip())
            if is_output and not self._first_line.done():
                self._first_line.set_result(line)

    async def _read_out(self) -> None:
        """Let the readers finish; what a grandchild keeps open is not waited for."""
        if self._readers:
            await asyncio.wait(self._readers, timeout=1)
        for reader in self._readers:
            reader.cancel()
        self._first_line.cancel()


class Children:
    """The child processes of one ``async with`` block: none is left when it ends, however it ends.

    Each leads a process group of its own: a ctrl-C at the terminal reaches this process alone, which then
    ends them in an order that makes sense.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._waits_dead: list[WaitDead] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(child.stop() for child in self._children))

    async def start(
        self, name: str, *command: str, environment: Mapping[str, str] | None = None, shown: bool = False
    ) -> Child:
        """Start a child. Its output is kept, or goes where ours does if it is to be shown."""
        output = None if shown else asyncio.subprocess.PIPE
        starting = asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )
        child = Child(name, await starting)
        self._children.append(child)
        self._waits_dead.append(child.wait_dead)
        return child

    def watch(self, wait_dead: WaitDead) -> None:
        """Watch a process that was started elsewhere as if it were a child."""
        self._waits_dead.append(wait_dead)

    async def run_while_alive(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Return what this work returns, unless a child ends first.

        Raises:
            ChildDiedError: one did; the work is cancelled.
        """
        working = asyncio.ensure_future(work)
        dead = [asyncio.ensure_future(wait_dead()) for wait_dead in self._waits_dead]
        try:
            done, _ = await asyncio.wait({working, *dead}, return_when=asyncio.FIRST_COMPLETED)
            if working in done and not working.cancelled():  # cancelled: its child ended before its first line
                return working.result()
            raise next(wait_dead for wait_dead in dead if wait_dead in done).result()
        finally:
            working.cancel()
            for wait_dead in dead:
                wait_dead.cancel()
            await asyncio.wait({working, *dead})


def block_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP do nothing from here on, for a process that is about to end with its status.

    Else the last of them would end it by itself: an event loop that closes restores what they do by default.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def run_until_signalled(main: Coroutine[Any, Any, int], *, status_of: Callable[[int], int]) -> int:
    """Run to the end, or until SIGINT, SIGTERM or SIGHUP; then run the cleanup first.

    Args:
        main: what to run; it returns the exit status.
        status_of: the exit status after this signal.
    """

    async def run() -> int:
        signalled: list[int] = []
        running = asyncio.ensure_future(main)

        def stop(number: int) -> None:
            if not signalled:  # a second ctrl-C must not interrupt the cleanup
                running.cancel()
            signalled.append(number)

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup wants it
            numbers.append(signal.SIGHUP)
        for number in numbers:
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        try:
            return await running
        except asyncio.CancelledError:
            if not signalled:
                raise
            return status_of(signalled[0])

    return asyncio.run(run())


def _how(status: int | None) -> str:
    if status is None:
        return ""
    return f" with status {status}" if status >= 0 else f" by {signal.Signals(-status).name}"


async def _line(pipe: asyncio.StreamReader) -> str:
    """Return the next line, cut if it is endless; empty at the end."""
    try:
        line = await pipe.readuntil(b"\n")
    except asyncio.IncompleteReadError as rest:
        line = rest.partial
    except asyncio.LimitOverrunError:
        line = await pipe.read(LINE_BYTES_MAX) or b"\n"
    return line.decode(errors="replace")
