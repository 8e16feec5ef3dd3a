"""When a leader hands over to an operator's command, and when it contests the lead again. Nothing is written here."""

from typing import Final

YIELDS_LEASES: Final = 2
"""After a handover the former leader does not contest the lead for this many leases, or until another replica has led:
so any standby takes over first. If there is no standby, the former leader leads again after that."""


class HandoverPolicy:
    """The handover of one replica.

    Args:
        lease_ns: the replica's lease.

    Attributes:
        is_under_way: the next write gives the lead up.
        contests_at_ns: the lead is not contested before.
    """

    def __init__(self, lease_ns: int) -> None:
        self._lease_ns = lease_ns
        self._led_since_ns = 0
        self.is_under_way = False
        self.contests_at_ns = 0

    def become_leader(self, now_ns: int) -> None:
        """It leads from now on."""
        self._led_since_ns = now_ns

    def is_too_early(self, now_ns: int) -> bool:
        """Whether it has led for less than a lease: the command may be the one that made it leader, received late."""
        return now_ns - self._led_since_ns < self._lease_ns

    def begin(self) -> None:
        """Give the lead up with the next write."""
        self.is_under_way = True

    def give_up(self, now_ns: int) -> None:
        """The write that gives the lead up is sent now."""
        self.contests_at_ns = now_ns + YIELDS_LEASES * self._lease_ns

    def step_down(self) -> None:
        """It does not lead any more, whether it has handed over or not."""
        self.is_under_way = False

    def see_leader(self) -> None:
        """Another leads, or has led, since."""
        self.contests_at_ns = 0
