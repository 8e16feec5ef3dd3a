"""Judges the IDENTIFYs of a large crowd by Discord's rules, bucket by bucket; it reads no clock.

`nats_identify.testing.Judge` compares each IDENTIFY with all of the last window, in any numbering. Here the number of
buckets stays the same, so that each bucket has a judge of its own: the same verdicts, at any rate.
"""

from dataclasses import dataclass
from typing import Final

from nats_identify.clock import NS_PER_S
from nats_identify.testing.judge import Day, Judge, Verdict

MARGIN_NS: Final = NS_PER_S // 5
"""What a coordinator adds to the window at first."""

WINDOW_NS: Final = 5 * NS_PER_S
_ENDLESS: Final = 10**12


@dataclass(slots=True)
class _Bucket:
    judge: Judge
    identified_ns: int | None = None
    newest: int = -1


class JudgedBuckets:
    """Every bucket's history, and the sums.

    Attributes:
        grants: turns that were used.
        violations: IDENTIFYs that Discord would refuse.
        overtaken: grants to a request when one that asked later in its bucket already had its turn.
    """

    def __init__(self, max_concurrency: int) -> None:
        self.grants = 0
        self.violations = 0
        self.overtaken = 0
        self._max_concurrency = max_concurrency
        self._buckets: dict[int, _Bucket] = {}

    def identify(self, number: int, shard_id: int, asked_ns: int, at_ns: int) -> int:
        """Judge the IDENTIFY of the request that was the ``number``-th to ask.

        Returns:
            Nanoseconds since the turn was possible: the bucket open, and the request sent.
        """
        bucket = self._buckets.get(shard_id % self._max_concurrency)
        if bucket is None:
            day = Day(at_ns, total=_ENDLESS)
            bucket = self._buckets[shard_id % self._max_concurrency] = _Bucket(Judge(day, window_ns=WINDOW_NS))
        due_ns = asked_ns
        if bucket.identified_ns is not None:
            due_ns = max(asked_ns, bucket.identified_ns + WINDOW_NS + MARGIN_NS)
        judgement = bucket.judge.identify(at_ns, shard_id, self._max_concurrency)
        self.grants += 1
        self.violations += judgement.verdict is not Verdict.ACCEPTED
        self.overtaken += number < bucket.newest
        bucket.newest = max(bucket.newest, number)
        bucket.identified_ns = at_ns
        return at_ns - due_ns
