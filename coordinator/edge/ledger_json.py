"""Turns the core's ledger into the JSON of the KV entry, and back. It stores nothing.

The hot path of every commit: a thousand grants in half a millisecond, so no model is built on the way out.
Holds are rounded up to milliseconds, permissions and ages down.
"""

import json
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final

from coordinator.core.ledger import Ledger
from coordinator.edge.peer_messages import LedgerCrashLoop, LedgerEntry, LedgerGrant, LedgerPause, LedgerStaticDay
from nats_identify.schedule.budget import StaticDay
from nats_identify.schedule.crash_loop import ShardHistory
from nats_identify.schedule.grants import Grant, HoldRecord
from nats_identify.schedule.model import MS, Outcome
from nats_identify.schedule.pause import Paused
from nats_identify.wire import ms_up

BEGINNINGS_SPARE_MAX: Final = 1_000
"""Beginnings of ended grants are dropped when more than half of all, and more than this, are theirs."""


class LedgerWriter:
    """Writes the fields of `LedgerEntry`; remembers how each live grant begins, which never changes."""

    def __init__(self) -> None:
        self._beginnings: dict[str, str] = {}

    def write(self, ledger: Ledger) -> bytes:
        """Return the entry as JSON."""
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
        known = self._beginnings
        written = []
        for record in ledger.grants:
            beginning = known.get(record.grant.grant_id) or self._begin(record.grant)
            written.append(f'{beginning}{-(-record.hold_ns // MS)},"outcome":{_OUTCOMES[record.outcome]}}}')
        if len(known) > 2 * len(written) + BEGINNINGS_SPARE_MAX:
            self._beginnings = {record.grant.grant_id: known[record.grant.grant_id] for record in ledger.grants}
        loops = ",".join([_crash_loop(history) for history in ledger.crash_loops])
        margin_ms = "null" if ledger.margin_ns is None else ms_up(ledger.margin_ns)
        hold_ms = "null" if ledger.full_hold_ns is None else ms_up(ledger.full_hold_ns)
        replied = {request_id: ms_up(left_ns) for request_id, left_ns in ledger.replied or ()}
        more = f'"full_hold_ms": {hold_ms}, "replied": {"null" if ledger.replied is None else json.dumps(replied)}'
        day = "null" if ledger.static_day is None else json.dumps(_day(ledger.static_day))
        tail = f'"grants": [{",".join(written)}], "crash_loops": [{loops}], "margin_ms": {margin_ms}'
        paused = "" if ledger.paused is None else f', "paused": {json.dumps(_pause(ledger.paused))}'
        return f'{json.dumps(head)[:-1]}, {tail}, "static_day": {day}, {more}{paused}}}'.encode()

    def _begin(self, grant: Grant) -> str:
        """Write how a grant begins, and remember it."""
        beginning = self._beginnings[grant.grant_id] = _beginning(grant)
        return beginning


_OUTCOMES: Final[dict[Outcome | None, str]] = {None: "null", **{outcome: f'"{outcome.value}"' for outcome in Outcome}}


def _crash_loop(history: ShardHistory) -> str:
    ages_ms = [age_ns // MS for age_ns in history.granted_ns]
    return f'{{"shard_id":{history.shard_id},"strikes":{history.strikes},"granted_ms_ago":{ages_ms}}}'


def _day(day: StaticDay) -> dict[str, int | None]:
    first_ms = None if day.first_ns is None else ms_up(day.first_ns)
    return {"first_ms_ago": first_ms, "late": day.late, "late_ms_ago": ms_up(day.late_ns)}


def _pause(paused: Paused) -> dict[str, str | int | None]:
    left_ms = None if paused.ends_ns is None else ms_up(paused.ends_ns)
    return {"below_priority": paused.below_priority, "left_ms": left_ms, "why": paused.why, "by": paused.by}


def _beginning(grant: Grant) -> str:
    plain = "" if grant.managed else ',"plain":true'
    return (
        f'{{"grant_id":{quote(grant.grant_id)},"request_id":{quote(grant.request_id)}'
        f',"shard_id":{grant.shard_id},"bucket":{grant.bucket},"max_concurrency":{grant.max_concurrency}'
        f',"renewal":{grant.renewal}{plain},"use_within_ms":{grant.use_within_ns // MS},"hold_ms":'
    )


def decode(payload: bytes, lineage: str = "") -> Ledger:
    """Read an entry; its lineage comes beside it.

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
        grants=tuple(_record(grant) for grant in entry.grants),
        lineage=lineage,
        crash_loops=tuple(_history(shard) for shard in entry.crash_loops),
        margin_ns=None if entry.margin_ms is None else entry.margin_ms * MS,
        static_day=None if entry.static_day is None else _static_day(entry.static_day),
        full_hold_ns=None if entry.full_hold_ms is None else entry.full_hold_ms * MS,
        replied=None if entry.replied is None else tuple((name, ms * MS) for name, ms in entry.replied.items()),
        paused=None if entry.paused is None else _paused(entry.paused),
    )


def _paused(read: LedgerPause) -> Paused:
    ends_ns = None if read.left_ms is None else read.left_ms * MS
    return Paused(below_priority=read.below_priority, ends_ns=ends_ns, by=read.by, why=read.why)


def _record(read: LedgerGrant) -> HoldRecord:
    grant = Grant(
        grant_id=read.grant_id,
        request_id=read.request_id,
        shard_id=read.shard_id,
        bucket=read.bucket,
        max_concurrency=read.max_concurrency,
        renewal=read.renewal,
        use_within_ns=read.use_within_ms * MS,
        managed=not read.plain,
    )
    return HoldRecord(grant, read.hold_ms * MS, read.outcome)


def _static_day(day: LedgerStaticDay) -> StaticDay:
    first_ns = None if day.first_ms_ago is None else day.first_ms_ago * MS
    return StaticDay(first_ns, day.late, day.late_ms_ago * MS)


def _history(shard: LedgerCrashLoop) -> ShardHistory:
    return ShardHistory(shard.shard_id, shard.strikes, tuple(age_ms * MS for age_ms in shard.granted_ms_ago))
