"""Backoff of GET /gateway/bot: how long to wait after each result. Pure: no request, no clock, no randomness.

The caller passes the result and a random number. Every caller of the API uses this backoff.
"""

from enum import StrEnum
from typing import Final

from nats_identify.clock import NS_PER_S

ASK_EVERY_NS: Final = 1 * NS_PER_S
"""The shortest time between two requests."""

BACK_OFF_MAX_NS: Final = 60 * NS_PER_S
"""Failures back off by 2, 4, 8 … s up to this, less up to half at random, so that clients do not retry in step."""

TOKEN_REFUSED_NS: Final = 60 * NS_PER_S
"""A refused token stays refused, and repeated requests with it can get the address banned."""


class FetchResult(StrEnum):
    """The result of a request."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    TOKEN_REFUSED = "token_refused"  # noqa: S105  # not a secret
    UNAVAILABLE = "unavailable"


class Backoff:
    """The backoff of one client."""

    def __init__(self) -> None:
        self._failures = 0

    def answered(self, answer: FetchResult, *, jitter: float, retry_after_ns: int = 0) -> int:
        """Return how long to wait before the next request, in nanoseconds.

        Args:
            answer: the result.
            jitter: from 0 to 1, drawn anew for each answer.
            retry_after_ns: what Discord demands with `FetchResult.RATE_LIMITED`.
        """
        if answer is FetchResult.UNAVAILABLE:
            self._failures += 1
            back_off_ns = min(ASK_EVERY_NS << min(self._failures, 16), BACK_OFF_MAX_NS)
            return back_off_ns - int(jitter * back_off_ns) // 2
        self._failures = 0
        if answer is FetchResult.TOKEN_REFUSED:
            return TOKEN_REFUSED_NS
        return max(retry_after_ns, ASK_EVERY_NS)
