"""What a coordinator has received and not applied yet: of one managed request one message. It decides nothing."""

from collections.abc import Callable

from nats_identify.schedule.model import RequestReceived
from nats_identify.schedule.senders import sender_of
from tests.simulation.engine import Engine


class Inbox:
    """Requests that wait for a while each, as behind a crowd of others.

    Args:
        engine: the time.
        max_ns: how long one waits at most; 0: none does.
        apply: called with each.
    """

    def __init__(self, engine: Engine, max_ns: int, apply: Callable[[RequestReceived], None]) -> None:
        self._engine = engine
        self._max_ns = max_ns
        self._apply = apply
        self._waiting: dict[str, RequestReceived] = {}
        self._last_ns: dict[str, int] = {}  # by sender, whose requests stay in their order

    def put(self, request: RequestReceived) -> None:
        """Apply it now or later; in the place of an older message of the same request, where one waits."""
        if not self._max_ns:
            self._apply(request)
            return
        older = self._waiting.get(request.request_id) if request.managed else None
        if older is not None:
            self._waiting[request.request_id] = older.merged_with(request)
            return
        at_ns, sender = self._engine.now_ns + self._engine.between(0, self._max_ns), sender_of(request.reply_to)
        self._last_ns[sender] = at_ns = max(at_ns, self._last_ns.get(sender, 0))
        if request.managed:
            self._waiting[request.request_id] = request
            self._engine.at(at_ns, self._pop, request.request_id)
        else:
            self._engine.at(at_ns, self._apply, request)

    def _pop(self, request_id: str) -> None:
        self._apply(self._waiting.pop(request_id))
