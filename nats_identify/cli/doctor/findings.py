"""What a check found: a line that says it is well, or what to do. It checks nothing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Level(StrEnum):
    """How a check ended."""

    WELL = "well"
    NOTE = "note"
    TODO = "todo"


_MARKS: Final = {Level.WELL: "✓", Level.NOTE: "·", Level.TODO: "✗"}
_PLAIN_MARKS: Final = {Level.WELL: "ok  ", Level.NOTE: "note", Level.TODO: "TODO"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line.

    Attributes:
        level: whether there is something to do.
        check: what was looked at, in a word or two.
        text: what was found, and what to do.
    """

    level: Level
    check: str
    text: str

    def line(self, *, is_utf8: bool) -> str:
        """Write it for people; without UTF-8 the mark is a word."""
        mark = (_MARKS if is_utf8 else _PLAIN_MARKS)[self.level]
        return f"{mark} {self.check}: {self.text}"


def well(check: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(Level.WELL, check, text)


def note(check: str, text: str) -> Finding:
    """It is worth knowing; nothing need be done."""
    return Finding(Level.NOTE, check, text)


def todo(check: str, text: str) -> Finding:
    """Something must be done: the text says what."""
    return Finding(Level.TODO, check, text)
