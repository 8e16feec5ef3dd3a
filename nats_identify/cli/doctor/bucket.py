"""Judges the settings of the ledger's KV bucket. It reads them alone."""

from typing import Final

from nats.js import api

from nats_identify.cli.doctor.findings import Finding, note, todo, well

LEDGER_BYTES: Final = 84_000
GRANT_BYTES: Final = 280
CRASH_LOOP_BYTES: Final = 190_000
"""Upper bounds of a ledger: its own fields, headers, a pause, and a thousand plain requests that had their reply; one
grant with the longest ids; every crash loop that it keeps, with the guard's own ten turns. A test holds them to what a
coordinator computes."""

CLUSTER_REPLICAS: Final = 3


def need_of(max_concurrency: int) -> int:
    """Return how many bytes the largest ledger may have."""
    return LEDGER_BYTES + GRANT_BYTES * max_concurrency + CRASH_LOOP_BYTES


def judge_bucket(name: str, config: api.StreamConfig, *, max_concurrency: int, is_clustered: bool) -> list[Finding]:
    """Return a line for each setting that matters.

    Args:
        name: of the bucket.
        config: of its stream.
        max_concurrency: today's number of buckets, which decides how large a ledger can be.
        is_clustered: whether the server is one of a cluster.
    """
    edit = f"nats stream edit KV_{name}"
    return [
        _history(config, edit),
        _ttl(config, edit),
        _storage(config),
        _replicas(config, edit, is_clustered=is_clustered),
        _size(config, edit, need_of(max_concurrency)),
    ]


def _history(config: api.StreamConfig, edit: str) -> Finding:
    kept = config.max_msgs_per_subject or 0
    if config.sealed or config.mirror is not None:
        return todo(
            "KV bucket", "it is sealed or a mirror, which takes no writes; name the bucket that is the original"
        )
    if kept < 1:
        return todo("KV history", f"it keeps every commit, and grows; {edit} --max-msgs-per-subject=1")
    return well("KV history", f"{kept} {'entry' if kept == 1 else 'entries'}")


def _ttl(config: api.StreamConfig, edit: str) -> Finding:
    if config.max_age:
        return todo("KV TTL", f"{config.max_age:g} s: it deletes the ledger; {edit} --max-age=0")
    return well("KV TTL", "none")


def _storage(config: api.StreamConfig) -> Finding:
    if config.storage == api.StorageType.MEMORY:
        return todo("KV storage", "memory: gone when NATS restarts, and all is held then; make it anew, storage file")
    return well("KV storage", "file")


def _replicas(config: api.StreamConfig, edit: str, *, is_clustered: bool) -> Finding:
    copies = config.num_replicas or 1
    if is_clustered and copies < CLUSTER_REPLICAS:
        return todo("KV replicas", f"{copies} in a cluster: one server's end stops all; {edit} --replicas=3")
    if not is_clustered:
        return note("KV replicas", f"{copies} on a single server: while it is away nothing is granted")
    return well("KV replicas", f"{copies}")


def _size(config: api.StreamConfig, edit: str, need: int) -> Finding:
    size, history = config.max_msg_size or 0, max(1, config.max_msgs_per_subject or 1)
    room = (config.max_bytes or 0) // history
    if 0 < size < need:
        return todo("KV value size", f"{size} bytes at most, and a ledger may need {need}; {edit} --max-msg-size=-1")
    if 0 < room < need:
        return todo("KV bytes", f"{room} bytes for an entry, and a ledger may need {need}; {edit} --max-bytes=-1")
    limit = f"{min(limit for limit in (size, room) if limit > 0)} bytes" if size > 0 or room > 0 else "no limit"
    return well("KV value size", f"{limit}; a ledger may need {need} bytes")
