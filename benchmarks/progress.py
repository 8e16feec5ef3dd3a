"""Shows how far the benchmark is: one line that changes on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Final, TextIO

PLAIN_EVERY_S: Final = 10.0
"""Seconds between two lines about the same scenario where there is no terminal."""


class Progress:
    """Where the benchmark says what it does.

    Args:
        output: a terminal, or a file.
    """

    def __init__(self, output: TextIO = sys.stderr) -> None:
        self._output = output
        self._is_terminal = output.isatty()
        self._title = ""
        self._said_at_s = float("-inf")
        self._begun_s = time.monotonic()

    def begin(self, title: str) -> None:
        """Begin a part."""
        self._title = title
        self._begun_s = time.monotonic()
        self._write(title, is_final=True)
        self._said_at_s = time.monotonic()

    def say(self, text: str) -> None:
        """Say how far it is; may be called often."""
        now_s = time.monotonic()
        if self._is_terminal or now_s - self._said_at_s >= PLAIN_EVERY_S:
            self._said_at_s = now_s
            self._write(f"  {now_s - self._begun_s:4.0f} s  {text}", is_final=not self._is_terminal)

    def end(self, text: str) -> None:
        """Say a result, which stays."""
        self._write(f"  {text}", is_final=True)

    def _write(self, text: str, *, is_final: bool) -> None:
        end = "\n" if is_final else ""
        start = "\r\x1b[K" if self._is_terminal else ""
        self._output.write(f"{start}{text if is_final else text[:150]}{end}")
        self._output.flush()
