"""Computes which shards of the bot this process runs, from its ordinal in a StatefulSet. It makes no request.

Pod 0 of a StatefulSet runs the first ``SHARDS_PER_POD`` shards, pod 1 the next ones, and so on. The shard count is the
whole bot's and never follows from the number of pods: more pods start more of the shards, another count is a
resharding.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nats_identify.client.environment import WrongEnvironmentError, in_kubernetes

SHARDS_MAX: Final = 1_000_000
"""More than any bot has; a larger number is a slip."""

_CURE: Final = (
    "set POD_INDEX from the label apps.kubernetes.io/pod-index (downward API), or POD_NAME from metadata.name"
)
_ORDINAL: Final = re.compile(r"-([0-9]{1,9})$")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Shards:
    """What one process runs.

    Attributes:
        ids: the shards, in order.
        count: of the whole bot.
    """

    ids: tuple[int, ...]
    count: int


def shards_of_pod(environment: Mapping[str, str] = os.environ, *, hostname: str | None = None) -> Shards | None:
    """Return the shards of this pod; None outside of Kubernetes where no variable names shards.

    Args:
        environment: ``SHARD_COUNT``, of the whole bot; ``SHARDS_PER_POD``, 1 by default; and ``POD_INDEX``, from the
            label ``apps.kubernetes.io/pod-index`` through the downward API. That is an empty string before
            Kubernetes 1.28, where no pod has the label: then ``POD_NAME``, from ``metadata.name``, counts: it ends in
            the same number. ``POD_INDEX_START``, 0 by default, is the StatefulSet's ``spec.ordinals.start``.
            ``STATEFULSET_NAME`` is what the pods' names begin with; with it the host's name may stand for ``POD_NAME``.
        hostname: of this pod; the host's by default. With ``hostNetwork`` it is the node's, so that it counts only
            where it begins with ``STATEFULSET_NAME``.

    Raises:
        WrongEnvironmentError: a variable is missing or makes no sense, or there are more pods than the shards need.
    """
    index, per_pod = environment.get("POD_INDEX"), environment.get("SHARDS_PER_POD")
    if not environment.get("SHARD_COUNT"):
        if index is None and not per_pod and not in_kubernetes(environment):
            return None
        message = "SHARD_COUNT: is not set; give the number of shards that the whole bot has, the same in every pod"
        raise WrongEnvironmentError(message)
    count = _number("SHARD_COUNT", environment["SHARD_COUNT"], least=1)
    each = _number("SHARDS_PER_POD", per_pod, least=1) if per_pod else 1
    ordinal = _number("POD_INDEX", index, least=0) if index else _ordinal(environment, hostname)
    pod = _place(environment, ordinal)
    ids = range(pod * each, min((pod + 1) * each, count))
    if not ids:
        needed = -(-count // each)
        message = (
            f"SHARD_COUNT: {count} shards, {each} in a pod, need {needed} pods, and this is number {pod + 1}; scale "
            f"the StatefulSet to {needed}, or raise SHARD_COUNT, which reshards the whole bot; if the first pod's "
            "number is not 0 (spec.ordinals.start), set POD_INDEX_START to it"
        )
        raise WrongEnvironmentError(message)
    return Shards(tuple(ids), count)


def shard_options(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return ``shard_ids`` and ``shard_count`` as bot classes take them; nothing where the library is to ask Discord.

    Raises:
        WrongEnvironmentError: as `shards_of_pod`.
    """
    shards = shards_of_pod(environment)
    return {} if shards is None else {"shard_ids": list(shards.ids), "shard_count": shards.count}


def _ordinal(environment: Mapping[str, str], hostname: str | None) -> int:
    """Return the number in which the pod's name ends; a name that may be the node's is not guessed at."""
    pod_name, of_set = environment.get("POD_NAME"), environment.get("STATEFULSET_NAME")
    name = pod_name or (hostname or socket.gethostname()).partition(".")[0]
    found = _ORDINAL.search(name)
    if found is None:
        message = (
            f"POD_INDEX: is not set, and {name!r} does not end in a number; run the bot as a StatefulSet, whose pods "
            "are numbered, not as a Deployment"
        )
        raise WrongEnvironmentError(message)
    if of_set and name[: found.start()] != of_set:
        message = (
            f"STATEFULSET_NAME: is {of_set!r}, and {name!r} is none of its pods (with hostNetwork it is the node's "
            f"name); {_CURE}"
        )
        raise WrongEnvironmentError(message)
    if not pod_name and not of_set:
        message = f"POD_INDEX: is not set, and {name!r} may be the name of a node (hostNetwork) or of anything; {_CURE}"
        raise WrongEnvironmentError(message)
    return int(found[1])


def _place(environment: Mapping[str, str], ordinal: int) -> int:
    """Return which of the StatefulSet's pods this is, from 0."""
    text = environment.get("POD_INDEX_START")
    start = _number("POD_INDEX_START", text, least=0) if text else 0
    if ordinal < start:
        message = (
            f"POD_INDEX_START: is {start}, and this is pod {ordinal}, before the first; give the StatefulSet's "
            "spec.ordinals.start, or 0"
        )
        raise WrongEnvironmentError(message)
    return ordinal - start


def _number(name: str, text: str, *, least: int) -> int:
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= SHARDS_MAX:
        message = f"{name}: {text!r} is no number from {least} to {SHARDS_MAX}; give one"
        raise WrongEnvironmentError(message)
    return int(text)
