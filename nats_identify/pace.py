"""How long to leave Discord alone after each answer to GET /gateway/bot. It never asks, waits or rolls dice.

Whoever asks tells it what came of that, with a chance of its own choosing; all who ask keep this one pace.
"""

from enum import StrEnum
from typing import Final

from nats_identify.clock import NS_PER_S

ASK_EVERY_NS: Final = 1 * NS_PER_S
"""Two questions are so far apart at least, whoever wants them."""

BACK_OFF_MOST_NS: Final = 60 * NS_PER_S
"""Trouble is met by 2, 4, 8 … s up to this, less up to half at random: many who failed together do not return so."""

TOKEN_REFUSED_NS: Final = 60 * NS_PER_S
"""A wrong token does not mend itself, and asking on with it can get the address banned."""


class Answer(StrEnum):
    """What came of a question."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    TOKEN_REFUSED = "token_refused"  # noqa: S105  # not a secret
    UNAVAILABLE = "unavailable"


class Pace:
    """The pace of one who asks."""

    def __init__(self) -> None:
        self._failures = 0

    def answered(self, answer: Answer, *, chance: float, retry_after_ns: int = 0) -> int:
        """Return how many nanoseconds Discord is left alone now.

        Args:
            answer: what came of the question.
            chance: from 0 to 1, drawn anew for each answer.
            retry_after_ns: what Discord asked for, where it was `Answer.RATE_LIMITED`.
        """
        if answer is Answer.UNAVAILABLE:
            self._failures += 1
            back_off_ns = min(ASK_EVERY_NS << min(self._failures, 16), BACK_OFF_MOST_NS)
            return back_off_ns - int(chance * back_off_ns) // 2
        self._failures = 0
        if answer is Answer.TOKEN_REFUSED:
            return TOKEN_REFUSED_NS
        return max(retry_after_ns, ASK_EVERY_NS)
