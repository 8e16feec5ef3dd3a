"""Grants, their holds on their buckets, and when each bucket opens. `ScheduleState` ends the holds.

A `Grant` never changes. Its `Hold` does, by this table (an empty field: the event changes nothing; *ends*: the hold is
removed, and the bucket opens):

| state       | committed  | identified | declined | ready | rejected | 503    | rolled back | resigned  | expired |
|-------------|------------|------------|----------|-------|----------|--------|-------------|-----------|---------|
| UNCOMMITTED | UNANSWERED |            |          |       |          |        | *ends*      |           |         |
| UNANSWERED  |            | IDENTIFIED | *ends*   | READY | REJECTED | *ends* |             | INHERITED | *ends*  |
| INHERITED   |            | IDENTIFIED | *ends*   | READY | REJECTED |        |             |           | *ends*  |
| IDENTIFIED  |            |            |          | READY | REJECTED |        |             |           | *ends*  |
| READY       |            |            |          |       |          |        |             |           | *ends*  |
| REJECTED    |            |            |          |       |          |        |             |           | *ends*  |

`503` (no receiver) ends a hold only while the grant was published exactly once. A confirm of an UNCOMMITTED grant is
kept until the grant is seen in the ledger. A managed grant that is not committed, and a plain one that was committed
too late to be sent, are rolled back.

Each grant has its own hold. A grant made under another max_concurrency m blocks, under today's n, every bucket
congruent to its shard modulo gcd(m, n): nothing finer is known of two numberings.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import gcd
from typing import Final, NamedTuple, final

from nats_identify.schedule.model import Outcome


class Grant(NamedTuple):  # read a thousand at a time, with each entry: a third of a frozen dataclass's cost
    """One granted turn. All replicas keep the same records.

    Attributes:
        request_id: empty in the record of a global hold, which is no grant.
        max_concurrency: the number of buckets when it was made; under another number it blocks every bucket congruent
            to its shard modulo their greatest common divisor.
        renewal: the renewal that it replies to, and echoes.
        use_within_ns: how long it may be used, whatever the settings are now.
        managed: False for a plain requester.
    """

    grant_id: str
    request_id: str
    shard_id: int
    bucket: int
    max_concurrency: int
    renewal: int
    use_within_ns: int
    managed: bool = True


class HoldState(StrEnum):  # its hash is that of a string: it is looked up a thousand times in each commit
    """What is known of a grant; the transitions are in the table of this module."""

    UNCOMMITTED = "uncommitted"  # not in the ledger yet: no reply may be sent
    UNANSWERED = "unanswered"  # committed by this leader
    INHERITED = "inherited"  # committed, and not by this leader in this term: a 503 proves nothing
    IDENTIFIED = "identified"
    READY = "ready"
    REJECTED = "rejected"

    @property
    def outcome(self) -> Outcome | None:
        """The outcome as the ledger records it; None until the grant is confirmed."""
        return _OUTCOMES.get(self)


_OUTCOMES: Final = {
    HoldState.IDENTIFIED: Outcome.IDENTIFIED,
    HoldState.READY: Outcome.READY,
    HoldState.REJECTED: Outcome.REJECTED,
}

CONFIRMED: Final = {outcome: state for state, outcome in _OUTCOMES.items()}
"""The state after each outcome; `declined` is none of them: it ends the hold."""

AWAITING: Final = frozenset({HoldState.UNANSWERED, HoldState.INHERITED})
"""Committed, and not confirmed."""


@dataclass(slots=True, eq=False)
class Hold:
    """A grant holds its bucket. Only `ScheduleState` changes one.

    Attributes:
        opens_at_ns: when its bucket may be granted again, by the clock of this replica.
        granted_at_ns: when the hold was last counted from its beginning; 0 for a grant read from the ledger.
        known_at_ns: when a grant that was read from the ledger was first read here; 0 for a grant made here.
        asked_at_ns: when its request was made; 0 where the request is not known here.
        reply_to: where it is published first.
        client: the name in its request, for events; it is not in the ledger, and empty where the request is unknown.
        identified_at_ns: when ``identified`` was received here, or first seen.
        opens_by_margin: its bucket opens a window and the margin after ``identified``, not a window after READY.
        follows_margin: the hold before it ended by the margin: Discord's answer shows whether the margin suffices.
        publish_count: how often this leader published it.
        recommits: how often its commit took too long for a plain requester.
    """

    grant: Grant
    state: HoldState
    opens_at_ns: int = 0
    granted_at_ns: int = 0
    known_at_ns: int = 0
    asked_at_ns: int = 0
    reply_to: str = ""
    client: str = ""
    identified_at_ns: int | None = None
    opens_by_margin: bool = False
    follows_margin: bool = False
    publish_count: int = 0
    recommits: int = 0


@dataclass(slots=True, eq=False)
class GlobalHold:
    """Every bucket is blocked: there may be grants that are in no replica's ledger.

    Attributes:
        grant_id: its name in the ledger; no requester has it.
        use_within_ns: as the ledger records it.
        opens_at_ns: when it is over, by the clock of this replica.
    """

    grant_id: str
    use_within_ns: int
    opens_at_ns: int


@final
class HoldRecord:  # made a thousand at a time, on the way of every commit: compiled, a third of a NamedTuple's cost
    """A hold as the ledger records it; it never changes, and is equal to one of the same content.

    Attributes:
        hold_ns: what was left of the hold when it was written.
    """

    __slots__ = ("grant", "hold_ns", "outcome")

    def __init__(self, grant: Grant, hold_ns: int, outcome: Outcome | None = None) -> None:
        self.grant = grant
        self.hold_ns = hold_ns
        self.outcome = outcome

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HoldRecord) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def __repr__(self) -> str:
        return f"HoldRecord(grant={self.grant!r}, hold_ns={self.hold_ns!r}, outcome={self.outcome!r})"

    def _content(self) -> tuple[Grant, int, Outcome | None]:
        return (self.grant, self.hold_ns, self.outcome)


ALL_BUCKETS: Final = 1
"""Under max_concurrency 1 all shards share a bucket: a global hold is recorded under it, and blocks every bucket."""


def records_of(holds: "HoldTable", now_ns: int) -> tuple[HoldRecord, ...]:
    """Return every live hold with what is left of it."""
    outcome_of = _OUTCOMES.get
    return tuple(
        [
            HoldRecord(hold.grant, hold.opens_at_ns - now_ns, outcome_of(hold.state))
            if isinstance(hold, Hold)
            else _global_record(hold, now_ns)
            for hold in holds.all()
            if hold.opens_at_ns > now_ns
        ]
    )


def _global_record(hold: GlobalHold, now_ns: int) -> HoldRecord:
    grant = Grant(hold.grant_id, "", 0, 0, ALL_BUCKETS, 0, hold.use_within_ns)
    return HoldRecord(grant, hold.opens_at_ns - now_ns, Outcome.IDENTIFIED)


def hold_of(record: HoldRecord, now_ns: int) -> Hold | GlobalHold:
    """Read a record back; its hold counts from now, so that it never ends earlier than its leader's."""
    grant, opens_at_ns = record.grant, now_ns + record.hold_ns
    if not grant.request_id:
        return GlobalHold(grant_id=grant.grant_id, use_within_ns=grant.use_within_ns, opens_at_ns=opens_at_ns)
    return Hold(
        grant=grant,
        state=HoldState.INHERITED if record.outcome is None else CONFIRMED[record.outcome],
        opens_at_ns=opens_at_ns,
        known_at_ns=now_ns,
        identified_at_ns=None if record.outcome is None else now_ns,
    )


