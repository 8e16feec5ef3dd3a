"""Judges IDENTIFYs by Discord's two limits, the window and the day; it never reads a clock or a socket.

Where Discord's documents leave a choice, the judge takes the pessimistic one:

- A gap of exactly one window is allowed, one nanosecond less is not.
- A refused IDENTIFY counts like any other: it restarts its bucket's window and is spent from the day.
- Across a change of ``max_concurrency`` both numberings bind: an IDENTIFY made under m and one made under n
  conflict if they share a bucket under m or under n. Two made under n are judged by n alone.
- The last session start of a day is allowed; the IDENTIFY after it is over the limit. Real Discord then ends
  every session and resets the token. Here it is refused and counted, so that a run shows how far it went.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nats_identify.clock import NS_PER_MS, NS_PER_S

WINDOW_NS: Final = 5 * NS_PER_S
"""``max_concurrency`` is the number of IDENTIFYs per 5 s, one for each ``rate_limit_key``.

Source: https://discord.com/developers/docs/events/gateway#rate-limiting
"""

DAY_NS: Final = 24 * 60 * 60 * NS_PER_S
"""The session start limit is one of 24 hours. Source: as above, "Session Start Limit"."""


class Verdict(StrEnum):
    """The verdict on one IDENTIFY; where two apply, the more severe one."""

    ACCEPTED = "accepted"
    TOO_EARLY = "too_early"
    OVER_LIMIT = "over_limit"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One IDENTIFY and what became of it.

    Attributes:
        at_ns: when it arrived, in nanoseconds on the clock of the judge's caller.
        shard_id: the shard that sent it.
        max_concurrency: the number in force when it arrived.
        bucket: ``shard_id % max_concurrency``.
        gap_ns: nanoseconds since the latest earlier IDENTIFY that shares a bucket with it; None for the first.
        verdict: what Discord makes of it.
    """

    at_ns: int
    shard_id: int
    max_concurrency: int
    bucket: int
    gap_ns: int | None
    verdict: Verdict


