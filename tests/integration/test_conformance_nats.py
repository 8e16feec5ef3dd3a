"""NatsQueue keeps the rules of every queue: a real nats-server, and a coordinator process for each check."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nats_identify import NatsQueue, Queue
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing.conformance import CHECKS, Check

WINDOW_S = 0.4


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_nats_queue_keeps_every_rule(check: Check, nats_server: EmbeddedNats, start_coordinator):
    @asynccontextmanager
    async def make_queue(max_concurrency: int) -> AsyncIterator[Queue]:
        await start_coordinator(
            IDENTIFY_MAX_CONCURRENCY=str(max_concurrency),
            IDENTIFY_WINDOW=str(WINDOW_S),
            IDENTIFY_USE_WITHIN="5",
        )
        async with NatsQueue.connect(nats_server.url) as queue:
            yield queue

    await check(make_queue, window_s=WINDOW_S)
