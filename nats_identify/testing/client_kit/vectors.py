"""Test vectors of the wire contract: messages in, messages out, as JSON; made from the product, for other languages.

They are shipped as ``vectors.json`` beside this file. ``python -m nats_identify.testing.client_kit.vectors`` prints
them anew; a test holds the file equal to that.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from nats_identify import wire
from nats_identify.client.requester import (
    AskAnew,
    Begin,
    DeliverGrant,
    Identified,
    Received,
    Requester,
    RequesterEvent,
    SendAnswer,
    SendCancel,
    SendRequest,
    Tick,
    Withdraw,
)
from nats_identify.clock import NS_PER_MS
from nats_identify.reason import Reason

FILE: Final = Path(__file__).with_name("vectors.json")
SUBJECTS: Final = wire.Subjects()
CLIENT_EVENTS: Final[dict[str, RequesterEvent]] = {
    "begin": Begin(),
    "time": Tick(),
    "identified": Identified(),
    "withdraw": Withdraw(),
}
"""What happens to a client beside a message: it wants a turn, time has passed, IDENTIFY was sent, it wants no turn."""

ABOUT: Final = (
    "`exchanges`: messages to a managed client, and in `out` all that it does then. Times are milliseconds since the "
    "beginning. A field that has its default may be left out. `requests`: payloads as a coordinator reads them; one "
    "that is not accepted is refused with bad_request."
)


@dataclass(slots=True)
class Exchange:
    """One request of one shard, played with the product's own client.

    Args:
        name: what it shows, as a sentence.
        shard_id: the shard.
        max_concurrency: what the client takes it for in the beginning.
    """

    name: str
    shard_id: int = 0
    max_concurrency: int = 1
    steps: list[dict[str, Any]] = field(default_factory=list)
    _requester: Requester = field(init=False)

    def __post_init__(self) -> None:
        self._requester = Requester(self.shard_id, "a1", max_concurrency=self.max_concurrency, jitter=lambda: 0.0)

    def event(self, at_ms: int, name: str) -> None:
        """Let one of `CLIENT_EVENTS` happen, and note what the client sends."""
        self._step(at_ms, {"event": name}, CLIENT_EVENTS[name])

    def message(self, at_ms: int, body: BaseModel, reply: str = "") -> None:
        """Let a message of the coordinator arrive, and note what the client sends."""
        shown = json.loads(body.model_dump_json(exclude_none=isinstance(body, wire.Refused)))
        received = {"event": "message", "payload": shown, **({"reply": reply} if reply else {})}
        self._step(at_ms, received, Received(wire.decode_reply(body.model_dump_json().encode()), reply))

    def grant(self, at_ms: int, grant_id: str, **fields: Any) -> None:  # noqa: ANN401  # fields of wire.Granted
        """Let a grant arrive, with its confirm subject as reply subject but for ``reply``."""
        reply = fields.pop("reply", None)
        buckets = fields.get("max_concurrency", self._requester.max_concurrency or 1)
        values = {
            "shard_id": self.shard_id,
            "bucket": fields.get("shard_id", self.shard_id) % buckets,
            "request_id": "a1",
            "grant_id": grant_id,
            "renewal": 0,
            "use_within_ms": 5_000,
            "waited_ms": 0,
            "remaining": 900,
            "max_concurrency": buckets,
            "term": 1,
        }
        body = wire.Granted(**{**values, **fields})
        self.message(at_ms, body, reply or SUBJECTS.confirm(body.bucket, grant_id))

    def queued(self, at_ms: int, renew_in_ms: int, max_concurrency: int | None = None) -> None:
        """Let a `queued` arrive."""
        buckets = max_concurrency or self._requester.max_concurrency or 1
        body = wire.Queued(
            shard_id=self.shard_id,
            bucket=self.shard_id % buckets,
            request_id="a1",
            position=2,
            eta_ms=60_000,
            renew_in_ms=renew_in_ms,
            reason=Reason.WINDOW,
            max_concurrency=buckets,
        )
        self.message(at_ms, body)

    def as_json(self) -> dict[str, Any]:
        """The vector."""
        head = {"name": self.name, "shard_id": self.shard_id, "max_concurrency": self.max_concurrency}
        return {**head, "request_id": "a1", "steps": self.steps}

    def _step(self, at_ms: int, happened: dict[str, Any], event: RequesterEvent) -> None:
        sent = [shown for one in self._requester.handle(event, at_ms * NS_PER_MS) if (shown := _shown(one)) is not None]
        self.steps.append({"at_ms": at_ms, **happened, "out": sent})


def _shown(action: object) -> dict[str, Any] | None:
    """An action of the client as JSON; None for one that is not part of the contract."""
    match action:
        case SendRequest(bucket, request):
            return {"publish": SUBJECTS.request(bucket), "payload": request.model_dump(mode="json", exclude_none=True)}
        case SendCancel(bucket, request_id):
            return {"publish": SUBJECTS.cancel(bucket), "payload": {"request_id": request_id}}
        case SendAnswer(to, outcome):
            return {"publish": to, "payload": {"outcome": outcome.value}}
        case DeliverGrant(grant, use_by_ns, _):
            return {"may_identify": grant.grant_id, "until_ms": use_by_ns // NS_PER_MS}
        case AskAnew():
            return {"begin": "a new request, with another request_id"}
        case _:
            return None


def _used() -> Exchange:
    one = Exchange("a grant in time is used and confirmed, and a copy of it gets the same answer")
    one.event(0, "begin")
    one.grant(10, "g1")
    one.grant(15, "g1")
    one.event(20, "identified")
    one.grant(30, "g1")
    return one


def _renewed() -> Exchange:
    one = Exchange("the newest renew_in_ms counts, 0 means now, and each renewal has the next number")
    one.event(0, "begin")
    one.queued(5, 2_000)
    one.event(2_004, "time")
    one.event(2_005, "time")
    one.queued(2_010, 60_000)
    one.queued(3_000, 0)
    return one


def _late() -> Exchange:
    one = Exchange("a late grant is declined and the request renewed at once; so is its copy; a later grant is used")
    one.event(0, "begin")
    one.queued(5, 60_000)
    one.grant(5_001, "g1")
    one.grant(5_010, "g1")
    one.grant(5_020, "g2", renewal=1)
    return one


def _echoed() -> Exchange:
    one = Exchange(
        "use_within_ms counts from the first sending of the renewal that the grant echoes, not from the newest"
    )
    one.event(0, "begin")
    one.queued(5, 4_000)
    one.event(4_005, "time")
    one.grant(5_001, "g1", renewal=0)
    one.grant(9_005, "g2", renewal=1)
    return one


def _foreign() -> Exchange:
    one = Exchange("a grant of another request or shard, or for a renewal that was not sent, is not answered")
    one.event(0, "begin")
    one.queued(5, 60_000)
    one.grant(10, "g1", request_id="b2")
    one.grant(10, "g2", shard_id=7)
    one.grant(10, "g3", renewal=4)
    return one


def _second() -> Exchange:
    one = Exchange("another grant after IDENTIFY is declined")
    one.event(0, "begin")
    one.grant(10, "g1")
    one.event(20, "identified")
    one.grant(30, "g2")
    return one


def _moved() -> Exchange:
    one = Exchange("a refusal and a reply with another max_concurrency move the request", shard_id=5, max_concurrency=2)
    one.event(0, "begin")
    one.message(5, wire.Refused(code=Reason.WRONG_BUCKET, message="bucket 2 of 3", request_id="a1", max_concurrency=3))
    one.queued(10, 0, max_concurrency=4)
    return one


def _overloaded() -> Exchange:
    one = Exchange("after `overloaded` nothing is sent before retry_after_ms")
    one.event(0, "begin")
    one.message(5, wire.Refused(code=Reason.OVERLOADED, message="full", request_id="a1", retry_after_ms=3_000))
    one.event(3_004, "time")
    one.event(3_700, "time")
    return one


def _ended() -> Exchange:
    one = Exchange("after `ended` another request begins, and a grant of the old one is declined")
    one.event(0, "begin")
    one.queued(5, 60_000)
    one.message(10, wire.Refused(code=Reason.ENDED, message="over", request_id="a1"))
    one.grant(20, "g1")
    return one


def _withdrawn() -> Exchange:
    one = Exchange("a withdrawal is published, and a grant that arrives after it is declined")
    one.event(0, "begin")
    one.queued(5, 60_000)
    one.event(10, "withdraw")
    one.grant(20, "g1")
    return one


def _given_up() -> Exchange:
    one = Exchange("a withdrawal with a grant in hand declines it first")
    one.event(0, "begin")
    one.grant(10, "g1")
    one.event(20, "withdraw")
    return one


def _readable() -> Iterator[dict[str, Any]]:
    """Requests as a coordinator reads them: what is refused as `bad_request`, and why."""
    for payload in (
        "",
        "{}",
        '{"shard_id":3,"request_id":"a1","renewal":2,"managed":true,"of_a_later_version":1}',
        '{"shard_id":"3"}',
        '{"shard_id":-1}',
        '{"request_id":"a b"}',
        '{"priority":11}',
        '{"timeout_ms":0}',
        '{"renewal":9007199254740993}',
        "[]",
        "{",
    ):
        try:
            wire.Request.model_validate_json(payload or "{}")
            yield {"payload": payload, "accepted": True}
        except ValidationError:
            yield {"payload": payload, "accepted": False}


def vectors() -> dict[str, Any]:
    """Every vector, as JSON has it."""
    exchanges = (
        *(_used(), _renewed(), _late(), _echoed(), _foreign(), _second(), _moved(), _overloaded()),
        *(_ended(), _withdrawn(), _given_up()),
    )
    return {
        "about": ABOUT,
        "prefix": SUBJECTS.prefix,
        "exchanges": [one.as_json() for one in exchanges],
        "requests": list(_readable()),
    }


def text() -> str:
    """The file's text."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
