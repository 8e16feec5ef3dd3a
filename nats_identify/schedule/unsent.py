"""Replies that wait until the ledger entry that records their cause is committed. Nothing is sent here.

A leader that steps down drops them: its successor may not have what they report. It repeats no reply. A plain
requester's message reaches every replica, so the successor refuses it anew; an operator gives the command again.
"""

from nats_identify.schedule.model import ScheduleAction

UNSENT_MAX = 10_000
"""The most replies that wait for one commit; what is beyond it gets none."""


class UnsentReplies:
    """The replies for the next entry, each with the plain request whose one reply it is, if it is one."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str | None, list[ScheduleAction]]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no further reply is kept."""
        return len(self._waiting) >= UNSENT_MAX

    def keep(self, actions: list[ScheduleAction], request_id: str | None = None) -> bool:
        """Keep a reply, and the events that belong to it; return False where too many wait."""
        if self.is_full:
            return False
        self._waiting.append((request_id, actions))
        return True

    def take(self) -> tuple[list[ScheduleAction], list[str]]:
        """Return what may be sent once the next entry is committed, and the plain requests that it must record."""
        taken, self._waiting = self._waiting, []
        actions = [action for _, kept in taken for action in kept]
        return actions, [request_id for request_id, _ in taken if request_id is not None]

    def drop(self) -> None:
        """Drop them: their cause was not committed by this leader."""
        self._waiting.clear()
