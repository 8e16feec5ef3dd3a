"""The granted turns that still hold their bucket, and when each bucket opens. It frees nothing by itself.

Every grant carries its own hold. A grant made under another max_concurrency m blocks, under today's n, every
bucket congruent to its shard modulo gcd(m, n): the two numberings cannot be told apart more finely.
"""

from collections.abc import Iterable, Iterator
from math import gcd

from nats_identify.schedule.model import Grant

EVERY_BUCKET = 1
"""Under max_concurrency 1 all shards share a bucket: a record made under it blocks every bucket of any numbering."""


_Table = dict[tuple[int, int], dict[str, Grant]]
"""Grants by what they block: every bucket with this residue at steps so wide."""


class HoldTable:
    """All live grants by name, indexed by the buckets that they block."""

    def __init__(self, max_concurrency: int) -> None:
        self._grants: dict[str, Grant] = {}
        self._by_request: dict[str, Grant] = {}
        self._here: _Table = {}
        self._elsewhere: _Table = {}  # made under another max_concurrency
        self._steps: set[int] = set()
        self._max_concurrency = max_concurrency

    def __len__(self) -> int:
        return len(self._grants)

    def __iter__(self) -> Iterator[Grant]:
        return iter(self._grants.values())

    def get(self, grant_id: str) -> Grant | None:
        """Return the live grant of this name."""
        return self._grants.get(grant_id)

    def for_request(self, request_id: str) -> Grant | None:
        """Return the live grant that serves this asking."""
        return self._by_request.get(request_id)

    def add(self, grant: Grant) -> None:
        """Let it hold its bucket."""
        self._grants[grant.grant_id] = grant
        self._by_request[grant.request_id] = grant
        table, key = self._place(grant)
        table.setdefault(key, {})[grant.grant_id] = grant

    def remove(self, grant: Grant) -> None:
        """Its hold is over, or proven unused."""
        del self._grants[grant.grant_id]
        if self._by_request.get(grant.request_id) is grant:
            del self._by_request[grant.request_id]
        table, key = self._place(grant)
        del table[key][grant.grant_id]
        if not table[key]:
            del table[key]

    def opens_at_ns(self, bucket: int) -> int:
        """When the last grant that blocks this bucket lets go; 0 where none does."""
        opens = _last(self._here.get((self._max_concurrency, bucket)))
        for step in self._steps:
            opens = max(opens, _last(self._elsewhere.get((step, bucket % step))))
        return opens

    def renumber(self, max_concurrency: int) -> None:
        """Live holds survive a change of max_concurrency."""
        grants = list(self._grants.values())
        self._grants, self._here, self._elsewhere, self._steps = {}, {}, {}, set()
        self._max_concurrency = max_concurrency
        for grant in grants:
            self.add(grant)

    def buckets_of(self, grant: Grant) -> Iterable[int]:
        """Today's buckets that this grant blocks."""
        if grant.max_concurrency == self._max_concurrency:
            return (grant.bucket,)
        step = gcd(grant.max_concurrency, self._max_concurrency)
        return range(grant.shard_id % step, self._max_concurrency, step)

    def _place(self, grant: Grant) -> tuple[_Table, tuple[int, int]]:
        """Where those are that block the same buckets as this grant."""
        if grant.max_concurrency == self._max_concurrency:
            return self._here, (self._max_concurrency, grant.bucket)
        step = gcd(grant.max_concurrency, self._max_concurrency)
        self._steps.add(step)
        return self._elsewhere, (step, grant.shard_id % step)


def _last(standing: dict[str, Grant] | None) -> int:
    """When the last of these lets go."""
    return max((grant.opens_at_ns for grant in standing.values()), default=0) if standing else 0
