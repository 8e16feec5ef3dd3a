"""Logs what is wrong with a shard's connection, at most each 30 s, and when it is over. It repairs nothing."""

import logging
import time
from collections.abc import Callable
from typing import Final

from nats_identify.printable import printable

SAY_EVERY_S: Final = 30.0
"""Interval of repeated lines about an outage that lasts."""

KINDS_MAX: Final = 16
"""The kinds of trouble of one shard that are kept apart; any further kind counts as one more."""

logger = logging.getLogger("nats_identify")


class Outage:
    """The time of one shard from its first trouble until it is up again.

    Args:
        shard_id: the shard.
        clock: seconds that only grow; tests bring their own.
    """

    def __init__(self, shard_id: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._shard_id = shard_id
        self._clock = clock
        self._began_s = 0.0
        self._said_s: dict[str, float] = {}

    def note(self, kind: str, text: str) -> None:
        """Log this, unless the same kind of trouble was logged less than half a minute ago.

        Args:
            kind: what makes it the same trouble.
            text: what follows "shard 3 ": what happened, and what comes next.
        """
        now_s = self._clock()
        if not self._said_s:
            self._began_s = now_s
        if kind not in self._said_s and len(self._said_s) >= KINDS_MAX:
            kind = ""
        said_s = self._said_s.get(kind)
        if said_s is None or now_s - said_s >= SAY_EVERY_S:
            self._said_s[kind] = now_s
            logger.warning("shard %d %s", self._shard_id, printable(text))

    def over(self) -> None:
        """Log that the shard is up again, if its outage was logged."""
        if self._said_s:
            self._said_s.clear()
            logger.warning("shard %d is up again after %.1f s", self._shard_id, self._clock() - self._began_s)
