"""What tests of the command line hold: one `nats-identify` process, what it says, and all that it has started."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.processes import ROOT, WITHIN_S, until

_MARK: Final = "TEST_MARK"


class Command:
    """A running command; every process that it starts inherits its mark, however it detaches itself."""

    def __init__(self, process: asyncio.subprocess.Process, mark: bytes, output_file: Path) -> None:
        self.process = process
        self._mark = mark
        self._output_file = output_file

    @property
    def output(self) -> str:
        return self._output_file.read_text()

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()

    def family(self, word: str = "") -> list[int]:
        """The ids of all its processes whose command line holds the word."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = self._mark in (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes().decode()
            except OSError:
                continue  # it has just ended, or is another's
            if is_ours and word in command:
                found.append(int(folder.name))
        return found

    async def until_said(self, text: str) -> None:
        async def look() -> bool:
            assert text in self.output or self.process.returncode is None, self.output
            return text in self.output

        await until(look, f"it says {text!r}")

    async def ended_or_said(self, text: str) -> str:
        """Return which of the two came first."""

        async def look() -> str:
            return "said" if text in self.output else "ended" if self.process.returncode is not None else ""

        return await until(look, f"it ends or says {text!r}")

    async def ended(self) -> int:
        """Return the exit status."""
        return await asyncio.wait_for(self.process.wait(), WITHIN_S)

    async def end(self, how: signal.Signals) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(how)
        return await self.ended()

    async def interrupt(self) -> int:
        """Press ctrl-C at its terminal: every process of its group hears it. Return the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return await self.ended()


@asynccontextmanager
async def command(folder: Path, *arguments: str, **environment: str) -> AsyncIterator[Command]:
    """Run a command in this block; its temporary files go into the folder."""
    mark = secrets.token_hex(8)
    output_file = folder / f"output-{mark}.txt"
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    with output_file.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nats_identify", *arguments),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(temporary), _MARK: mark, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    running = Command(process, f"{_MARK}={mark}".encode(), output_file)
    try:
        yield running
    finally:
        for process_id in running.family():
            os.kill(process_id, signal.SIGKILL)
        await process.wait()
