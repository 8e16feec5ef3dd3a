"""Where NATS is and how to log in, for the library, the command line and the coordinator alike. It connects to nothing.

What can never work is refused at once, and no error repeats a value.
"""

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from nats.aio.client import Client

from nats_identify.nats_address import GIVE, Addresses, parse_servers
from nats_identify.nats_credentials import make_tls_context, read_credentials, read_seed

DEFAULT_URL: Final = "nats://127.0.0.1:4222"

_VARIABLES: Final = {
    "servers": "NATS_URL",
    "user": "NATS_USER",
    "password": "NATS_PASSWORD",
    "token": "NATS_TOKEN",
    "user_credentials": "NATS_CREDS_FILE",
    "nkeys_seed": "NATS_NKEY_SEED_FILE",
    "tls": "NATS_TLS_CA",
    "tls_handshake_first": "NATS_TLS_HANDSHAKE_FIRST",
    "inbox_prefix": "NATS_INBOX_PREFIX",
}
"""nats-py's name of an option, and the variable that sets it."""

_PEM_FILES: Final = ("NATS_TLS_CA", "NATS_TLS_CERT", "NATS_TLS_KEY")
_LOGINS: Final = ("user", "token", "user_credentials", "nkeys_seed", "nkeys_seed_str")
_FILE_LOGINS: Final = ("user_credentials", "nkeys_seed")
_INBOX: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_YES: Final = {"1", "true", "yes", "on"}
_NO: Final = {"0", "false", "no", "off"}


class NatsOptionsError(ValueError):
    """The options can never work; each problem is one line that names the option or variable and what to give.

    Attributes:
        problems: the lines. None of them repeats a value.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """Where NATS is, and how to log in.

    Attributes:
        addresses: the servers.
        settings: options of `nats.connect`, but for the servers; the credentials of the URL are among them.
        names: what the options are called where they were set; by default as nats-py calls them.
    """

    addresses: Addresses
    settings: Mapping[str, Any] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, servers: str | Sequence[str] = DEFAULT_URL, **options: Any) -> Self:  # noqa: ANN401  # nats-py's own
        """Check and return the options of `nats.connect`; ``servers`` may be a comma-separated list.

        Raises:
            NatsOptionsError: they can never work.
            TypeError: `nats.connect` has no such option.
        """
        unknown = sorted(options.keys() - inspect.signature(Client.connect).parameters.keys())
        if unknown:
            message = f"nats-py has no option {', '.join(unknown)}"
            raise TypeError(message)
        return cls._checked(servers, options, {}, [])

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the ``NATS_`` variables; an empty one is an unset one, and without ``NATS_URL`` it is loopback.

        Raises:
            NatsOptionsError: a variable makes no sense.
        """
        values = {option: environment.get(name) for option, name in _VARIABLES.items()}
        servers = values.pop("servers") or DEFAULT_URL
        options: dict[str, Any] = {option: value for option, value in values.items() if value}
        problems: list[str] = []
        _keep_valid(options, "tls_handshake_first", _yes_or_no, problems)
        options.pop("tls", None)
        try:
            context = make_tls_context(*(environment.get(name) or None for name in _PEM_FILES))
        except ValueError as error:
            problems.append(str(error))
        else:
            options |= {} if context is None else {"tls": context}
        return cls._checked(servers, options, _VARIABLES, problems)

    @classmethod
    def _checked(
        cls, servers: str | Sequence[str], options: dict[str, Any], names: Mapping[str, str], problems: list[str]
    ) -> Self:
        try:
            addresses = parse_servers(servers)
        except ValueError as error:
            problems.append(f"{names.get('servers', 'servers')}: {error}; {GIVE}")
            addresses = Addresses((DEFAULT_URL,), {})
        found = cls(addresses, {**options, **addresses.access}, names)
        problems += found._problems(options)
        if problems:
            raise NatsOptionsError(*problems)
        return found

    @property
    def shown(self) -> str:
        """The servers, for people; it holds no secret."""
        return ", ".join(self.addresses.servers)

    @property
    def wants_tls(self) -> bool:
        """Whether a URL or an option asks for TLS."""
        is_asked = self.settings.get("tls") is not None or self.settings.get("tls_handshake_first")
        return self.addresses.asks_for_tls or bool(is_asked)

    def check(self) -> None:
        """Look at the files again: they may have changed since.

        Raises:
            NatsOptionsError: one cannot be used now.
        """
        problems = self._file_problems()
        if problems:
            raise NatsOptionsError(*problems)

    def _problems(self, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong; ``options`` are those that did not stand in the URL."""
        problems = self._login_problems(options) + self._file_problems()
        inbox = options.get("inbox_prefix")
        if isinstance(inbox, str) and not _INBOX.fullmatch(inbox):
            problems.append(
                f"{self._name('inbox_prefix')}: is no subject prefix; give subject tokens, as in _INBOX_shard.pod-0"
            )
        if self.addresses.is_websocket and options.get("tls_handshake_first"):
            problems.append(f"{self._name('tls_handshake_first')}: is for nats:// and tls://; a wss:// needs none")
        if self.wants_tls and any(server.startswith("ws:") for server in self.addresses.servers):
            problems.append(f"{self._name('servers')}: ws:// has no TLS, which is asked for; give wss://host:port")
        for name in sorted(options):
            is_plain = name in {"signature_cb", "user_jwt_cb"} or options[name] is None
            if name.endswith("_cb") and not is_plain and not inspect.iscoroutinefunction(options[name]):
                problems.append(f"{name}: must be an async function")
        return problems

    def _login_problems(self, options: Mapping[str, Any]) -> list[str]:
        given = [option for option in _LOGINS if options.get(option) is not None]
        problems = [
            f"{self._name(one)}: is set without {self._name(other)}; set both or neither"
            for one, other in (("user", "password"), ("password", "user"))
            if options.get(one) is not None and options.get(other) is None
        ]
        if self.addresses.access:
            given.insert(0, "servers")
        # nats-py sends a token beside a key, for an auth callout; a variable for each is a mistake.
        if not self.names and "servers" not in given and "token" in given and {*given} & {*_FILE_LOGINS}:
            given.remove("token")
        if len(given) > 1:
            first = "servers" in given and f"{self._name('servers')}: has credentials in it and is set"
            others = " and ".join(self._name(option) for option in given[1:])
            problems.append(f"{first or f'{self._name(given[0])}: is set'} together with {others}; keep one of them")
        return problems

    def _file_problems(self) -> list[str]:
        checks: dict[str, Callable[[Any], object]] = {"user_credentials": read_credentials, "nkeys_seed": read_seed}
        problems = []
        for option, read in checks.items():
            source = self.settings.get(option)
            if source is None or isinstance(source, tuple):  # two files of nats-py's own kind
                continue
            try:
                read(source)
            except ValueError as error:
                problems.append(f"{self._name(option)}: {error}")
        return problems

    def _name(self, option: str) -> str:
        return self.names.get(option, option)


def _keep_valid(options: dict[str, Any], option: str, parse: Callable[[str], Any], problems: list[str]) -> None:
    """Replace the text of an option by its value; drop it where it has none, and say so."""
    if option in options:
        try:
            options[option] = parse(options[option])
        except ValueError as error:
            problems.append(f"{_VARIABLES[option]}: {error}")
            del options[option]


def _yes_or_no(text: str) -> bool:
    if text.strip().lower() not in _YES | _NO:
        message = "is neither yes nor no; give 1 or 0"
        raise ValueError(message)
    return text.strip().lower() in _YES
