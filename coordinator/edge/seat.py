"""Whether this replica leads now: within its own lease, by its own clock. It keeps no state."""

from coordinator.core.replica import Replica, Role
from nats_identify.clock import Clock


class Seat:
    """The leader's seat, as seen from here."""

    def __init__(self, replica: Replica, clock: Clock) -> None:
        self._replica = replica
        self._clock = clock

    @property
    def is_leading(self) -> bool:
        """Whether this replica may act as leader."""
        return self._replica.role is Role.LEADER and self._clock() <= self._replica.lease_until_ns
