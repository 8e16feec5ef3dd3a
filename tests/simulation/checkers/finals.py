"""Checks that a plain requester is sent one final reply, by whoever leads. It knows no ledger."""

from typing import TYPE_CHECKING

from coordinator.core.ledger import ReplicaEvent
from nats_identify.schedule.model import Granted, Refused, Reply, RequestReceived, Undeliverable
from tests.simulation.rogue import PREFIX
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


class Finals:
    """``one reply``: a plain request is granted or refused once, through any change of leader.

    A grant that nobody received is no reply. After the ledger was lost a request that waits may be answered again.
    """

    def __init__(self) -> None:
        self._plain: dict[str, bool] = {}  # by request: whether it is one, of a client that keeps the contract
        self._replied: dict[str, str] = {}  # by request: what, by whom

    def told(self, event: ReplicaEvent) -> None:
        """A replica was told something."""
        if type(event) is RequestReceived:
            self._plain.setdefault(event.request_id, not event.managed and not event.request_id.startswith(PREFIX))
        elif type(event) is Undeliverable:
            for request_id, what in list(self._replied.items()):
                if what.startswith(f"{event.grant_id} "):
                    del self._replied[request_id]

    def sends(self, coordinator: "Coordinator", reply: Reply) -> None:
        """A replica sends this."""
        body = reply.body
        if not isinstance(body, Granted | Refused) or not self._plain.get(body.request_id, False):
            return
        what = f"{body.grant_id if isinstance(body, Granted) else body.code} by {coordinator.name}"
        before = self._replied.setdefault(body.request_id, what)
        if before is not what:
            what = f"{body.request_id} is sent {what} after {before}"
            raise Violation("one reply", coordinator.engine.now_ns, what)

    def lost(self) -> None:
        """What was in the ledger is gone, and with it who had a reply."""
        self._replied.clear()
        self._plain.clear()
