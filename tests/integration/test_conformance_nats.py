"""NatsQueue keeps the rules of every queue: a real nats-server, and a coordinator process for each check."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nats_identify import NatsQueue, Queue
from nats_identify.embedded import EmbeddedNats
from nats_identify.testing.bench import BUCKETS
from nats_identify.testing.conformance import CHECKS, Check
from tests.processes import WITHIN_S

WINDOW_S = 0.4
LONG_WINDOW_S = 1.0
"""Of the rules whose turn must come before a window beside it is over; they wait for a quarter of it, no more."""


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_nats_queue_keeps_every_rule(check: Check, nats_server: EmbeddedNats, start_coordinator):
    window_s = LONG_WINDOW_S if check.max_concurrency == BUCKETS else WINDOW_S

    @asynccontextmanager
    async def make_queue(max_concurrency: int) -> AsyncIterator[Queue]:
        await start_coordinator(
            IDENTIFY_MAX_CONCURRENCY=str(max_concurrency),
            IDENTIFY_WINDOW=str(window_s),
            IDENTIFY_USE_WITHIN="60",  # a turn that is held must not end before it is answered
        )
        async with NatsQueue.connect(nats_server.url) as queue:
            yield queue

    await check(make_queue, window_s=window_s, patience_s=WITHIN_S, tells_progress=True)
