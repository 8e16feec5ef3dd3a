"""The waiting: one asking's record, and the order in which a bucket's askings stand. It grants nothing."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

from nats_identify.schedule.model import SECOND, Ask, Timing

EXPIRY_LEAST_NS = 12 * SECOND
"""A managed request lives through at least so long a silence: time for a client to reconnect."""

RENEW_MOST_NS = 60 * SECOND
"""The slowest pace of renewals: a queue of n costs at most n/60 of them a second."""


@dataclass(slots=True, eq=False)
class Asking:
    """One request, from its first message to its end.

    Attributes:
        ask: its newest renewal.
        asked_at_ns: when it first asked, by this clock; what it had waited elsewhere is counted in.
        order: the tie-break between two that asked in the same nanosecond.
        heard_at_ns: when the newest renewal's number was first received; grants echo that number.
        is_restored: it had waited already when it was first heard of here.
        gone_at_ns: when it is given up unless it is heard again.
        timeout_at_ns: when it is given up in any case, None for never.
        bucket: today's bucket.
        renew_in_ns: the pace last told.
        silent: declined, undeliverable or not reached by a nudge: not granted again before it renews.
        nudged_at_ns: when it was last told that its turn is near.
        retry_at_ns: a plain request that could not be delivered is not tried again before this.
        undeliverable_count: how often a plain request could not be delivered.
        held_back_until_ns: it stands behind everybody until then, since its shard loops; 0: it does not.
        grant_id: its live grant; while it has one it stands in no line.
    """

    ask: Ask
    asked_at_ns: int
    order: int
    heard_at_ns: int
    is_restored: bool = False
    gone_at_ns: int = 0
    timeout_at_ns: int | None = None
    bucket: int = 0
    renew_in_ns: int = 0
    silent: bool = False
    nudged_at_ns: int = 0
    retry_at_ns: int = 0
    undeliverable_count: int = 0
    held_back_until_ns: int = 0
    grant_id: str | None = None

    def is_fresh(self, now_ns: int, timing: Timing) -> bool:
        """Whether a grant made now would leave its shard time enough to use it."""
        if not self.ask.managed:
            return self.retry_at_ns <= now_ns
        return not self.silent and now_ns - self.heard_at_ns <= timing.fresh_ns

    def renew(self, ask: Ask, now_ns: int) -> None:
        """Take in a newer message of the same asking. A number sent twice counts from its first sending."""
        if ask.renewal > self.ask.renewal or not ask.managed:
            self.heard_at_ns = now_ns
            self.silent = False
        self.ask = ask

    def set_pace(self, renew_in_ns: int, now_ns: int) -> None:
        """Expect the next renewal in ``renew_in_ns``; three missed ones end a managed request."""
        self.renew_in_ns = renew_in_ns
        missed_at_ns = now_ns + max(3 * renew_in_ns, EXPIRY_LEAST_NS)
        if self.timeout_at_ns is None:
            self.gone_at_ns = missed_at_ns
        else:
            self.gone_at_ns = min(missed_at_ns, self.timeout_at_ns) if self.ask.managed else self.timeout_at_ns


class Line:
    """One bucket's askings: higher priority first, first come first served within one; those that loop come last."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int, int, int, Asking]] = []
        self.nudge_width = 1  # how many silent askings are nudged at most
        self.widen_at_ns: int | None = None  # when twice as many are

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Asking]:
        return (place[-1] for place in self._places)

    @property
    def last(self) -> Asking:
        """Whoever comes last."""
        return self._places[-1][-1]

    @property
    def held_back(self) -> int:
        """How many stand behind everybody since their shards loop."""
        return len(self._places) - bisect.bisect_left(self._places, (1,))

    def add(self, asking: Asking) -> None:
        """Put it where its priority and its first asking say."""
        bisect.insort(self._places, self._place(asking))

    def remove(self, asking: Asking) -> None:
        """Take it out; its priority must be the one it was added with."""
        del self._places[self.position(asking) - 1]

    def position(self, asking: Asking) -> int:
        """1 means next."""
        return bisect.bisect_left(self._places, self._place(asking)) + 1

    @staticmethod
    def _place(asking: Asking) -> tuple[int, int, int, int, Asking]:
        return (asking.held_back_until_ns, -asking.ask.priority, asking.asked_at_ns, asking.order, asking)
