"""A hundred dead requesters in front of a live one: their turns are not waited for."""

import asyncio
import json

import nats
import pytest

from nats_identify import NatsQueue
from nats_identify.clock import now_ns
from tests.processes import until

pytestmark = pytest.mark.slow

DEAD = 100
WINDOW_S = 5.0
MARGIN_S = 0.2
SETTINGS = {
    "IDENTIFY_WINDOW": str(WINDOW_S),
    "IDENTIFY_MARGIN": str(MARGIN_S),
    "IDENTIFY_USE_WITHIN": "5",
    "IDENTIFY_LEASE": "3",
    "IDENTIFY_LOG_LEVEL": "info",
}


@pytest.mark.parametrize("is_silent", [False, True], ids=["connection gone", "connected but silent"])
async def test_the_live_one_is_granted_when_the_bucket_opens(nats_server, start_coordinator, is_silent):
    await start_coordinator(**SETTINGS)
    mortal = await nats.connect(nats_server.url)
    inbox = mortal.new_inbox()

    async def ignore(_message):
        """A process that hangs: NATS delivers, and nobody acts."""

    await mortal.subscribe(f"{inbox}.*", cb=ignore)
    async with NatsQueue.connect(nats_server.url) as queue:
        first = await queue.acquire(0)
        for number in range(DEAD):
            ask = {"shard_id": 0, "request_id": f"dead-{number}", "managed": True}
            await mortal.publish("identify.request.0", json.dumps(ask).encode(), reply=f"{inbox}.{number}")
        await mortal.flush()
        queue.identified(first)
        opens_ns = now_ns() + round((WINDOW_S + MARGIN_S) * 1e9)
        alive = asyncio.create_task(queue.acquire(0))

        async def all_stand():
            status = json.loads((await mortal.request("identify.status", b"")).data)
            return status["waiting"] == DEAD + 1

        await until(all_stand, "all stand in the queue")
        if not is_silent:
            await mortal.close()
        await alive
        late_s = (now_ns() - opens_ns) / 1e9
    if is_silent:
        await mortal.close()
    kind = "silent" if is_silent else "gone"
    print(f"\n{DEAD} dead ({kind}): the live one was granted {late_s * 1000:.0f} ms after its bucket opened")
    assert late_s < WINDOW_S  # a noisy machine is late by milliseconds; one dead requester would cost ten seconds
