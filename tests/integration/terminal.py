"""A command at a real terminal of a given size: what it draws, what is typed, and how it leaves the terminal."""

import asyncio
import fcntl
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.processes import ROOT, WITHIN_S, until

_SEQUENCES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)")


class Terminal:
    """One pseudo-terminal, with a command in it."""

    def __init__(self, columns: int, lines: int) -> None:
        self._ours, self.theirs = os.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.theirs)
        self.raw = ""
        self._looked = 0
        self.process: asyncio.subprocess.Process

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    async def start(self, *arguments: str, **environment: str) -> None:
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nats_identify", *arguments),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            preexec_fn=self._control,  # the child alone can make it its controlling terminal
        )

    def _control(self) -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def _read(self) -> None:
        with suppress(OSError):
            self.raw += os.read(self._ours, 65_536).decode(errors="replace")

    def type(self, keys: str) -> None:
        """Press keys; what is drawn from now on is looked at."""
        self._looked = len(self.raw)
        os.write(self._ours, keys.encode())

    @property
    def text(self) -> str:
        """What was drawn since the last key, without what moves the cursor."""
        return _SEQUENCES.sub("", self.raw[self._looked :])

    async def until_drawn(self, text: str) -> None:
        async def look() -> bool:
            assert text in self.text or self.process.returncode is None, self.raw[-3000:]
            return text in self.text

        await until(look, f"it draws {text!r}")

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), WITHIN_S)

    @property
    def is_restored(self) -> bool:
        """Whether the modes are as before, the cursor is shown and the first screen is back."""
        shown = self.raw.rfind("\x1b[?25h") > self.raw.rfind("\x1b[?25l")
        is_back = self.raw.rfind("\x1b[?1049l") > self.raw.rfind("\x1b[?1049h")
        return termios.tcgetattr(self.theirs) == self.before and shown and is_back

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        for file in (self._ours, self.theirs):
            os.close(file)


@asynccontextmanager
async def terminal(*arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> AsyncIterator[Terminal]:
    """Run a command at a terminal in this block."""
    opened = Terminal(columns, lines)
    await opened.start(*arguments, **environment)
    try:
        yield opened
    finally:
        if opened.process.returncode is None:
            os.kill(opened.process.pid, signal.SIGKILL)
            await opened.process.wait()
        opened.close()
