"""The client under test: a process of a command, or one that a person starts. It knows nothing of what is judged."""

import asyncio
import os
import shlex
import signal
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from nats_identify.printable import printable
from nats_identify.processes.local_cluster import environment_without
from nats_identify.testing.client_kit.proxy import HOST
from nats_identify.testing.client_kit.record import Record

LINE_BYTES_MAX: Final = 65_536
LINES_SHOWN: Final = 6
"""Last lines of a client that are shown when it has ended too early."""

SHOWN_MAX: Final = 600
"""Characters of them."""

END_WITHIN_S: Final = 20.0
"""A client that SIGTERM has not ended by then is killed."""

LOGIN: Final = ("NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDS_FILE", "NATS_NKEY_SEED_FILE")
"""Variables of our environment that a client needs at a server that is not the kit's own."""


class ClientUnderTest(Protocol):
    """One run of the client, for one case."""

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start it with these variables."""

    async def end(self) -> None:
        """Ask it to end, and return when it has, or was killed."""


ClientFactory = Callable[[Record], ClientUnderTest]
"""Makes the client of one case; what it prints goes into the record."""


class ClientProcess:
    """A command of the client's author.

    Args:
        command: the program and its arguments, as in a shell; no shell runs it.
        record: takes its lines and its end.
        keeps_login: it needs the login of the environment.
    """

    def __init__(self, command: str, record: Record, *, keeps_login: bool = False) -> None:
        self._command = shlex.split(command)
        self._record = record
        self._keeps_login = keeps_login
        self._last_lines: deque[str] = deque(maxlen=LINES_SHOWN)
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start it; its end is an entry of the record.

        Raises:
            OSError: there is no such program.
        """
        login = {name: os.environ[name] for name in LOGIN if self._keeps_login and name in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**environment_without("NATS_", "IDENTIFY_", "DISCORD_"), **login, **environment},
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )
        self._watcher = asyncio.create_task(self._watch(self._process), name="the client's output")

    async def end(self) -> None:
        """Send SIGTERM to it and to what it started, and SIGKILL if that does not end it."""
        process, watcher = self._process, self._watcher
        if process is None or watcher is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not watcher.done():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                await asyncio.wait({watcher}, timeout=END_WITHIN_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind
        watcher.cancel()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
        readers = [asyncio.create_task(self._read(pipe, is_output=pipe is process.stdout)) for pipe in pipes]
        status = await process.wait()
        await asyncio.wait(readers, timeout=1)  # what a grandchild keeps open is not waited for
        for reader in readers:
            reader.cancel()
        how = f"ended with status {status}" if status >= 0 else f"ended by {signal.Signals(-status).name}"
        said = printable(" | ".join(self._last_lines), SHOWN_MAX)
        self._record.ended(f"{how}; its last lines: {said}" if said else how)

    async def _read(self, pipe: asyncio.StreamReader, *, is_output: bool) -> None:
        while line := await read_line(pipe):
            if is_output:
                self._record.line(line)
            self._last_lines.append(line.rstrip())


class AwaitedClient:
    """A client that a person starts, in a debugger or elsewhere; its output comes over TCP, as from ``| nc``.

    Args:
        record: takes its lines and its end.
        say: shows a line to the person.
    """

    def __init__(self, record: Record, say: Callable[[str], None]) -> None:
        self._record = record
        self._say = say
        self._server: asyncio.Server | None = None
        self._ended = asyncio.Event()

    async def start(self, environment: Mapping[str, str]) -> None:
        """Show how to start it."""
        self._server = await asyncio.start_server(self._accept, HOST, 0, limit=LINE_BYTES_MAX)
        port = self._server.sockets[0].getsockname()[1]
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
        self._say(f"start the client now, so:\n    {variables} YOUR-CLIENT | nc {HOST} {port}")

    async def end(self) -> None:
        """Ask the person to end it."""
        if self._server is None:
            return
        if not self._ended.is_set():
            self._say("end the client now, with SIGTERM, as in: kill PID")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 10 * END_WITHIN_S)
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await read_line(reader):
            self._record.line(line)
        writer.close()
        self._ended.set()
        self._record.ended("ended, by its output")


async def read_line(pipe: asyncio.StreamReader) -> str:
    """Return the next line, cut if it is endless; empty at the end."""
    try:
        line = await pipe.readuntil(b"\n")
    except asyncio.IncompleteReadError as rest:
        line = rest.partial
    except asyncio.LimitOverrunError:
        line = await pipe.read(LINE_BYTES_MAX) or b"\n"
    except OSError:
        line = b""
    return line.decode(errors="replace")
