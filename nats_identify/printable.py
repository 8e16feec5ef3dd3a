r"""Makes text from outside safe to show: escaped, and cut to a length. It writes to no log and no terminal.

A line feed in a reply could forge a log line, an escape sequence rewrite a terminal, a bidirectional override reorder
what is read. Every such character is written as Python writes it in a string, such as ``\n``, ``\x1b``, ``\u202e``.
"""

from typing import Final

SHOWN_MAX: Final = 1024
"""Characters of one text from outside that are shown: as many as `wire.Text` may have."""


def printable(text: object, most: int = SHOWN_MAX) -> str:
    """Return this text on one line, without a character that is not printable.

    Args:
        text: anything with a `str`, such as an error; printable characters, letters of every script among them, stay.
        most: the longest result in characters; a longer text ends in an ellipsis.
    """
    shown = str(text)
    if len(shown) <= most and shown.isprintable():
        return shown
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in shown[: most + 1]
    )
    return escaped if len(escaped) <= most else f"{escaped[:most]}…"


def printable_lines(text: str, margin: str = "  | ") -> str:
    """Return a text of several lines, such as a traceback, with each line escaped and behind a margin.

    No line of it can pass for a line of its own in a log.
    """
    return "\n".join(f"{margin}{printable(line)}" for line in text.split("\n"))
