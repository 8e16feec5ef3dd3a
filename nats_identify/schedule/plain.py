"""The one final reply of each plain requester: recorded for a successor before it is sent. Nothing is sent here.

A plain requester is granted or refused, once, through any change of leader. While its grant holds a bucket the
ledger has its record; after that, and after a refusal, its id stays in the ledger for a while. A replica that has
read the id ends the request, and a late copy of its message begins no other. Only a ledger that was lost takes the
ids with it. A waiting request is answered then, though it may have had its reply: a requester that had one has
unsubscribed, and a grant that no requester receives costs nothing. Without a reply the others would lose a minute each.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

from nats_identify.schedule.model import SECOND, RequestReceived, ScheduleAction

if TYPE_CHECKING:
    from nats_identify.schedule.state import ScheduleState

REPLIED_FOR_NS = 60 * SECOND
"""How long the ledger keeps an id: as long as a plain requester waits where its request has no timeout."""

REPLIED_MAX = 1_000
"""The ids that the ledger keeps, the newest ones: 80 kB. A successor does not know older ones."""

UNSENT_MAX = 10_000
"""The most refusals that wait for one commit; a request beyond it gets none."""

Replied = tuple[str, int]
"""The id of a plain request that had its reply, and for how long (ns) a successor must know."""


class PlainReplies:
    """Which plain requests have had their reply, and the refusals that wait for their commit."""

    def __init__(self) -> None:
        self._until_ns: OrderedDict[str, int] = OrderedDict()
        self._unsent: dict[str, list[ScheduleAction]] = {}

    def add(self, request_id: str, now_ns: int, left_ns: int = REPLIED_FOR_NS) -> None:
        """Keep this id for ``left_ns``."""
        self._until_ns[request_id] = now_ns + left_ns
        self._until_ns.move_to_end(request_id)
        if len(self._until_ns) > REPLIED_MAX:
            self._until_ns.popitem(last=False)

    def left(self, now_ns: int) -> tuple[Replied, ...]:
        """Return the ids that a successor must know, and drop the expired ones."""
        for request_id in [name for name, until_ns in self._until_ns.items() if until_ns <= now_ns]:
            del self._until_ns[request_id]
        return tuple([(request_id, until_ns - now_ns) for request_id, until_ns in self._until_ns.items()])

    def refuse(self, request_id: str, actions: list[ScheduleAction]) -> bool:
        """Keep a refusal until it is committed; return False where too many wait."""
        if len(self._unsent) >= UNSENT_MAX:
            return False
        self._unsent[request_id] = actions
        return True

    def take(self, now_ns: int) -> list[ScheduleAction]:
        """Return what may be sent once the next entry is committed: the entry holds these ids."""
        if not self._unsent:
            return []
        taken, self._unsent = self._unsent, {}
        for request_id in taken:
            self.add(request_id, now_ns)
        return [action for actions in taken.values() for action in actions]

    def step_down(self) -> None:
        """Drop the uncommitted refusals, which were not sent: the next leader replies."""
        self._unsent.clear()


def final(state: "ScheduleState", message: RequestReceived, actions: list[ScheduleAction]) -> list[ScheduleAction]:
    """Return a final reply to a managed requester; keep one to a plain requester until it is committed.

    A standby refuses no plain request: the leader's view decides.
    """
    if message.managed:
        return actions
    if state.is_leading:
        state.keep_refusal(message, actions)
    return []
