"""Reads the addresses of NATS servers, and the credentials in them. Pure: it resolves no name and connects to nothing.

No error repeats any part of an address: what stands before, or should stand before, the ``@`` is a secret.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from typing import Final
from urllib.parse import unquote

GIVE: Final = "give nats://host:port, or several of them separated by commas"

_TCP: Final = ("nats", "tls")
_WEBSOCKET: Final = ("ws", "wss")
_DEFAULT_PORT: Final = 4222
_HIGHEST_PORT: Final = 65_535
_PLACE: Final = re.compile(r"(?P<host>[^\s/:?#\[\]%\\]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[^/]*))?(?P<path>/\S*)?")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The servers of one NATS system.

    Attributes:
        servers: URLs without credentials.
        access: the credentials that the URLs held, by nats-py's own names: ``user`` and ``password``, or ``token``.
    """

    servers: tuple[str, ...]
    access: Mapping[str, str] = field(repr=False)

    @property
    def asks_for_tls(self) -> bool:
        """Whether any URL says so."""
        return any(server.startswith(("tls:", "wss:")) for server in self.servers)

    @property
    def is_websocket(self) -> bool:
        """Whether the servers are reached over websockets."""
        return self.servers[0].startswith(("ws:", "wss:"))


def parse_servers(servers: str | Sequence[str]) -> Addresses:
    """Read a URL, a comma-separated list of URLs, or a sequence of either.

    Credentials are what stands between ``://`` and the last ``@``: ``user:password`` or a token. They are
    percent-decoded; only a comma, a colon in the user's name and a percent sign must be encoded.

    Raises:
        ValueError: an address can never work; the message says which one and why, and repeats no part of it.
        TypeError: this is neither a string nor a sequence of strings.
    """
    texts = [servers] if isinstance(servers, str) else list(servers)
    if not all(isinstance(text, str) for text in texts):
        message = "servers are a string or a sequence of strings"
        raise TypeError(message)
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if not parts:
        message = "names no server"
        raise ValueError(message)
    _refuse_cut_credentials(parts)
    parsed = [_parse(part, f"server {number}" if len(parts) > 1 else "it") for number, part in enumerate(parts, 1)]
    schemes = {url.partition(":")[0] for url, _ in parsed}
    if schemes & {*_TCP} and schemes & {*_WEBSOCKET}:
        message = "ws:// or wss:// cannot be mixed with nats:// or tls://"
        raise ValueError(message)
    if schemes & {*_WEBSOCKET} and find_spec("aiohttp") is None:
        message = "ws:// and wss:// need aiohttp, which is not installed"
        raise ValueError(message)
    return Addresses(tuple(dict.fromkeys(url for url, _ in parsed)), _common(access for _, access in parsed if access))


def _refuse_cut_credentials(parts: Sequence[str]) -> None:
    """Refuse what a comma inside of a password looks like: ``nats://user:1,2@host``."""
    for before, part in pairwise(parts):
        if "@" in part and "://" not in part and "@" not in before:
            message = "a comma in the credentials must be written as %2C"
            raise ValueError(message)


def _parse(text: str, which: str) -> tuple[str, dict[str, str]]:
    """Return the URL without credentials, and the credentials."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "nats", text
    scheme = scheme.lower()
    if scheme not in (*_TCP, *_WEBSOCKET):
        message = f"{which} begins with no scheme of NATS, which are nats://, tls://, ws:// and wss://"
        raise ValueError(message)
    secret, at, place = rest.rpartition("@")
    return f"{scheme}://{_place(place, scheme, which)}", _credentials(secret, which) if at else {}


def _place(text: str, scheme: str, which: str) -> str:
    found = _PLACE.fullmatch(text)
    if found is None or found["host"].lower() == "none" or not _is_resolvable(found["host"]):
        message = f"{which} names no valid host; an IPv6 address stands in brackets"
        raise ValueError(message)
    port, path = found["port"], found["path"] or ""
    if port is not None and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= _HIGHEST_PORT):
        message = f"{which} has a port that is no number from 1 to {_HIGHEST_PORT}"
        raise ValueError(message)
    if path not in {"", "/"} and scheme in _TCP:
        message = f"{which} has a path after the port"
        raise ValueError(message)
    if scheme in _TCP:
        return f"{found['host']}:{port or _DEFAULT_PORT}"
    return f"{found['host']}{f':{port}' if port else ''}{path}"


def _is_resolvable(host: str) -> bool:
    """Whether a resolver takes it: an empty label, as in ``a..b``, or one of more than 63 bytes is no name."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _credentials(secret: str, which: str) -> dict[str, str]:
    user, colon, password = secret.partition(":")
    if not user or (colon and not password):
        message = f"{which} has an empty user name, password or token before the @"
        raise ValueError(message)
    try:
        user, password = unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        message = f"{which} has credentials whose percent-encoding is not UTF-8"
        raise ValueError(message) from None
    return {"user": user, "password": password} if colon else {"token": user}


def _common(found: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return the one set of credentials: the servers that a cluster names later need them as well."""
    different = list(found)
    if any(access != different[0] for access in different):
        message = "the servers have different credentials; servers of one system have the same"
        raise ValueError(message)
    return different[0] if different else {}
