"""Texts that people give for a bot's token, for the program and for `make-secrets`: what is taken, and what is said."""

from typing import Final

TOKEN: Final = "MTAw.the-bot_s.hunter2"  # noqa: S105  # what must be read, and shown nowhere

MEANT: Final[dict[str, bytes]] = {
    "as it is": TOKEN.encode(),
    "a line": f"{TOKEN}\n".encode(),
    "a line of Windows": f"{TOKEN}\r\n".encode(),
    "blanks around it": f" \t{TOKEN}  ".encode(),
    "empty lines around it": f"\n\n{TOKEN}\n\n".encode(),
    "Bot in front": f"Bot {TOKEN}".encode(),
    "bot and two blanks in front": f"bot  {TOKEN}\n".encode(),
    "double quotes": f'"{TOKEN}"\n'.encode(),
    "single quotes": f"'{TOKEN}'".encode(),
    "quotes around all": f'"Bot {TOKEN}"'.encode(),
    "quotes after Bot": f'Bot "{TOKEN}"'.encode(),
    "quotes with blanks": f'" {TOKEN} "'.encode(),
    "a byte-order mark": f"\ufeff{TOKEN}\r\n".encode(),
    "a byte-order mark in quotes": f'"\ufeff{TOKEN}"'.encode(),
    "UTF-16 of PowerShell": f"\ufeff{TOKEN}\r\n".encode("utf-16-le"),
    "UTF-16, the other": f"\ufeffBot {TOKEN}\r\n".encode("utf-16-be"),
    "a no-break space": f"{TOKEN}\u00a0\n".encode(),
    "zero-width spaces": f"\u200b{TOKEN}\u2060".encode(),
}
"""Each of them means `TOKEN`."""

WRONG: Final[dict[str, tuple[bytes, str]]] = {
    "nothing": (b"", "no token"),
    "blanks": (b" \r\n\t", "no token"),
    "empty quotes": (b'""', "no token"),
    "Bot alone": (b"Bot \n", "no token"),
    "a byte-order mark alone": (b"\xef\xbb\xbf", "no token"),
    "Bearer": (f"Bearer {TOKEN}".encode(), "OAuth2"),
    "an assignment": (f"DISCORD_TOKEN={TOKEN}".encode(), "assignment"),
    "an exported assignment": (f'export DISCORD_TOKEN="{TOKEN}"'.encode(), "assignment"),
    "a header": (f"Authorization: Bot {TOKEN}".encode(), "a blank or a line break"),
    "two words": (f"{TOKEN} {TOKEN}".encode(), "a blank or a line break"),
    "two lines": (f"{TOKEN}\n{TOKEN}\n".encode(), "a blank or a line break"),
    "a NUL": (f"{TOKEN}\0{TOKEN}".encode(), "a character that no token has"),
    "a control character": (f"{TOKEN}\x1b[0m".encode(), "a character that no token has"),
    "a letter beyond ASCII": (f"{TOKEN}ümlaut".encode(), "a character that no token has"),
    "typographic quotes": (f"“{TOKEN}”".encode(), "a character that no token has"),
    "a quote without its other": (f'"{TOKEN}'.encode(), "a quote that has no other"),
    "quotes that do not fit": (f"'{TOKEN}\"".encode(), "a quote that has no other"),
    "much too long": (TOKEN.encode() * 30, "longer than 512"),
}
"""Each of them is refused, with these words."""
