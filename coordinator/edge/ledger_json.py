"""Turns the core's ledger into the JSON of the KV entry, and back. It stores nothing.

The hot path of every commit: a thousand grants in a millisecond or two, so no model is built on the way out.
Holds are rounded up to milliseconds, permissions down.
"""

import json
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from coordinator.core.ledger import GrantRecord, Ledger
from nats_identify.schedule.model import MS
from nats_identify.wire import LedgerEntry, LedgerGrant, ms_up


def encode(ledger: Ledger) -> bytes:
    """Write the fields of `wire.LedgerEntry`."""
    head: dict[str, Any] = {
        "prefix": ledger.prefix,
        "leader": ledger.leader,
        "instance": ledger.instance,
        "term": ledger.term,
        "sequence": ledger.sequence,
        "lease_ms": ms_up(ledger.lease_ns),
        "max_concurrency": ledger.max_concurrency,
        "total": ledger.total,
        "remaining": ledger.remaining,
        "reset_in_ms": None if ledger.reset_in_ns is None else ms_up(ledger.reset_in_ns),
    }
    grants = ",".join([_written(grant) for grant in ledger.grants])
    return f'{json.dumps(head)[:-1]}, "grants": [{grants}]}}'.encode()


def _written(grant: GrantRecord) -> str:
    outcome = "null" if grant.outcome is None else f'"{grant.outcome.value}"'
    return (
        f'{{"grant_id":{quote(grant.grant_id)},"request_id":{quote(grant.request_id)}'
        f',"shard_id":{grant.shard_id},"bucket":{grant.bucket},"max_concurrency":{grant.max_concurrency}'
        f',"renewal":{grant.renewal},"use_within_ms":{grant.use_within_ns // MS}'
        f',"hold_ms":{-(-grant.hold_ns // MS)},"outcome":{outcome}}}'
    )


def decode(payload: bytes) -> Ledger:
    """Read an entry.

    Raises:
        ValueError: it is no ledger.
    """
    entry = LedgerEntry.model_validate_json(payload)
    return Ledger(
        prefix=entry.prefix,
        leader=entry.leader,
        instance=entry.instance,
        term=entry.term,
        sequence=entry.sequence,
        lease_ns=entry.lease_ms * MS,
        max_concurrency=entry.max_concurrency,
        total=entry.total,
        remaining=entry.remaining,
        reset_in_ns=None if entry.reset_in_ms is None else entry.reset_in_ms * MS,
        grants=tuple(_grant(grant) for grant in entry.grants),
    )


def _grant(grant: LedgerGrant) -> GrantRecord:
    return GrantRecord(
        *(grant.grant_id, grant.request_id, grant.shard_id, grant.bucket, grant.max_concurrency),
        *(grant.renewal, grant.use_within_ms * MS, grant.hold_ms * MS, grant.outcome),
    )
