"""Queues of clients that have no library, for bare shards: a plain request over NATS, and HTTP. They judge nothing."""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from nats_identify.clock import NS_PER_MS, NS_PER_S, now_ns
from nats_identify.queue import Grant, OnProgress, Progress, Queue
from nats_identify.reason import Reason
from tests.http_clients import Asking

TIMEOUT_S = 20
"""A plain requester that has no reply asks anew after this."""

AGAIN_S = 0.2

CONNECT_NOW = Progress(position=None, eta_ms=None, reason=Reason.NO_ANSWER, near=True)
"""Such a client is told nothing while it waits: it connects to Discord first, and then asks."""


class PlainQueue(Queue):
    """As `examples/plain_request.py`: one request, one reply, and a confirm. It counts how often it asked."""

    def __init__(self, client: Client, max_concurrency: int) -> None:
        self.asked = 0
        self._client = client
        self._max_concurrency = max_concurrency
        self._replies: dict[str, Msg] = {}
        self._sending: set[asyncio.Future[None]] = set()

    async def acquire(
        self, shard_id: int, *, priority: int = 0, on_progress: OnProgress | None = None, replaces: Grant | None = None
    ) -> Grant:
        if replaces is not None:
            self.decline(replaces)
        if on_progress is not None:
            on_progress(CONNECT_NOW)
        question = json.dumps({"shard_id": shard_id, "priority": priority, "timeout_ms": 1000 * TIMEOUT_S}).encode()
        subject = f"identify.request.{shard_id % self._max_concurrency}"
        while True:
            self.asked += 1
            with suppress(errors.Error, TimeoutError):
                reply = await self._client.request(subject, question, timeout=TIMEOUT_S + 1)
                answer = json.loads(reply.data)
                if answer["status"] == "granted":
                    return self._grant(answer, reply)
            await asyncio.sleep(AGAIN_S)  # a client's pause before it tries again

    def _grant(self, answer: dict[str, int], reply: Msg) -> Grant:
        grant = Grant(
            shard_id=answer["shard_id"],
            grant_id=str(answer["grant_id"]),
            request_id=str(answer["request_id"]),
            bucket=answer["bucket"],
            max_concurrency=answer["max_concurrency"],
            use_by_ns=now_ns() + answer["use_within_ms"] * NS_PER_MS,
        )
        self._replies[grant.grant_id] = reply
        return grant

    def identified(self, grant: Grant) -> None:
        self._send(grant, b"")

    def decline(self, grant: Grant) -> None:
        self._send(grant, b'{"outcome":"declined"}')

    def _send(self, grant: Grant, body: bytes) -> None:
        sending = asyncio.ensure_future(self._replies.pop(grant.grant_id).respond(body))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)


class HttpQueue(Queue):
    """As twilight's gateway-queue over HTTP: any response is permission, and a broken connection is made again.

    Args:
        at: the addresses of all replicas: one of them is taken for each connection, as a Service does.
        grace_s: the coordinators' IDENTIFY_GRACE.
    """

    def __init__(self, at: Sequence[tuple[str, int]], grace_s: float) -> None:
        self.broken = 0
        self._at = at
        self._grace_s = grace_s

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,  # it cannot be said
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,  # nor this
    ) -> Grant:
        if on_progress is not None:
            on_progress(CONNECT_NOW)
        while not await self._is_permitted(shard_id):
            self.broken += 1
            await asyncio.sleep(AGAIN_S)  # a client's pause before it tries again
        use_by_ns = now_ns() + int(self._grace_s * NS_PER_S)
        return Grant(shard_id, uuid4().hex, uuid4().hex, bucket=0, max_concurrency=1, use_by_ns=use_by_ns)

    async def _is_permitted(self, shard_id: int) -> bool:
        with suppress(OSError):
            asking = await Asking.ask(random.choice(self._at), f"/?shard={shard_id}")  # no secret
            try:
                return bool(await asking.first_byte())
            finally:
                asking.leave()
        return False

    def identified(self, grant: Grant) -> None:
        """Do nothing: such a client sends no confirm."""

    def decline(self, grant: Grant) -> None:
        """Do nothing: as `identified`."""
