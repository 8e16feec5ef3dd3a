"""The settings of a coordinator, from its environment, checked before anything starts. It connects to nothing.

Seconds become integer nanoseconds here, once; no message ever repeats the value of a secret.
"""

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from socket import gethostname
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from coordinator.core import settings as core_settings
from nats_identify.client.requester import USE_WITHIN_MAX_NS
from nats_identify.clock import NS_PER_S
from nats_identify.discord.bot_token import BotTokenError, clean_bot_token, decode_bot_token
from nats_identify.discord.session_limit import check_api_url
from nats_identify.nats_options import NatsOptions, NatsOptionsError
from nats_identify.schedule.model import BUCKETS_MAX, DAY, SECOND, Limits, Timing
from nats_identify.wire import Subjects

STATIC_MAX_CONCURRENCY: Final = 1
STATIC_TOTAL: Final = 1000
"""What Discord allows a bot that it has not granted more: the docs' own figures."""

CRASH_LOOP_GRANTS_MAX: Final = 100
"""The ledger stores these grants, so there is a maximum. A shard that identifies more often than this is broken."""

HTTP_TOKEN_MAX: Final = 512
"""The longest token of the queue over HTTP, in characters."""

GRACES_IN_USE_WITHIN: Final = 3
"""A grant has two fifths of its time left or more when it is made; the 200 needs a whole grace of it."""

HISTORY_MAX_NS: Final = 366 * DAY
_HISTORY: Final = re.compile(r"([0-9]{1,6})([mhd])", re.ASCII)
_UNITS_NS: Final = {"m": 60 * SECOND, "h": 3600 * SECOND, "d": DAY}

_HTTP_TOKEN: Final = re.compile(rf"[!-~]{{1,{HTTP_TOKEN_MAX}}}")
_HOSTS: Final = r"^[A-Za-z0-9.\-, ]*$"

Seconds = Annotated[float, Field(allow_inf_nan=False, ge=0, le=86_400)]
SomeSeconds = Annotated[float, Field(allow_inf_nan=False, gt=0, le=86_400)]