class Day:
    """Discord's session start limit: a maximum of IDENTIFYs in a day that begins with the first of them."""

    def __init__(
        self, now_ns: int, *, total: int = 1000, remaining: int | None = None, length_ns: int = DAY_NS
    ) -> None:
        """Begin untouched, or with ``remaining`` left of a day that ends ``length_ns`` from now.

        Raises:
            ValueError: a figure that Discord would never send.
        """
        self._total = total
        self._remaining = total
        self._length_ns = length_ns
        self._ends_ns: int | None = None
        self.change(now_ns, total=total, remaining=remaining, length_ns=length_ns)

    @property
    def total(self) -> int:
        """IDENTIFYs allowed in a day."""
        return self._total

    def remaining(self, now_ns: int) -> int:
        """Return how many IDENTIFYs are left at this instant."""
        self._turn_page(now_ns)
        return self._remaining

    def reset_after_ms(self, now_ns: int) -> int:
        """Return milliseconds until the day ends, rounded up; 0 while nothing was used, as at Discord."""
        self._turn_page(now_ns)
        return 0 if self._ends_ns is None else -((now_ns - self._ends_ns) // NS_PER_MS)

    def spend(self, now_ns: int) -> bool:
        """Spend one IDENTIFY. Return whether one was left."""
        self._turn_page(now_ns)
        if self._ends_ns is None:
            self._ends_ns = now_ns + self._length_ns
        was_left = self._remaining > 0
        self._remaining = max(0, self._remaining - 1)
        return was_left

    def change(
        self,
        now_ns: int,
        *,
        total: int | None = None,
        remaining: int | None = None,
        length_ns: int | None = None,
    ) -> None:
        """Put other figures in force; what is None stays. A new length starts to run now.

        Raises:
            ValueError: a figure that Discord would never send.
        """
        self._turn_page(now_ns)
        new_total = self._total if total is None else total
        new_remaining = min(self._remaining, new_total) if remaining is None else remaining
        new_length_ns = self._length_ns if length_ns is None else length_ns
        if new_total < 1 or not 0 <= new_remaining <= new_total or new_length_ns < 1:
            message = (
                f"total {new_total}, remaining {new_remaining} and a day of {new_length_ns} ns do not fit: "
                "give 0 <= remaining <= total, a total of 1 or more and a positive length"
            )
            raise ValueError(message)
        untouched = self._ends_ns is None and new_remaining == new_total
        self._total, self._remaining, self._length_ns = new_total, new_remaining, new_length_ns
        if not untouched and (self._ends_ns is None or length_ns is not None):
            self._ends_ns = now_ns + new_length_ns

    def reset(self) -> None:
        """Begin a new day, untouched."""
        self._remaining = self._total
        self._ends_ns = None

    def _turn_page(self, now_ns: int) -> None:
        if self._ends_ns is not None and now_ns >= self._ends_ns:
            self.reset()


class Judge:
    """Says for each IDENTIFY, in order of arrival, whether Discord would take it."""

    def __init__(self, day: Day, *, window_ns: int = WINDOW_NS) -> None:
        """Judge by this day and this window.

        Raises:
            ValueError: the window is not positive.
        """
        if window_ns < 1:
            message = f"a window of {window_ns} ns holds nothing apart; give 1 ns or more"
            raise ValueError(message)
        self.day = day
        self._window_ns = window_ns
        self._within_window: deque[Judgement] = deque()
        self._latest_ns_of_bucket: dict[int, int] = {}  # by the numbering of the latest IDENTIFY alone
        self._numbering = 0
        self._now_ns: int | None = None

    def identify(self, at_ns: int, shard_id: int, max_concurrency: int) -> Judgement:
        """Judge one IDENTIFY.

        Args:
            at_ns: its arrival; never before the one judged last.
            shard_id: the shard, 0 or more.
            max_concurrency: the number in force, 1 or more.

        Raises:
            ValueError: the arguments cannot be; the caller must check what it reads from a client.
        """
        self._check(at_ns, shard_id, max_concurrency)
        self._move_on(at_ns, max_concurrency)
        bucket = shard_id % max_concurrency
        earlier_ns = self._latest_sharing_ns(shard_id, max_concurrency)
        gap_ns = None if earlier_ns is None else at_ns - earlier_ns
        if not self.day.spend(at_ns):
            verdict = Verdict.OVER_LIMIT
        elif gap_ns is not None and gap_ns < self._window_ns:
            verdict = Verdict.TOO_EARLY
        else:
            verdict = Verdict.ACCEPTED
        judgement = Judgement(at_ns, shard_id, max_concurrency, bucket, gap_ns, verdict)
        self._within_window.append(judgement)
        self._latest_ns_of_bucket[bucket] = at_ns
        return judgement

    def _check(self, at_ns: int, shard_id: int, max_concurrency: int) -> None:
        if shard_id < 0 or max_concurrency < 1:
            message = f"there is no bucket {shard_id} % {max_concurrency}; check both numbers first"
            raise ValueError(message)
        if self._now_ns is not None and at_ns < self._now_ns:
            message = f"{at_ns} ns is before the last arrival, {self._now_ns} ns; judge in order"
            raise ValueError(message)

    def _move_on(self, at_ns: int, max_concurrency: int) -> None:
        """Forget what can no longer matter, so that memory is bounded by one window and one numbering."""
        self._now_ns = at_ns
        while self._within_window and at_ns - self._within_window[0].at_ns >= self._window_ns:
            self._within_window.popleft()
        if max_concurrency != self._numbering:
            self._numbering = max_concurrency
            self._latest_ns_of_bucket.clear()

    def _latest_sharing_ns(self, shard_id: int, max_concurrency: int) -> int | None:
        candidates = [
            earlier.at_ns
            for earlier in self._within_window
            if shard_id % max_concurrency == earlier.shard_id % max_concurrency
            or shard_id % earlier.max_concurrency == earlier.bucket
        ]
        in_bucket_ns = self._latest_ns_of_bucket.get(shard_id % max_concurrency)
        if in_bucket_ns is not None:
            candidates.append(in_bucket_ns)
        return max(candidates, default=None)
