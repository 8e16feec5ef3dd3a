"""Prove at intervals that the traffic connection carries messages. No decision is made here."""

import asyncio
from contextlib import suppress

from nats import errors

from coordinator.core.ledger import TrafficReceived
from coordinator.edge.connections import Connection
from coordinator.edge.event_queue import EventQueue
from nats_identify.clock import Clock
from nats_identify.nats_protocol import Handler


class Probe:
    """A message to ourselves, a third of a lease apart; any other message that arrived meanwhile proves the same.

    Under a flood our own message is behind those of others: a leader that still receives must not resign for it.

    Attributes:
        received_at_ns: when something was last known to have arrived.
    """

    def __init__(self, traffic: Connection, event_queue: EventQueue, every_s: float, clock: Clock) -> None:
        self.received_at_ns: int | None = None
        self._clock = clock
        self._traffic = traffic
        self._event_queue = event_queue
        self._every_s = every_s

    async def run(self) -> None:
        """Probe until cancelled."""
        subject = self._traffic.new_inbox()
        await self._traffic.receive(subject, Handler(self._on_message, self._on_message, 0))
        while True:
            if self._traffic.can_send:
                with suppress(errors.Error):
                    await self._traffic.publish(subject)
            received = self._traffic.received
            await asyncio.sleep(self._every_s)
            if self._traffic.received != received:
                self._note_received()

    def _on_message(self, *_: bytes | int) -> None:
        self._note_received()

    def _note_received(self) -> None:
        self.received_at_ns = self._clock()
        self._event_queue.put(TrafficReceived())
