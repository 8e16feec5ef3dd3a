"""Child processes of the benchmark, which can be killed, frozen and measured; none is left at the end."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nats_identify.processes.local_cluster import environment_without

TOKEN: Final = "MTAw.simulated.token"  # noqa: S105  # opens nothing but the simulated Discord; hikari reads an id in it
STOP_WITHIN_S: Final = 5.0
LINES_KEPT: Final = 20
LINE_BYTES_MAX: Final = 2**22


class Program:
    """One process, and what it prints."""

    def __init__(self, process: asyncio.subprocess.Process, on_line: Callable[[str], None] | None) -> None:
        self._process = process
        self._on_line = on_line
        self._last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.ended = asyncio.ensure_future(process.wait())
        self._readers = [
            asyncio.ensure_future(self._read(pipe, pipe is process.stdout))
            for pipe in (process.stdout, process.stderr)
            if pipe is not None
        ]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """What it printed last; of that, the line that names an error."""
        lines = [line.strip() for line in reversed(self._last_lines) if line.strip()]
        return next((line for line in lines if "Error:" in line), lines[0] if lines else "")

    def write(self, line: str) -> None:
        """Write a line to its standard input."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n".encode())

    def signal(self, number: signal.Signals) -> None:
        """Signal it and what it started."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def freeze(self) -> None:
        """Stop its clock, so that it neither answers nor disconnects; `kill` ends it."""
        self.signal(signal.SIGSTOP)

    async def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        await asyncio.wait({self.ended})

    async def stop(self) -> None:
        """End it in order, and by force after `STOP_WITHIN_S`."""
        self.signal(signal.SIGTERM)
        await asyncio.wait({self.ended}, timeout=STOP_WITHIN_S)
        await self.kill()
        await asyncio.wait(self._readers, timeout=1)
        for reader in self._readers:
            reader.cancel()

    def cpu_s(self) -> float | None:
        """Return the seconds of processor time that it has used; None where the system does not say."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float | None:
        """Return its resident memory in MB; None where the system does not say."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="utf-8").split()[1]
        except OSError:
            return None
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def _read(self, pipe: asyncio.StreamReader, is_output: bool) -> None:
        while line := (await pipe.readline()).decode(errors="replace"):
            if is_output and self._on_line is not None:
                self._on_line(line)
            else:
                self._last_lines.append(line)


class Programs:
    """The processes of one ``async with`` block; each leads a process group of its own."""

    def __init__(self) -> None:
        self._programs: list[Program] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(program.stop() for program in self._programs))

    async def start(
        self, *command: str, on_line: Callable[[str], None] | None = None, settings: Mapping[str, str] | None = None
    ) -> Program:
        """Start one.

        Args:
            command: what to run.
            on_line: called with each line of its standard output.
            settings: variables of its environment, besides ours without those meant for real bots.
        """
        environment = {**environment_without("IDENTIFY_", "NATS_", "DISCORD_"), **(settings or {})}
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )
        program = Program(process, on_line)
        self._programs.append(program)
        return program
