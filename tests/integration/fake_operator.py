"""A coordinator of paper for tests of the command line: it answers operators by the contract, from a small state."""

import json
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from nats_identify.operator_wire import Command, StatusQuery

BODIES = {"pause", "resume", "kick", "release", "pardon", "handover"}


class FakeCoordinator:
    """Answers ``identify.status`` and the commands.

    Attributes:
        status: what it answers, without what a query selects.
        requests, grants: what a query selects from.
        received: the commands, in order: (name, body).
        asked: how many status requests were answered.
        more: how many more requests it counts than it ever lists.
        refusal: code and message with which it refuses every command; None: it does all of them.
    """

    def __init__(self, client: Client, prefix: str = "identify") -> None:
        self.client = client
        self.prefix = prefix
        self.requests: list[dict[str, Any]] = []
        self.grants: list[dict[str, Any]] = []
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.asked = 0
        self.more = 0
        self.refusal: tuple[str, str] | None = None
        self.status: dict[str, Any] = {
            "max_concurrency": 2,
            "window_ms": 5000,
            "session_start_limit": {"total": 1000, "remaining": 990, "reset_after_ms": 3_600_000},
            "leader": "pod-0",
            "term": 7,
            "version": "1",
            "name": "pod-0",
            "role": "leader",
            "prefix": prefix,
            "waiting": 0,
            "reserve": 10,
            "margin_ms": 200,
            "buckets": [],
            "paused": None,
            "busiest": [],
        }

    async def open(self) -> None:
        await self.client.subscribe(f"{self.prefix}.status", cb=self._on_status)
        for command in Command:
            await self.client.subscribe(f"{self.prefix}.{command}", cb=self._on_command)
        await self.client.subscribe("$SRV.PING.identify-coordinator", cb=self._on_ping)
        await self.client.flush()
        await self.client.flush()

    async def event(self, name: str, **fields: Any) -> None:
        """Publish an event."""
        body = json.dumps({"at": "2026-11-27T16:02:03.123Z", **fields}).encode()
        await self.client.publish(f"{self.prefix}.event.{name}", body)

    def wait(self, shard_id: int, request_id: str, **more: Any) -> dict[str, Any]:
        """Add a waiting request, and return it."""
        request = {
            "request_id": request_id,
            "shard_id": shard_id,
            "bucket": shard_id % 2,
            "client": f"pod-{shard_id}",
            "priority": 0,
            "managed": True,
            "position": 1 + len(self.requests),
            "eta_ms": 12_000,
            "reason": "window",
            "waited_ms": 65_000,
            "renewed_ms_ago": 1200,
            **more,
        }
        self.requests.append(request)
        return request

    async def _on_status(self, message: Msg) -> None:
        self.asked += 1
        query = StatusQuery.model_validate_json(message.data or b"{}")

        def is_selected(one: dict[str, Any]) -> bool:
            wanted = {"shard_id": query.shard_id, "bucket": query.bucket, "client": query.client}
            return query.is_selection and all(value is None or one[key] == value for key, value in wanted.items())

        requests = [one for one in self.requests if is_selected(one)]
        if query.bucket == 99:  # as a coordinator does where there is no such bucket
            headers = {"Nats-Service-Error-Code": "400", "Nats-Service-Error": "bucket: there is no bucket 99"}
            await self.client.publish(message.reply, b"", headers=headers)
            return
        page = requests[query.offset : query.offset + query.limit]
        end = query.offset + len(page)
        answer = {
            **self.status,
            "requests": page,
            "requests_total": len(requests) + self.more,
            "next_offset": end if end < len(requests) else None,
            "grants": [one for one in self.grants if is_selected(one)],
        }
        await message.respond(json.dumps(answer).encode())

    async def _on_command(self, message: Msg) -> None:
        if not message.reply:
            return
        name, body = message.subject.rpartition(".")[2], json.loads(message.data)
        self.received.append((name, body))
        if self.refusal is not None:
            code, text = self.refusal
            reply: dict[str, Any] = {"status": "refused", "command": name, "code": code, "message": text}
        else:
            if name in {"pause", "resume"}:
                self.status["paused"] = {"by": body["by"], "why": body["why"]} if name == "pause" else None
            reply = {"status": "done", "command": name, "message": f"{name} was done", "term": 7}
        await message.respond(json.dumps(reply).encode())

    async def _on_ping(self, message: Msg) -> None:
        metadata = {"prefix": self.prefix, "replica": "pod-0"}
        pong = {"name": "identify-coordinator", "id": "x", "version": "0.1.0", "metadata": metadata}
        await message.respond(json.dumps(pong).encode())
