"""Judges whether this process lives and is ready to lead, from what its parts recorded. It repairs nothing.

NATS being down makes a coordinator unready, never dead: starting it again would not bring NATS back.
"""

from collections.abc import Callable
from typing import Final

from coordinator.edge.connections import Connection
from coordinator.edge.probe import Probe
from coordinator.edge.store import LedgerStore
from coordinator.runtime import Runtime
from nats_identify.clock import NS_PER_S, Clock

STUCK_AFTER_NS: Final = 10 * NS_PER_S
"""The loop turns each second, and a call to the ledger ends within one: more than this is a fault of ours."""

READY_WITHIN_LEASES: Final = 2


class Health:
    """The health of one process; its parts come once NATS has been reached.

    Args:
        lease_ns: the ledger must be read, and a probe received, within twice this.
        clock: the replica's time.
        refusal: Discord's error where it refuses the bot's token, else None: such a process can grant nothing.
    """

    def __init__(self, lease_ns: int, clock: Clock, refusal: Callable[[], str | None] = lambda: None) -> None:
        self._within_ns = READY_WITHIN_LEASES * lease_ns
        self._stuck_after_ns = max(STUCK_AFTER_NS, 3 * lease_ns)
        self._clock = clock
        self._refusal = refusal
        self._parts: tuple[Runtime, LedgerStore, Probe, tuple[Connection, ...]] | None = None
        self._is_leaving = False

    def attach(self, runtime: Runtime, store: LedgerStore, probe: Probe, connections: tuple[Connection, ...]) -> None:
        """Watch these from now on."""
        self._parts = (runtime, store, probe, connections)

    def leave(self) -> None:
        """Not ready any more: this process is about to end."""
        self._is_leaving = True

    def liveness_error(self) -> str | None:
        """Return why this process should be started again, or None where it lives."""
        if self._parts is None:
            return None
        runtime, store, _, _ = self._parts
        if self._age_ns(runtime.turned_at_ns) > self._stuck_after_ns:
            return "the loop does not turn"
        if store.called_at_ns is not None and self._age_ns(store.called_at_ns) > self._stuck_after_ns:
            return "a call to the ledger does not end"
        return None

    def readiness_error(self) -> str | None:
        """Return why this process could not lead now, or None where it could."""
        if self._is_leaving:
            return "about to end"
        if self._parts is None:
            return "NATS has not been reached yet"
        _, store, probe, connections = self._parts
        if not all(connection.is_connected for connection in connections):
            return "NATS is not connected"
        if (trouble := store.making.reason or store.writing.reason or store.bucket.wrong) is not None:
            return trouble
        if self._age_ns(store.answered_at_ns) > self._within_ns:
            return f"the ledger does not answer: {store.unread}" if store.unread else "the ledger does not answer"
        if self._age_ns(probe.received_at_ns) > self._within_ns:
            return "the traffic connection is silent"
        return self._refusal() or self.liveness_error()

    def _age_ns(self, at_ns: int | None) -> int:
        return self._clock() - (at_ns or 0)