class SettingsError(Exception):
    """The operator must change the environment: one line for each variable, naming it and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class Settings(BaseSettings):
    """Every variable of a coordinator; a field's name in capitals is the variable's name."""

    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True, frozen=True, extra="ignore")

    # Checked by `NatsOptions`, as they are for a bot and for the command line.
    nats_url: SecretStr | None = None
    nats_creds_file: str | None = None
    nats_nkey_seed_file: str | None = None
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_token: SecretStr | None = None
    nats_tls_ca: str | None = None
    nats_tls_cert: str | None = None
    nats_tls_key: str | None = None
    nats_tls_handshake_first: str | None = None
    nats_inbox_prefix: str | None = None

    discord_token: SecretStr | None = Field(None, description="the bot's token")
    discord_token_file: FilePath | None = Field(None, description="a readable file with the bot's token")
    discord_api_url: str = Field(
        # What it names is logged: a user or password in it would be shown.
        "https://discord.com/api/v10",
        pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
        description="an http(s) address without a user, a password or a query",
    )

    identify_prefix: str = Field("identify", description="subject tokens, one prefix for each bot token")
    # Discord's docs: 5 s between two IDENTIFYs of one bucket.
    identify_window: SomeSeconds = Field(5, description="seconds above 0; Discord's window is 5")
    # Bots still see Invalid Session at exactly 5 s; the larger libraries add 0.1 to 1 s.
    identify_margin: Seconds = Field(0.2, description="seconds, 0 or more; added to the window")
    # As long as a window: time enough to connect, short enough not to stall a bucket.
    identify_use_within: float = Field(
        5,
        gt=0,
        le=USE_WITHIN_MAX_NS / NS_PER_S,  # the client library uses a grant no longer, whatever the reply
        allow_inf_nan=False,
        description="seconds above 0, 60 at most; how long a grant may be used",
    )
    # A plain requester does not answer its grant; it is assumed to identify within this.
    identify_grace: SomeSeconds = Field(1, description="seconds above 0; added to a plain grant's window")
    # Three heartbeats fit into a lease; below half a second a slow disk looks like a dead leader.
    identify_lease: float = Field(
        3, ge=0.5, le=300, allow_inf_nan=False, description="seconds, 0.5 to 300; a standby takes over after it"
    )
    identify_fresh_start: bool = Field(False, description="1 or 0; 1 only with an empty store")
    identify_crash_loop_grants: int = Field(
        10, ge=0, le=CRASH_LOOP_GRANTS_MAX, description="grants of one shard in a period, 1 to 100; 0: no guard"
    )
    identify_crash_loop_period: SomeSeconds = Field(3600, description="seconds above 0")
    identify_max_waiting: int = Field(200_000, ge=1, description="requests, 1 or more")
    identify_max_concurrency: int | None = Field(
        None, ge=1, le=BUCKETS_MAX, description=f"buckets, 1 to {BUCKETS_MAX}; unset: Discord's"
    )
    identify_session_total: int | None = Field(None, ge=1, description="session starts a day; unset: Discord's")
    identify_session_reserve: int = Field(10, ge=0, description="session starts kept for priority 1 and above")
    identify_kv_replicas: int | None = Field(
        None, ge=1, le=5, description="1, 3 or 5 copies; unset: 1 on one NATS server, 3 on a cluster"
    )
    identify_kv_max_bytes: int | None = Field(
        None, ge=4096, description="bytes of the KV bucket that it makes, 4096 or more; unset: no limit"
    )
    identify_history: str | None = Field(
        None,
        description="a whole number and m, h or d, as in 90m, 24h or 7d, a year at most; unset: no history is kept",
    )
    identify_history_max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024 * 1024, description="bytes of the history, 1048576 or more"
    )

    identify_http_host: str = Field("127.0.0.1", description="an address of this machine; ::, all of both families")
    identify_http_port: int = Field(
        8080, ge=0, le=65_535, description="a port; 0: any free one, which the healthcheck of the image does not find"
    )
    identify_page_hosts: str = Field("", pattern=_HOSTS, description="host names with a dot, comma-separated, no ports")
    identify_queue_http_host: str = Field(
        "127.0.0.1", description="an address of this machine; ::, all of both families"
    )
    identify_queue_http_port: int | None = Field(
        None, ge=0, le=65_535, description="a port; 0: any free one; unset: the queue is not served over HTTP"
    )
    identify_queue_http_token: SecretStr | None = Field(None, description="what clients send as Bearer")
    identify_queue_http_token_file: FilePath | None = Field(None, description="a readable file with that token")
    identify_queue_http_max_waiting: int = Field(4096, ge=1, le=100_000, description="connections, 1 to 100000")
    identify_replica_name: str = Field(
        default_factory=gethostname, min_length=1, max_length=128, description="a name for people"
    )
    identify_log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )
    identify_log_format: Literal["text", "json"] = Field("text", description="text or json")

    @field_validator("identify_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        Subjects(value)
        return value

    @field_validator("discord_api_url")
    @classmethod
    def _check_api_url(cls, value: str) -> str:
        check_api_url(value)
        return value

    @field_validator("identify_http_host", "identify_queue_http_host")
    @classmethod
    def _check_http_host(cls, value: str) -> str:
        return value.strip().removeprefix("[").removesuffix("]")  # as in a URL

    @field_validator("identify_kv_replicas")
    @classmethod
    def _check_replicas(cls, value: int | None) -> int | None:
        if value in {2, 4}:
            message = "an even number of copies survives no more than one less"
            raise ValueError(message)
        return value

    @field_validator("identify_history")
    @classmethod
    def _check_history(cls, value: str | None) -> str | None:
        if value is not None:
            _history_ns(value)
        return value

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        if self.discord_token is not None and self.discord_token_file is not None:
            raise SettingsError("DISCORD_TOKEN: is set together with DISCORD_TOKEN_FILE; keep one of them")
        self._check_http_queue()
        return self

    def _check_http_queue(self) -> None:
        name = "IDENTIFY_QUEUE_HTTP_TOKEN"
        has_token, has_file = (
            self.identify_queue_http_token is not None,
            self.identify_queue_http_token_file is not None,
        )
        if has_token and has_file:
            raise SettingsError(f"{name}: is set together with {name}_FILE; keep one of them")
        if self.identify_queue_http_port is None:
            return
        if not (has_token or has_file or _is_loopback(self.identify_queue_http_host)):
            raise SettingsError(
                f"{name}: is not set, and IDENTIFY_QUEUE_HTTP_HOST is reached from other machines; "
                f"give it or {name}_FILE, or the host 127.0.0.1"
            )
        if self.identify_grace * GRACES_IN_USE_WITHIN > self.identify_use_within:
            raise SettingsError(
                "IDENTIFY_GRACE: is more than a third of IDENTIFY_USE_WITHIN, and the queue over HTTP would decline "
                "most grants as too late; lower it, or raise IDENTIFY_USE_WITHIN"
            )

    # --- what the parts of a coordinator are made from

    def nats(self) -> NatsOptions:
        """Return where NATS is, and how to log in.

        Raises:
            SettingsError: a variable makes no sense, or a file that it names cannot be used.
        """
        values = {name: getattr(self, name) for name in Settings.model_fields if name.startswith("nats_")}
        environment = {name.upper(): _text(value) for name, value in values.items() if value is not None}
        try:
            return NatsOptions.from_environment(environment)
        except NatsOptionsError as error:
            raise SettingsError(*error.problems) from None

    @property
    def timing(self) -> Timing:
        """The durations of the schedule."""
        return Timing(
            window_ns=_ns(self.identify_window),
            margin_ns=_ns(self.identify_margin),
            use_within_ns=_ns(self.identify_use_within),
            grace_ns=_ns(self.identify_grace),
        )

    @property
    def lease_ns(self) -> int:
        """The lease."""
        return _ns(self.identify_lease)

    @property
    def history_ns(self) -> int | None:
        """How long events are kept; None: they are not."""
        return None if self.identify_history is None else _history_ns(self.identify_history)

    def token(self) -> str | None:
        """Return the bot's token, or None where the limits are static.

        Raises:
            SettingsError: DISCORD_TOKEN or DISCORD_TOKEN_FILE holds no token, or the file cannot be read.
        """
        name = "DISCORD_TOKEN" if self.discord_token is not None else "DISCORD_TOKEN_FILE"
        try:
            if self.discord_token is not None:
                return clean_bot_token(self.discord_token.get_secret_value())
            if self.discord_token_file is not None:
                return decode_bot_token(self.discord_token_file.read_bytes())
        except BotTokenError as error:
            raise SettingsError(f"{name}: {error}") from None
        except OSError as error:
            raise SettingsError(f"{name}: cannot be read ({error.strerror}); make it readable for this user") from None
        return None

    def http_queue_token(self) -> str | None:
        """Return the token that clients of the queue over HTTP must send, or None where none is needed.

        Raises:
            SettingsError: IDENTIFY_QUEUE_HTTP_TOKEN or its file holds no token, or the file cannot be read.
        """
        name = "IDENTIFY_QUEUE_HTTP_TOKEN" + ("" if self.identify_queue_http_token is not None else "_FILE")
        try:
            if self.identify_queue_http_token is not None:
                token = self.identify_queue_http_token.get_secret_value().strip()
            elif self.identify_queue_http_token_file is not None:
                token = self.identify_queue_http_token_file.read_text(encoding="utf-8-sig").strip()
            else:
                return None
        except OSError as error:
            raise SettingsError(f"{name}: cannot be read ({error.strerror}); make it readable for this user") from None
        except UnicodeDecodeError:
            token = ""
        if not _HTTP_TOKEN.fullmatch(token):
            wanted = f"1 to {HTTP_TOKEN_MAX} visible characters of ASCII without a blank, as of openssl rand -hex 32"
            raise SettingsError(f"{name}: is no token; give {wanted}")
        return token

    @property
    def page_hosts(self) -> frozenset[str]:
        """The names by which the page may be asked for, besides addresses and names without a dot."""
        return frozenset(name.strip() for name in self.identify_page_hosts.split(",") if name.strip())

    def static_limits(self) -> Limits:
        """Return the limits where there is no token to ask Discord with."""
        total = self.identify_session_total or STATIC_TOTAL
        return Limits(self.identify_max_concurrency or STATIC_MAX_CONCURRENCY, total, total)

    def core(self, instance: str, *, grant_key: bytes, has_token: bool) -> core_settings.Settings:
        """Return the replica's settings; ``instance`` and ``grant_key`` are random for each process."""
        return core_settings.Settings(
            name=self.identify_replica_name,
            prefix=self.identify_prefix,
            instance=instance,
            timing=self.timing,
            lease_ns=self.lease_ns,
            fresh_start=self.identify_fresh_start,
            static=None if has_token else self.static_limits(),
            reserve=self.identify_session_reserve,
            crash_loop_grants=self.identify_crash_loop_grants,
            crash_loop_period_ns=_ns(self.identify_crash_loop_period),
            max_waiting=self.identify_max_waiting,
            grant_key=grant_key,
        )


