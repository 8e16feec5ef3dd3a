"""The granted turns that still hold their bucket, and when each bucket opens. It frees nothing by itself.

Every grant carries its own hold. A grant made under another max_concurrency m blocks, under today's n, every
bucket congruent to its shard modulo gcd(m, n): the two numberings cannot be told apart more finely.
"""

from collections.abc import Iterable, Iterator
from math import gcd

from nats_identify.schedule.model import Grant

EVERY_BUCKET = 1
"""Under max_concurrency 1 all shards share a bucket: a record made under it blocks every bucket of any numbering."""


class HoldTable:
    """All live grants by name, indexed by the buckets that they block."""

    def __init__(self, max_concurrency: int) -> None:
        self._grants: dict[str, Grant] = {}
        self._by_request: dict[str, Grant] = {}
        self._here: dict[int, dict[str, Grant]] = {}
        self._elsewhere: dict[str, Grant] = {}
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
        if grant.max_concurrency == self._max_concurrency:
            self._here.setdefault(grant.bucket, {})[grant.grant_id] = grant
        else:
            self._elsewhere[grant.grant_id] = grant

    def remove(self, grant: Grant) -> None:
        """Its hold is over, or proven unused."""
        del self._grants[grant.grant_id]
        if self._by_request.get(grant.request_id) is grant:
            del self._by_request[grant.request_id]
        if self._elsewhere.pop(grant.grant_id, None) is None:
            standing = self._here[grant.bucket]
            del standing[grant.grant_id]
            if not standing:
                del self._here[grant.bucket]

    def opens_at_ns(self, bucket: int) -> int:
        """When the last grant that blocks this bucket lets go; 0 where none does."""
        standing = self._here.get(bucket)
        opens = max((grant.opens_at_ns for grant in standing.values()), default=0) if standing else 0
        for grant in self._elsewhere.values():
            if self._blocks(grant, bucket):
                opens = max(opens, grant.opens_at_ns)
        return opens

    def renumber(self, max_concurrency: int) -> None:
        """Live holds survive a change of max_concurrency."""
        grants = list(self._grants.values())
        self._grants, self._here, self._elsewhere = {}, {}, {}
        self._max_concurrency = max_concurrency
        for grant in grants:
            self.add(grant)

    def buckets_of(self, grant: Grant) -> Iterable[int]:
        """Today's buckets that this grant blocks."""
        if grant.max_concurrency == self._max_concurrency:
            return (grant.bucket,)
        step = gcd(grant.max_concurrency, self._max_concurrency)
        return range(grant.shard_id % step, self._max_concurrency, step)

    def _blocks(self, grant: Grant, bucket: int) -> bool:
        step = gcd(grant.max_concurrency, self._max_concurrency)
        return bucket % step == grant.shard_id % step
