"""The one final reply of each plain requester: recorded for a successor before it is sent. Nothing is sent here.

A plain requester is granted or refused, once, through any change of leader. While its grant holds a bucket the
ledger has its record; after that, and after a refusal, its id stays in the ledger for a while. A replica that has
read the id ends the request, and a late copy of its message begins no other. The ids are lost only if the ledger is
lost. Then each waiting request is answered, although it may have had its reply: a requester that had one has
unsubscribed, and a grant that no requester receives costs nothing. The others would otherwise wait in vain.
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

Replied = tuple[str, int]
"""The id of a plain request that had its reply, and for how long (ns) a successor must know."""


class PlainReplies:
    """Which plain requests have had their reply."""

    def __init__(self) -> None:
        self._until_ns: OrderedDict[str, int] = OrderedDict()

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


def final(state: "ScheduleState", message: RequestReceived, actions: list[ScheduleAction]) -> list[ScheduleAction]:
    """Return a final reply to a managed requester; keep one to a plain requester until it is committed.

    A standby refuses no plain request: the leader's view decides.
    """
    if message.managed:
        return actions
    if state.is_leading:
        state.keep_refusal(message, actions)
    return []
