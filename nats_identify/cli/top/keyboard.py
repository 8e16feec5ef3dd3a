"""Reads single keys of the terminal, and gives the terminal back as it was. It decides nothing."""

import asyncio
import os
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_LOCAL_MODES: Final = 3
_CHARACTERS: Final = 6
"""Places in what `termios.tcgetattr` returns."""

READ_MAX: Final = 1024


@contextmanager
def keys(on_key: Callable[[str], None], on_gone: Callable[[], None]) -> Iterator[None]:
    r"""Call ``on_key`` with each key that is pressed in this block; ``on_gone`` when the terminal is gone.

    ctrl-C stays a signal. ctrl-Z and ctrl-\ do nothing: either would leave the screen as it is drawn.
    """
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    mode = termios.tcgetattr(file)
    mode[_LOCAL_MODES] &= ~(termios.ICANON | termios.ECHO)
    for number in (termios.VSUSP, termios.VQUIT):
        mode[_CHARACTERS][number] = b"\0"  # _POSIX_VDISABLE
    mode[_CHARACTERS][termios.VMIN] = 1
    mode[_CHARACTERS][termios.VTIME] = 0

    def read() -> None:
        try:
            data = os.read(file, READ_MAX)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(file)
            on_gone()
        for key in split_keys(data):
            on_key(key)

    loop = asyncio.get_running_loop()
    try:
        termios.tcsetattr(file, termios.TCSADRAIN, mode)
        loop.add_reader(file, read)
        yield
    finally:
        loop.remove_reader(file)
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(file, termios.TCSAFLUSH, before)  # what was typed too late is for no shell


def split_keys(data: bytes) -> list[str]:
    """Return the keys of what was read; an arrow and other keys that send a sequence are dropped whole."""
    text = data.decode(errors="ignore")
    if len(text) > 1 and text.startswith("\x1b"):
        return []
    return list(text)
