"""A plain client written by hand on nats-py, which the kit for clients judges; it can have a planted fault.

``python hand_plain_client.py [FAULT]``: without one it keeps every rule.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress

import nats
import nats.errors

FAULT = sys.argv[1] if len(sys.argv) > 1 else ""


async def main():
    shard_id = int(os.environ["SHARD_IDS"])
    client = await nats.connect(os.environ["NATS_URL"], max_reconnect_attempts=-1, reconnect_time_wait=0.25)
    subject = f"{os.environ['IDENTIFY_PREFIX']}.request.0"
    body = {"shard_id": shard_id, "timeout_ms": 59_000, "managed": FAULT == "calls itself managed"}
    while True:
        reply, answer = None, {"status": "none"}
        limit_s = 1 if FAULT in {"takes its time limit for a grant", "asks again before it has a reply"} else 60
        try:
            reply = await client.request(subject, json.dumps(body).encode(), timeout=limit_s)
            answer = json.loads(reply.data)
        except (nats.errors.Error, TimeoutError, ValueError):
            if FAULT == "takes its time limit for a grant":
                break
        if answer["status"] == "granted" or FAULT == "takes any reply for a grant":
            break
        if FAULT != "asks again before it has a reply":
            await asyncio.sleep(max(5, int(answer.get("retry_after_ms", 0)) / 1000))  # no sooner than it may
    print(f"identify {shard_id}", flush=True)  # noqa: T201  # the kit reads it
    if reply is not None and FAULT != "never confirms":
        with suppress(nats.errors.Error):
            await reply.respond(b"")
    await client.drain()


if __name__ == "__main__":
    asyncio.run(main())
