"""Proves, again and again, that the traffic connection carries messages. It judges nothing."""

import asyncio
from contextlib import suppress

from nats import errors
from nats.aio.msg import Msg

from coordinator.core.ledger import TrafficHeard
from coordinator.edge.connections import Connection
from coordinator.edge.inbox import Inbox
from nats_identify.clock import Clock


class Probe:
    """A message to ourselves, a third of a lease apart.

    Attributes:
        heard_at_ns: when the last one arrived.
    """

    def __init__(self, traffic: Connection, inbox: Inbox, every_s: float, clock: Clock) -> None:
        self.heard_at_ns: int | None = None
        self._clock = clock
        self._traffic = traffic
        self._inbox = inbox
        self._every_s = every_s

    async def run(self) -> None:
        """Probe until cancelled."""
        subject = self._traffic.new_inbox()
        await self._traffic.subscribe(subject, cb=self._hear)
        while True:
            if self._traffic.can_send:
                with suppress(errors.Error):
                    await self._traffic.publish(subject)
            await asyncio.sleep(self._every_s)

    async def _hear(self, _message: Msg) -> None:
        self.heard_at_ns = self._clock()
        self._inbox.tell(TrafficHeard())