_Table = dict[tuple[int, int], dict[str, Hold]]
"""Holds by (step, residue): they block every bucket that is congruent to the residue modulo the step."""


class HoldTable:
    """All live holds by grant id, indexed by the buckets that they block."""

    def __init__(self, max_concurrency: int) -> None:
        self._holds: dict[str, Hold | GlobalHold] = {}
        self._by_request: dict[str, Hold] = {}
        self._global: dict[str, GlobalHold] = {}
        self._here: _Table = {}
        self._elsewhere: _Table = {}  # made under another max_concurrency
        self._steps: set[int] = set()
        self._max_concurrency = max_concurrency

    def __len__(self) -> int:
        return len(self._holds)

    def __iter__(self) -> Iterator[Hold]:
        return (hold for hold in self._holds.values() if isinstance(hold, Hold))

    def all(self) -> Iterable[Hold | GlobalHold]:
        """Return the holds and the global holds, in the order in which they began."""
        return self._holds.values()

    def get(self, grant_id: str) -> Hold | GlobalHold | None:
        """Return the live hold of this grant."""
        return self._holds.get(grant_id)

    def for_request(self, request_id: str) -> Hold | None:
        """Return the live hold whose grant serves this request."""
        return self._by_request.get(request_id)

    def add(self, hold: Hold | GlobalHold) -> None:
        """Add a hold: it blocks its buckets."""
        if isinstance(hold, GlobalHold):
            self._holds[hold.grant_id] = self._global[hold.grant_id] = hold
            return
        grant = hold.grant
        self._holds[grant.grant_id] = self._by_request[grant.request_id] = hold
        table, key = self._place(grant)
        table.setdefault(key, {})[grant.grant_id] = hold

    def remove(self, hold: Hold | GlobalHold) -> None:
        """Remove a hold: it blocks nothing any more."""
        if isinstance(hold, GlobalHold):
            del self._holds[hold.grant_id], self._global[hold.grant_id]
            return
        grant = hold.grant
        del self._holds[grant.grant_id]
        if self._by_request.get(grant.request_id) is hold:
            del self._by_request[grant.request_id]
        table, key = self._place(grant)
        del table[key][grant.grant_id]
        if not table[key]:
            del table[key]

    def opens_at_ns(self, bucket: int) -> int:
        """When the last hold on this bucket ends; 0 where there is none."""
        opens = _last(self._here.get((self._max_concurrency, bucket)))
        if self._elsewhere:
            for step in self._steps:
                opens = max(opens, _last(self._elsewhere.get((step, bucket % step))))
        if self._global:
            opens = max(opens, *[hold.opens_at_ns for hold in self._global.values()])
        return opens

    def renumber(self, max_concurrency: int) -> None:
        """Live holds survive a change of max_concurrency."""
        holds = list(self._holds.values())
        self._holds, self._here, self._elsewhere, self._steps = {}, {}, {}, set()
        self._max_concurrency = max_concurrency
        for hold in holds:
            self.add(hold)

    def buckets_of(self, hold: Hold | GlobalHold) -> Iterable[int]:
        """Return today's buckets that this hold blocks."""
        if isinstance(hold, GlobalHold):
            return range(self._max_concurrency)
        grant = hold.grant
        if grant.max_concurrency == self._max_concurrency:
            return (grant.bucket,)
        step = gcd(grant.max_concurrency, self._max_concurrency)
        return range(grant.shard_id % step, self._max_concurrency, step)

    def _place(self, grant: Grant) -> tuple[_Table, tuple[int, int]]:
        """Where the holds are that block the same buckets as this grant's."""
        if grant.max_concurrency == self._max_concurrency:
            return self._here, (self._max_concurrency, grant.bucket)
        step = gcd(grant.max_concurrency, self._max_concurrency)
        self._steps.add(step)
        return self._elsewhere, (step, grant.shard_id % step)


def _last(holds: dict[str, Hold] | None) -> int:
    """When the last of these ends; there is one, nearly always."""
    opens_at_ns = 0
    for hold in holds.values() if holds else ():
        if hold.opens_at_ns > opens_at_ns:  # noqa: PLR1730  # `max` takes three times as long
            opens_at_ns = hold.opens_at_ns
    return opens_at_ns
