"""A shard with an attempt in its hands and a clock that is moved by hand. It asserts nothing of the attempt."""

from typing import Any

from nats_identify import wire
from nats_identify.client.requester import (
    Begin,
    DeliverGrant,
    Received,
    Requester,
    RequesterAction,
    RequesterEvent,
    SendAnswer,
    SendRequest,
    Tick,
)
from nats_identify.reason import Reason
from nats_identify.schedule.model import MS, SECOND, Code, Outcome

NAME = "r1"


def half() -> float:
    """A random number, in the middle of each range."""
    return 0.5


class Shard:
    """Shard 5 of 4 buckets with an attempt in its hands, and a clock that is moved by hand."""

    def __init__(self, **options: Any) -> None:
        self.now_ns = 1_000 * SECOND
        self.requester = Requester(5, NAME, **{"jitter": half, "max_concurrency": 4, **options})

    def tell(self, event: RequesterEvent, *, after_ms: float = 0) -> list[RequesterAction]:
        self.now_ns += int(after_ms * MS)
        return self.requester.handle(event, self.now_ns)

    def begin(self) -> SendRequest:
        (sent,) = self.tell(Begin())
        assert isinstance(sent, SendRequest)
        return sent

    def pass_ms(self, duration_ms: float) -> list[RequesterAction]:
        """Move time forward, stopping at each deadline on the way."""
        said: list[RequesterAction] = []
        end_ns = self.now_ns + int(duration_ms * MS)
        while (deadline_ns := self.requester.next_deadline_ns()) is not None and deadline_ns <= end_ns:
            self.now_ns = max(self.now_ns, deadline_ns)
            said += self.tell(Tick())
        self.now_ns = end_ns
        return said

    def queued(self, *, after_ms: float = 0, **fields: Any) -> list[RequesterAction]:
        defaults: dict[str, Any] = {"position": 2, "eta_ms": 20_000, "renew_in_ms": 10_000, "reason": Reason.WINDOW}
        ids: dict[str, Any] = {"shard_id": 5, "bucket": 1, "request_id": NAME, "max_concurrency": 4}
        return self.tell(Received(wire.Queued(**{**ids, **defaults, **fields})), after_ms=after_ms)

    def granted(
        self, grant_id: str = "g1", *, renewal: int = 0, to: str = "", after_ms: float = 0, **fields: Any
    ) -> list[RequesterAction]:
        ids: dict[str, Any] = {"shard_id": 5, "bucket": 1, "request_id": NAME, "grant_id": grant_id}
        rest: dict[str, Any] = {"use_within_ms": 5_000, "waited_ms": 0, "remaining": 9, "max_concurrency": 4}
        grant = wire.Granted(**{**ids, **rest, "renewal": renewal, **fields})
        return self.tell(Received(grant, to or f"confirm.{grant_id}"), after_ms=after_ms)

    def refused(self, code: Code, *, request_id: str = NAME, **fields: Any) -> list[RequesterAction]:
        return self.tell(Received(wire.Refused(code=code, message="why", request_id=request_id, **fields)))


def requests(actions: list[RequesterAction]) -> list[wire.Request]:
    return [action.request for action in actions if isinstance(action, SendRequest)]


def renewals(actions: list[RequesterAction]) -> list[int]:
    return [request.renewal for request in requests(actions)]


def answers(actions: list[RequesterAction]) -> list[tuple[str, Outcome]]:
    return [(action.to, action.outcome) for action in actions if isinstance(action, SendAnswer)]


def handed_over(actions: list[RequesterAction]) -> DeliverGrant:
    (action,) = [action for action in actions if isinstance(action, DeliverGrant)]
    return action
