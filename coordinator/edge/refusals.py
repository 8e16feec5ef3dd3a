"""Refuse invalid requests, at a bounded pace, so that a flood costs little. No decision is made here.

A refusal is computed only when it is sent: what a flood adds beyond the pace is dropped and counted.
"""

import asyncio
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from pydantic_core import from_json

from coordinator.edge.metrics import Metrics
from coordinator.edge.publisher import Publisher
from nats_identify.schedule.model import SECOND, Code, Event, Refused, Reply
from nats_identify.wire import REQUEST_BYTES_MAX, TOKEN

PER_SECOND: Final = 500
"""Refusals that are sent each second at most: about a tenth of a core."""

WAITING_MAX: Final = PER_SECOND
"""Refusals that wait for their turn: one second's."""

BUSY: Final = "this coordinator has more to do than it can; ask again later"
RETRY_AFTER_NS: Final = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is invalid.

    Attributes:
        reply_to: where the refusal goes.
        payload: the first 4 KiB of what arrived.
        code: the reason in short; ``message``: what the sender must change.
    """

    reply_to: str
    payload: bytes
    code: Code
    message: str


class Refusals:
    """Refusals that wait to be sent.

    Args:
        publisher: sends them.
        metrics: counts those that are dropped.
    """

    def __init__(self, publisher: Publisher, metrics: Metrics) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._waiting: deque[Refusal] = deque()
        self._arrived = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether one more would be dropped: then it is not worth computing."""
        return len(self._waiting) >= WAITING_MAX

    def put(self, reply_to: str, payload: bytes, code: Code, message: str) -> None:
        """Refuse this soon, or drop it where too many wait."""
        if self.is_full:
            self.drop()
            return
        self._waiting.append(Refusal(reply_to, payload[:REQUEST_BYTES_MAX], code, message))
        self._arrived.set()

    def drop(self) -> None:
        """Count a refusal that is not sent."""
        self._metrics.drop("refusal")

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                self._send(self._waiting.popleft())
                await asyncio.sleep(1 / PER_SECOND)

    def _send(self, refusal: Refusal) -> None:
        request_id = salvaged_id(refusal.payload, refusal.reply_to)
        retry_after_ns = RETRY_AFTER_NS if refusal.code is Code.OVERLOADED else None
        refused = Refused(request_id, refusal.code, refusal.message, retry_after_ns=retry_after_ns)
        self._publisher.reply(Reply(refusal.reply_to, refused), term=0)
        fields: dict[str, str | int | None] = {
            "request_id": request_id,
            "code": refused.code,
            "message": refused.message,
        }
        self._publisher.publish_event(Event("refused", fields))


def salvaged_id(payload: bytes, reply_to: str) -> str:
    """Return the id that a bad request names, if it is one: its sender matches the refusal by it."""
    with suppress(ValueError):
        said = from_json(payload)
        named = said.get("request_id") if isinstance(said, dict) else None
        if isinstance(named, str) and re.fullmatch(TOKEN, named):
            return named
    return name_of(reply_to)


def name_of(reply_to: str) -> str:
    """Return a request id made from the reply inbox: the same for the same inbox."""
    if re.fullmatch(TOKEN, reply_to):
        return reply_to
    return blake2b(reply_to.encode(), digest_size=8).hexdigest()
