"""Reads from the environment where the queue is and who we are there: the same variables as a coordinator's.

It connects to nothing. What is not set stays nats-py's default; what makes no sense is refused, never guessed.
"""

import os
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final

from nats_identify.local import LocalQueue
from nats_identify.remote import NatsQueue
from nats_identify.wire import Subjects

_INBOX: Final = re.compile(r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
_WAYS_IN: Final = ("NATS_CREDS_FILE", "NATS_NKEY_SEED_FILE", "NATS_USER", "NATS_TOKEN")


class WrongEnvironmentError(ValueError):
    """Whoever starts this process must change a variable; the message names it and says what to give."""


def queue_from_environment(environment: Mapping[str, str] = os.environ) -> NatsQueue | LocalQueue:
    """Return the queue that ``NATS_URL`` names, or a `LocalQueue` where it is not set.

    ``NATS_USER`` with ``NATS_PASSWORD``, ``NATS_CREDS_FILE``, ``NATS_NKEY_SEED_FILE``, ``NATS_TOKEN``, ``NATS_TLS_CA``,
    ``NATS_TLS_CERT`` with ``NATS_TLS_KEY``, ``NATS_INBOX_PREFIX`` and ``IDENTIFY_PREFIX`` are read too.

    Raises:
        WrongEnvironmentError: a variable makes no sense, or this is a pod and ``NATS_URL`` is not set: a pod that
            knew of no other would break the limit together with them.
    """
    if not environment.get("NATS_URL"):
        if in_kubernetes(environment):
            message = "NATS_URL: is not set in this pod; give the queue's, such as nats://nats:4222"
            raise WrongEnvironmentError(message)
        return LocalQueue()
    prefix = environment.get("IDENTIFY_PREFIX") or "identify"
    try:
        Subjects(prefix)
    except ValueError as error:
        message = f"IDENTIFY_PREFIX: {error}; give the prefix of the bot's coordinators"
        raise WrongEnvironmentError(message) from None
    return NatsQueue.connect(servers(environment), prefix=prefix, **connection_options(environment))


def in_kubernetes(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process lives in a pod: the kubelet sets this in every one."""
    return "KUBERNETES_SERVICE_HOST" in environment


def servers(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the servers of ``NATS_URL``, which is a comma-separated list."""
    urls = environment.get("NATS_URL") or "nats://127.0.0.1:4222"
    return [url.strip() for url in urls.split(",") if url.strip()]


def connection_options(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return what `nats.connect` needs to get in.

    Raises:
        WrongEnvironmentError: a variable makes no sense.
    """
    found = {name: environment[name] for name in _WAYS_IN if environment.get(name)}
    if len(found) > 1:
        message = f"{' and '.join(found)}: are set together; keep one of them"
        raise WrongEnvironmentError(message)
    options: dict[str, Any] = {}
    match found:
        case {"NATS_CREDS_FILE": file}:
            options["user_credentials"] = _readable("NATS_CREDS_FILE", file)
        case {"NATS_NKEY_SEED_FILE": file}:
            options["nkeys_seed"] = _readable("NATS_NKEY_SEED_FILE", file)
        case {"NATS_TOKEN": token}:
            options["token"] = token
        case {"NATS_USER": user}:
            options |= {"user": user, "password": _together("NATS_USER", "NATS_PASSWORD", environment)}
    if environment.get("NATS_PASSWORD") and "NATS_USER" not in found:
        _together("NATS_PASSWORD", "NATS_USER", environment)
    inbox = environment.get("NATS_INBOX_PREFIX")
    if inbox:
        if not _INBOX.match(inbox):
            message = "NATS_INBOX_PREFIX: is no subject prefix; give subject tokens, as in _INBOX_shard.pod-0"
            raise WrongEnvironmentError(message)
        options["inbox_prefix"] = inbox
    context = _tls(environment)
    if context is not None:
        options["tls"] = context
    return options


def _tls(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    authority, certificate = environment.get("NATS_TLS_CA"), environment.get("NATS_TLS_CERT")
    if environment.get("NATS_TLS_KEY"):
        _together("NATS_TLS_KEY", "NATS_TLS_CERT", environment)
    if not authority and not certificate:
        return None
    try:
        context = ssl.create_default_context(cafile=authority or None)
    except (OSError, ssl.SSLError):
        message = "NATS_TLS_CA: holds no certificate; give a readable PEM file"
        raise WrongEnvironmentError(message) from None
    if certificate:
        key = _together("NATS_TLS_CERT", "NATS_TLS_KEY", environment)
        try:
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError):
            message = "NATS_TLS_CERT: does not fit NATS_TLS_KEY; give PEM files without a passphrase"
            raise WrongEnvironmentError(message) from None
    return context


def _together(one: str, other: str, environment: Mapping[str, str]) -> str:
    value = environment.get(other)
    if not value:
        message = f"{one}: is set without {other}; set both or neither"
        raise WrongEnvironmentError(message)
    return value


def _readable(name: str, file: str) -> str:
    if not os.access(file, os.R_OK):
        message = f"{name}: cannot be read; give a readable file"
        raise WrongEnvironmentError(message)
    return file
