"""Reads a bot's token as it was meant, from text that a person pasted or a tool wrote. It sends it nowhere.

`deploy/k8s/make-secrets` does the same in a shell; one table of inputs tests both.
"""

import re
from typing import Final

TOKEN_CHARACTERS_MAX: Final = 512
"""Discord's tokens have about 70 characters; a longer text is something else, such as a whole file."""

_BOM: Final = "\ufeff"
_INVISIBLE: Final = f"{_BOM}\u200b\u2060"  # byte-order mark, zero-width space, word joiner: pasted along, never seen
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_ASSIGNMENT: Final = re.compile(r"(export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=")


class BotTokenError(ValueError):
    """The text holds no bot token. The message says what is wrong and what to do, and repeats nothing of the text."""


def decode_bot_token(content: bytes) -> str:
    """Return the token in the content of a file: UTF-8, or UTF-16 with its byte-order mark, as PowerShell writes it.

    Raises:
        BotTokenError: it holds none.
    """
    try:
        text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8")
    except UnicodeDecodeError:
        message = "is not text in UTF-8; put the bot's token into it, on one line"
        raise BotTokenError(message) from None
    return clean_bot_token(text)


def clean_bot_token(text: str) -> str:
    """Return the token without what is often pasted along with it.

    Removed are blanks and line breaks around it, a byte-order mark, quotes around it, and ``Bot `` in front of it.

    Args:
        text: the value of a variable, or an argument.

    Raises:
        BotTokenError: no token is left, or what is left cannot be one.
    """
    token = _strip(text)
    problem = _problem(token)
    if problem is not None:
        raise BotTokenError(problem)
    return token


def _strip(text: str) -> str:
    """Remove wrappings until none is left: they are nested in any order, as in ``"Bot …"`` and ``Bot "…"``."""
    while True:
        inner = re.sub(rf"^[\s{_INVISIBLE}]+|[\s{_INVISIBLE}]+$", "", text)
        if len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "\"'":
            inner = inner[1:-1]
        inner = re.sub(r"^[Bb][Oo][Tt](\s+|$)", "", inner)
        if inner == text:
            return inner
        text = inner


def _problem(token: str) -> str | None:
    """Return what is wrong with it and what to do, or None."""
    if not token:
        return "holds no token; give the bot's token, from the page Bot of Discord's developer portal"
    if re.match(r"Bearer\s", token, re.IGNORECASE):
        return "holds an OAuth2 token (Bearer), which no bot can use; give the bot's token"
    if _ASSIGNMENT.match(token):
        return "holds an assignment (NAME=…); give the bot's token alone"
    if re.search(r"\s", token):
        return "holds a blank or a line break inside of the token; give the bot's token alone, on one line"
    if not re.fullmatch(r"[!-~]+", token):
        return "holds a character that no token has (a control character, or one beyond ASCII); copy the token again"
    if {token[0], token[-1]} & {'"', "'"}:
        return "begins or ends with a quote that has no other; give the bot's token without quotes"
    if len(token) > TOKEN_CHARACTERS_MAX:
        return f"is longer than {TOKEN_CHARACTERS_MAX} characters, so it is no token; give the bot's token alone"
    return None
