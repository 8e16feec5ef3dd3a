"""Detect shards that are granted too often, so must be crash-looping, and defer them. Nothing is granted here.

One shard id may have a fixed number of grants in a period. A further request waits five minutes from its last grant,
twice as long each further time, whatever its priority; all is forgotten when no more than that number fell in the
last 24 h. A refunded grant does not count: a turn that was not used costs the day nothing.
"""

from collections.abc import Iterable
from typing import NamedTuple

from nats_identify.schedule.model import DAY, SECOND

FIRST_WAIT_NS = 300 * SECOND
"""Ten grants at once, then one after 5, 10, 20 … minutes are 18 in a day: ten such shards spend 180 of 1,000."""

SHARDS_MAX = 10_000
"""The most shards that are kept: those that were granted last."""

TOLD_MAX = 1_000
"""The most shards in the ledger, so that it stays far below a NATS message of 1 MB."""


class ShardHistory(NamedTuple):
    """A shard's newest grants, the oldest first, and how many of them it had to wait for.

    In the ledger each grant is an age.
    """

    shard_id: int
    strikes: int
    granted_ns: tuple[int, ...]


class CrashLoopGuard:
    """The recent grants of each shard.

    Args:
        grants: how many are free in a period; 0: no guard.
        period_ns: how long a period is.
    """

    def __init__(self, grants: int = 0, period_ns: int = 3600 * SECOND) -> None:
        self._grants = grants
        self._period_ns = period_ns
        self._shards: dict[int, ShardHistory] = {}
        self._told: set[int] = set()
        self._announced: dict[int, int] = {}

    def knows(self, shard_id: int) -> bool:
        """Whether it keeps anything of this shard; of another one no request is deferred."""
        return shard_id in self._shards or shard_id in self._announced

    def opens_at_ns(self, shard_id: int, asked_at_ns: int, now_ns: int) -> int:
        """When a request made at ``asked_at_ns`` may be granted; in the past where it is not deferred."""
        history = self._shards.get(shard_id)
        if history is None or not self._is_one_too_many(history, asked_at_ns, now_ns):
            return 0
        strikes, granted_ns = self._strikes(history, now_ns), history.granted_ns
        opens_at_ns = granted_ns[-1] + (FIRST_WAIT_NS << strikes)
        return min(opens_at_ns, granted_ns[-self._grants - 1] + DAY) if strikes else opens_at_ns

    def is_news(self, shard_id: int, asked_at_ns: int, now_ns: int) -> bool:
        """Whether this shard must wait, and this wait was not reported before: True once for each wait."""
        if self.opens_at_ns(shard_id, asked_at_ns, now_ns) <= now_ns:
            self._announced.pop(shard_id, None)
            return False
        strikes = self._strikes(self._shards[shard_id], now_ns)
        is_news = self._announced.pop(shard_id, None) != strikes
        self._announced[shard_id] = strikes
        if len(self._announced) > SHARDS_MAX:
            del self._announced[next(iter(self._announced))]
        return is_news

    def count(self, shard_id: int, asked_at_ns: int, now_ns: int) -> None:
        """Count a grant."""
        if not self._grants:
            return
        history = self._shards.pop(shard_id, ShardHistory(shard_id=shard_id, strikes=0, granted_ns=()))
        is_strike = self._is_one_too_many(history, asked_at_ns, now_ns)
        strikes = self._strikes(history, now_ns) + 1 if is_strike else 0
        newest_ns = (*history.granted_ns, now_ns)[-self._grants - 2 :]  # one more than needed: one may be given back
        self._keep(ShardHistory(shard_id=shard_id, strikes=strikes, granted_ns=newest_ns))
        if len(self._shards) > SHARDS_MAX:
            del self._shards[next(iter(self._shards))]

    def refund(self, shard_id: int) -> None:
        """Remove a shard's newest grant, which was not used; none came after it, since its bucket is shut."""
        history = self._shards.get(shard_id)
        if history is not None:
            self._keep(history._replace(strikes=max(0, history.strikes - 1), granted_ns=history.granted_ns[:-1]))

    def forget(self, shard_id: int) -> bool:
        """Forget the grants of a shard; return whether any were kept."""
        self._told.discard(shard_id)
        self._announced.pop(shard_id, None)
        return self._shards.pop(shard_id, None) is not None

    def ages(self, now_ns: int) -> tuple[ShardHistory, ...]:
        """What a successor must know: the shards that have had half of their free grants, or more."""
        told = [self._shards[shard_id] for shard_id in self._told if shard_id in self._shards]
        told = sorted([h for h in told if self._matters(h, now_ns)], key=lambda h: h.strikes)[-TOLD_MAX:]
        self._told = {history.shard_id for history in told}
        return tuple([h._replace(granted_ns=tuple([now_ns - at_ns for at_ns in h.granted_ns])) for h in told])

    def restore(self, ages: Iterable[ShardHistory], now_ns: int) -> None:
        """Take over the leader's grants; each counts from when its age was read, never earlier than it was made."""
        self._shards, self._told = {}, set()
        for h in ages if self._grants else ():
            self._keep(h._replace(granted_ns=tuple([now_ns - age_ns for age_ns in h.granted_ns])))

    def _keep(self, history: ShardHistory) -> None:
        self._shards[history.shard_id] = history
        if history.strikes or len(history.granted_ns) >= max(1, self._grants // 2):
            self._told.add(history.shard_id)

    def _matters(self, history: ShardHistory, now_ns: int) -> bool:
        """Whether it can still make a shard wait."""
        half_ns = history.granted_ns[-max(1, self._grants // 2) :]
        return self._strikes(history, now_ns) > 0 or (bool(half_ns) and now_ns - half_ns[0] < self._period_ns)

    def _is_one_too_many(self, history: ShardHistory, asked_at_ns: int, now_ns: int) -> bool:
        """Whether a grant now is beyond the free ones: looping already, or all of them fell in the period before."""
        if len(history.granted_ns) < self._grants:
            return False
        before_ns = max(asked_at_ns, history.granted_ns[-1])  # a long ``waited`` gains nothing
        is_full = before_ns - history.granted_ns[-self._grants] < self._period_ns
        return is_full or self._strikes(history, now_ns) > 0

    def _strikes(self, history: ShardHistory, now_ns: int) -> int:
        is_forgotten = len(history.granted_ns) <= self._grants or history.granted_ns[-self._grants - 1] <= now_ns - DAY
        return 0 if is_forgotten else history.strikes
