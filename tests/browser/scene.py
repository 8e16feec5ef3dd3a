"""Shards that wait, identify and fail, for the page to show: requests on NATS, by hand. It judges nothing."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Final

from nats.aio.client import Client

from tests.processes import Mailbox

RENEW_MAX_S: Final = 2.0


@dataclass
class SceneShard:
    """One shard.

    Attributes:
        number: its shard id; ``buckets``: max_concurrency; ``client``: its pod.
        outcomes: what it answers to its grants, one after the other; then it stops.
        identified: how many grants it has confirmed.
    """

    connection: Client
    number: int
    buckets: int
    client: str
    outcomes: tuple[str, ...] = ("ready",)
    priority: int = 0
    think_s: float = 0.3
    identified: int = 0
    granted: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Ask for a turn, use it, and ask again for as long as there are outcomes."""
        mailbox = Mailbox(self.connection)
        await mailbox.open()
        for index, outcome in enumerate(self.outcomes):
            await self._take_turn(mailbox, f"scene-{self.number}-{index}-{id(self):x}", outcome)

    async def _take_turn(self, mailbox: Mailbox, request_id: str, outcome: str) -> None:
        asked: dict[str, Any] = {"shard_id": self.number, "managed": True, "client": self.client}
        asked |= {"request_id": request_id, "priority": self.priority}
        renewal = 0
        while True:
            await mailbox.ask(self.number % self.buckets, **asked, renewal=renewal)
            renewal += 1
            message = await self._reply(mailbox, request_id)
            if message is not None and message["status"] == "granted":
                break
        self.granted.set()
        confirm = f"identify.confirm.{message['bucket']}.{message['grant_id']}"
        await asyncio.sleep(self.think_s)  # as a shard connects
        if outcome == "declined":
            withdrawn = json.dumps({"request_id": request_id}).encode()
            await self.connection.publish(f"identify.cancel.{message['bucket']}", withdrawn)
            await self.connection.publish(confirm, b'{"outcome": "declined"}')
            return
        await self.connection.publish(confirm, b"")
        self.identified += 1
        await asyncio.sleep(self.think_s)  # as Discord answers
        await self.connection.publish(confirm, json.dumps({"outcome": outcome}).encode())

    async def _reply(self, mailbox: Mailbox, request_id: str) -> dict[str, Any] | None:
        """Return the grant of this request, or None when it is time to renew."""
        within_s = RENEW_MAX_S
        while True:
            try:
                message = await mailbox.subscription.next_msg(timeout=within_s)
            except TimeoutError:
                return None
            body: dict[str, Any] = json.loads(message.data or b'{"status": "none"}')
            if body.get("request_id") != request_id:  # a copy of an earlier grant
                continue
            if body["status"] == "granted":
                return body
            within_s = min(body.get("renew_in_ms", 1000) / 1000, RENEW_MAX_S)
            if within_s == 0:
                return None
