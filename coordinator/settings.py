"""What a coordinator is told by its environment, checked before anything starts. It connects to nothing.

Seconds become integer nanoseconds here, once; no message ever repeats the value of a secret.
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from coordinator.core import settings as core_settings
from nats_identify.schedule.model import MAX_BUCKETS, SECOND, Limits, Timing
from nats_identify.wire import Subjects

STATIC_MAX_CONCURRENCY: Final = 1
STATIC_TOTAL: Final = 1000
"""What Discord allows a bot that it has not granted more: the docs' own figures."""

CRASH_LOOP_GRANTS_MOST: Final = 100
"""The ledger carries them; a shard that identifies more often in an hour needs no guard, but a doctor."""

_INBOX: Final = re.compile(r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
_URL: Final = re.compile(r"^((nats|tls|ws|wss)://)?([^@/]*@)?([^@/:\s]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?/?$")

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

    nats_url: str = Field("nats://127.0.0.1:4222", repr=False, description="nats://host:port, comma-separated")
    nats_creds_file: FilePath | None = Field(None, description="a readable NATS credentials file")
    nats_nkey_seed_file: FilePath | None = Field(None, description="a readable file with an NKey user seed")
    nats_user: str | None = Field(None, description="a user name, together with NATS_PASSWORD")
    nats_password: SecretStr | None = Field(None, description="together with NATS_USER")
    nats_token: SecretStr | None = Field(None, description="a NATS token")
    nats_tls_ca: FilePath | None = Field(None, description="a readable PEM file of certificate authorities")
    nats_tls_cert: FilePath | None = Field(None, description="a readable PEM file, with NATS_TLS_KEY")
    nats_tls_key: FilePath | None = Field(None, description="a readable PEM file, with NATS_TLS_CERT")
    nats_inbox_prefix: str = Field("_INBOX", description="subject tokens without wildcards, as in _INBOX_bot")

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
    identify_use_within: SomeSeconds = Field(5, description="seconds above 0; how long a grant may be used")
    # A plain requester does not answer its grant; it is believed to identify within this.
    identify_grace: SomeSeconds = Field(1, description="seconds above 0; added to a plain grant's window")
    # Three heartbeats fit into a lease; below half a second a slow disk looks like a dead leader.
    identify_lease: float = Field(
        3, ge=0.5, le=300, allow_inf_nan=False, description="seconds, 0.5 to 300; a standby takes over after it"
    )
    identify_fresh_start: bool = Field(False, description="1 or 0; 1 only with an empty store")
    identify_crash_loop_grants: int = Field(
        10, ge=0, le=CRASH_LOOP_GRANTS_MOST, description="grants of one shard in a period, 1 to 100; 0: no guard"
    )
    identify_crash_loop_period: SomeSeconds = Field(3600, description="seconds above 0")
    identify_max_waiting: int = Field(200_000, ge=1, description="requests, 1 or more")
    identify_max_concurrency: int | None = Field(
        None, ge=1, le=MAX_BUCKETS, description=f"buckets, 1 to {MAX_BUCKETS}; unset: Discord's"
    )
    identify_session_total: int | None = Field(None, ge=1, description="session starts a day; unset: Discord's")
    identify_session_reserve: int = Field(10, ge=0, description="session starts kept for priority 1 and above")
    identify_kv_replicas: int | None = Field(
        None, ge=1, le=5, description="1, 3 or 5 copies; unset: 1 on one NATS server, 3 on a cluster"
    )

    identify_http_host: str = Field("127.0.0.1", description="an address of this machine")
    identify_http_port: int = Field(8080, ge=0, le=65_535, description="a port; 0: any free one")
    identify_replica_name: str = Field(
        default_factory=gethostname, min_length=1, max_length=128, description="a name for people"
    )
    identify_log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )
    identify_log_format: Literal["text", "json"] = Field("text", description="text or json")

    @field_validator("nats_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        urls = [url.strip() for url in value.split(",") if url.strip()]
        if not urls or not all(_URL.match(url) for url in urls):
            message = "is no address of a NATS server"
            raise ValueError(message)
        return ",".join(urls)

    @field_validator("nats_inbox_prefix")
    @classmethod
    def _check_inbox(cls, value: str) -> str:
        if not _INBOX.match(value):
            message = "is no subject prefix"
            raise ValueError(message)
        return value

    @field_validator("identify_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        Subjects(value)
        return value

    @field_validator("identify_kv_replicas")
    @classmethod
    def _check_replicas(cls, value: int | None) -> int | None:
        if value in {2, 4}:
            message = "an even number of copies survives no more than one less"
            raise ValueError(message)
        return value

    @field_validator("nats_creds_file")
    @classmethod
    def _check_creds(cls, value: Path | None) -> Path | None:
        # The client library reads a file without these lines for ever.
        if value is not None:
            text = value.read_bytes()
            if b"BEGIN NATS USER JWT" not in text or b"BEGIN USER NKEY SEED" not in text:
                message = "holds no user JWT and seed"
                raise ValueError(message)
        return value

    @field_validator("nats_nkey_seed_file")
    @classmethod
    def _check_seed(cls, value: Path | None) -> Path | None:
        if value is not None and not value.read_bytes().strip().startswith(b"SU"):
            message = "holds no user seed, which begins with SU"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        problems = [
            f"{one.upper()}: is set without {other.upper()}; set both or neither"
            for one, other in _TOGETHER
            if getattr(self, one) is not None and getattr(self, other) is None
        ]
        ways = [name.upper() for name in _WAYS_IN if getattr(self, name) is not None]
        if len(ways) > 1:
            problems.append(f"{ways[0]}: is set together with {' and '.join(ways[1:])}; keep one of them")
        if self.discord_token is not None and self.discord_token_file is not None:
            problems.append("DISCORD_TOKEN: is set together with DISCORD_TOKEN_FILE; keep one of them")
        if problems:
            raise SettingsError(*problems)
        return self

    # --- what the parts of a coordinator are made from

    @property
    def nats_urls(self) -> list[str]:
        """The servers of NATS_URL."""
        return self.nats_url.split(",")

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

    def token(self) -> str | None:
        """Return the bot's token, or None where the limits are static.

        Raises:
            SettingsError: DISCORD_TOKEN_FILE cannot be read, or is empty.
        """
        if self.discord_token is not None:
            return self.discord_token.get_secret_value().strip()
        if self.discord_token_file is None:
            return None
        try:
            token = self.discord_token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            token = ""
        if not token:
            raise SettingsError("DISCORD_TOKEN_FILE: holds no readable token; put the bot's token into it")
        return token

    def tls(self) -> ssl.SSLContext | None:
        """Return how NATS is to be trusted, or None where nothing about it is set.

        Raises:
            SettingsError: a file holds no certificate or key.
        """
        if self.nats_tls_ca is None and self.nats_tls_cert is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.nats_tls_ca)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError("NATS_TLS_CA: holds no certificate; give a PEM file") from error
        if self.nats_tls_cert is not None:
            try:
                context.load_cert_chain(self.nats_tls_cert, self.nats_tls_key, password="")
            except (OSError, ssl.SSLError) as error:
                line = "NATS_TLS_CERT: does not fit NATS_TLS_KEY; give PEM files without a passphrase"
                raise SettingsError(line) from error
        return context

    def static_limits(self) -> Limits:
        """Return the limits where there is no token to ask Discord with."""
        total = self.identify_session_total or STATIC_TOTAL
        return Limits(self.identify_max_concurrency or STATIC_MAX_CONCURRENCY, total, total)

    def core(self, instance: str, *, has_token: bool) -> core_settings.Settings:
        """Return what the replica is told; ``instance`` is random for each process."""
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
        )


_TOGETHER: Final = (
    ("nats_user", "nats_password"),
    ("nats_password", "nats_user"),
    ("nats_tls_cert", "nats_tls_key"),
    ("nats_tls_key", "nats_tls_cert"),
)
_WAYS_IN: Final = ("nats_creds_file", "nats_nkey_seed_file", "nats_user", "nats_token")


def load() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: something is wrong with it; its lines say what.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(*(_line(problem) for problem in error.errors(include_url=False))) from None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the IDENTIFY_ variables that no field reads: a misspelt limit must not go unnoticed."""
    known = {name.upper() for name in Settings.model_fields}
    return sorted(name for name in environment if name.startswith("IDENTIFY_") and name not in known)


def _line(problem: Mapping[str, Any]) -> str:
    name = str(problem["loc"][0])
    said = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name.upper()}: {said[:1].lower()}{said[1:]}; give {Settings.model_fields[name].description}"


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)
