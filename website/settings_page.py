"""Writes docs/settings.md from the settings' model and the library's variables: ``python -m website.settings_page``."""

import sys
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from coordinator.settings import Settings
from website.stage import ROOT

PAGE: Final = ROOT / "docs/settings.md"

NATS: Final = {
    "NATS_URL": ("nats://127.0.0.1:4222", "the servers, separated by commas"),
    "NATS_CREDS_FILE": ("unset", "a credentials file, with a user's JWT and seed"),
    "NATS_NKEY_SEED_FILE": ("unset", "a file with a user's NKey seed"),
    "NATS_USER": ("unset", "the user; with `NATS_PASSWORD`"),
    "NATS_PASSWORD": ("unset", "the user's password"),
    "NATS_TOKEN": ("unset", "a token of the NATS server"),
    "NATS_TLS_CA": ("unset", "a PEM file with the certificates that sign the servers'"),
    "NATS_TLS_CERT": ("unset", "a PEM file with a certificate of one's own; with `NATS_TLS_KEY`"),
    "NATS_TLS_KEY": ("unset", "a PEM file with the key of that certificate"),
    "NATS_TLS_HANDSHAKE_FIRST": ("unset", "1 or 0; 1 where the servers have `handshake_first: true`"),
    "NATS_INBOX_PREFIX": ("_INBOX", "where replies are received"),
}
"""By variable: the default, and what to give. Coordinator, library and command line read them alike."""

PODS: Final = {
    "SHARD_COUNT": ("unset", "how many shards the whole bot has, the same in every pod"),
    "SHARDS_PER_POD": ("1", "how many of them one pod runs"),
    "POD_INDEX": ("unset", "the pod's number, from the label `apps.kubernetes.io/pod-index`"),
    "POD_INDEX_START": ("0", "the StatefulSet's `spec.ordinals.start`"),
    "POD_NAME": ("unset", "the pod's name, from `metadata.name`; its number counts where `POD_INDEX` is empty"),
    "STATEFULSET_NAME": ("unset", "what the pods' names begin with; then the host's name may stand for `POD_NAME`"),
    "KUBERNETES_SERVICE_HOST": (
        "unset",
        "set by Kubernetes in each pod; `NATS_URL` and `SHARD_COUNT` are needed there",
    ),
}
"""As above, for `shards_of_pod` and `shard_options`."""

HTTP_PROXIES: Final = {
    "HTTPS_PROXY": ("unset", "an HTTP proxy on the way to Discord"),
    "NO_PROXY": ("unset", "the hosts that need no proxy"),
}
"""As above; aiohttp reads them."""

HEAD: Final = """\
# Settings

<!-- Written by python -m website.settings_page from coordinator/settings.py: change that, and run it again. -->

All settings are environment variables. A variable that is empty counts as unset. A wrong one ends a coordinator with
status 2 and a line that names the variable and says what to give; in a bot it is a `ValueError`. No message repeats a
value. What the settings do together is explained in [the coordinator](coordinator.md).
"""


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the page."""

    heading: str
    text: str
    rows: list[tuple[str, str, str]]


def sections() -> list[Section]:
    """Return the tables of the page."""
    own = [(name.upper(), field) for name, field in Settings.model_fields.items() if name.upper() not in NATS]
    rows = [(name, _default(name, field), _what(name, field)) for name, field in own]
    discord = [row for row in rows if row[0].startswith("DISCORD_")]
    served = [row for row in rows if "_HTTP_" in row[0]]
    queue = [row for row in rows if row not in discord and row not in served]
    nats = (
        "Read by coordinators, by `queue_from_environment` and by `nats-identify`. One way to log in, or none.\n"
        "[What is accepted](coordinator.md#addresses-credentials-tls)."
    )
    pods = "Read by `shards_of_pod` and `shard_options`: [in pods](join-a-bot.md#in-pods)."
    return [
        Section("NATS", nats, _rows(NATS)),
        Section("The queue", "Read by coordinators; `IDENTIFY_PREFIX` by bots and `nats-identify` as well.", queue),
        Section("Discord", "Read by coordinators.", [*discord, *_rows(HTTP_PROXIES)]),
        Section("Pages and the queue over HTTP", "Read by coordinators.", served),
        Section("A bot's pods", pods, _rows(PODS)),
    ]


def text() -> str:
    """Return the page."""
    parts = [HEAD]
    for section in sections():
        lines = [f"| `{name}` | {default} | {what} |" for name, default, what in section.rows]
        table = "\n".join(["| variable | default | give |", "|---|---|---|", *lines])
        parts.append(f"## {section.heading}\n\n{section.text}\n\n{table}\n")
    return "\n".join(parts)


def _rows(variables: dict[str, tuple[str, str]]) -> list[tuple[str, str, str]]:
    return [(name, _code(default), what) for name, (default, what) in variables.items()]


def _default(name: str, field: FieldInfo) -> str:
    if name == "IDENTIFY_REPLICA_NAME":
        return "the host's name"
    if field.default is None or field.default is PydanticUndefined or field.default == "":
        return "unset"
    return _code("unset" if field.default is False else field.default)


def _code(default: object) -> str:
    return str(default) if default == "unset" else f"`{default}`"


def _what(name: str, field: FieldInfo) -> str:
    if field.description is None:
        message = f"{name} has no description in coordinator/settings.py; say there what to give"
        raise ValueError(message)
    choices = _choices(field.annotation)
    return field.description if not choices else ", ".join(f"`{choice}`" for choice in choices)


def _choices(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401  # what pydantic keeps of a field's type
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def main() -> None:
    """Write the page."""
    PAGE.write_text(text(), encoding="utf-8")
    print(PAGE.relative_to(ROOT), file=sys.stderr)  # noqa: T201  # a program's answer


if __name__ == "__main__":
    main()