def load() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: something is wrong with it; its lines say what.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [_line(problem) for problem in error.errors(include_url=False)]
        raise SettingsError(*lines, *_nats_problems()) from None
    settings.nats()
    settings.http_queue_token()
    return settings


def _nats_problems() -> tuple[str, ...]:
    """Return what is wrong with the NATS_ variables, whatever is wrong with the others."""
    try:
        NatsOptions.from_environment({name.upper(): value for name, value in os.environ.items()})
    except NatsOptionsError as error:
        return error.problems
    return ()


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the IDENTIFY_ variables that no field reads: a misspelt limit must not go unnoticed."""
    known = {name.upper() for name in Settings.model_fields}
    return sorted(name for name in environment if name.startswith("IDENTIFY_") and name not in known)


def _line(problem: Mapping[str, Any]) -> str:
    name = str(problem["loc"][0])
    said = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name.upper()}: {said[:1].lower()}{said[1:]}; give {Settings.model_fields[name].description}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name: it may mean any address but for this one
        return host == "localhost"


def _text(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _history_ns(text: str) -> int:
    """Return the nanoseconds of a duration such as 24h.

    Raises:
        ValueError: it is none, or longer than `HISTORY_MAX_NS`.
    """
    found = _HISTORY.fullmatch(text)
    duration_ns = int(found[1]) * _UNITS_NS[found[2]] if found else 0
    if not 0 < duration_ns <= HISTORY_MAX_NS:
        message = "is no duration that can be kept"
        raise ValueError(message)
    return duration_ns


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)
