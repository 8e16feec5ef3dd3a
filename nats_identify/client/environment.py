"""Reads the queue's address and login from the environment: the same variables as a coordinator's.

It connects to nothing. What is not set stays nats-py's default; what makes no sense is refused, never guessed.
"""

import os
from collections.abc import Mapping

from nats_identify.client.local_queue import LocalQueue
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.nats_options import NatsOptions, NatsOptionsError
from nats_identify.wire import Subjects


class WrongEnvironmentError(ValueError):
    """An environment variable is wrong; the message names it and says what to set."""


def queue_from_environment(environment: Mapping[str, str] = os.environ) -> NatsQueue | LocalQueue:
    """Return the queue that ``NATS_URL`` names, or a `LocalQueue` where it is not set.

    ``NATS_USER`` with ``NATS_PASSWORD``, ``NATS_CREDS_FILE``, ``NATS_NKEY_SEED_FILE``, ``NATS_TOKEN``, ``NATS_TLS_CA``,
    ``NATS_TLS_CERT`` with ``NATS_TLS_KEY``, ``NATS_TLS_HANDSHAKE_FIRST``, ``NATS_INBOX_PREFIX`` and
    ``IDENTIFY_PREFIX`` are read too.

    Raises:
        WrongEnvironmentError: a variable makes no sense, or this is a pod and ``NATS_URL`` is not set: several pods
            with a `LocalQueue` each would break the limit together.
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
    options = nats_options(environment)
    return NatsQueue.connect(options.addresses.servers, prefix=prefix, **options.settings)


def in_kubernetes(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process lives in a pod: the kubelet sets this in every one."""
    return "KUBERNETES_SERVICE_HOST" in environment


def nats_options(environment: Mapping[str, str] = os.environ) -> NatsOptions:
    """Return where NATS is and how to log in; `queue_from_environment` says which variables are read.

    Raises:
        WrongEnvironmentError: a variable makes no sense.
    """
    try:
        return NatsOptions.from_environment(environment)
    except NatsOptionsError as error:
        raise WrongEnvironmentError(str(error)) from None
