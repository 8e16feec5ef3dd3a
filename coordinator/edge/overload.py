"""Logs that requests are dropped because more arrive than can be handled, and when that is over. It drops nothing."""

import asyncio
from typing import Final

from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.edge.trouble import Trouble
from nats_identify.clock import Clock

LOOK_EVERY_S: Final = 1.0

_CURE: Final = (
    "managed requesters ask again by themselves; where it lasts, look for the client that sends the most, "
    "or give the coordinator a faster core"
)


class OverloadLog:
    """Looks at the count of messages for which there was no room.

    Args:
        metrics: has the count.
        clock: the replica's time.
        log: gets a line when it begins, each 30 s while it lasts, and when it is over.
    """

    def __init__(self, metrics: Metrics, clock: Clock, log: Log) -> None:
        self._metrics = metrics
        self._trouble = Trouble("requests are dropped: too many arrive", "no request is dropped any more", clock, log)
        self._seen = 0

    async def run(self) -> None:
        """Look each second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Compare the count with that of the last look."""
        count = self._metrics.dropped("overflow")
        if count > self._seen:
            self._trouble.met(f"{count - self._seen} since the last look", _CURE)
        else:
            self._trouble.ended()
        self._seen = count
