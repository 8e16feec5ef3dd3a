"""A turn with nats-py alone, and so in any language: one request, one reply, and an answer that starts the window."""

import asyncio
import json
import os

import nats


async def identify_once(shard_id: int, bucket: int) -> None:
    """Wait for a turn of this shard; its bucket is shard_id % max_concurrency."""
    client = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    question = json.dumps({"shard_id": shard_id, "timeout_ms": 60_000}).encode()
    reply = await client.request(f"identify.request.{bucket}", question, timeout=61)
    print(reply.data.decode())
    if json.loads(reply.data)["status"] == "granted":
        # here the shard sends IDENTIFY, within `use_within_ms` of now
        await reply.respond(b"")  # it has left: the window starts
    await client.drain()


asyncio.run(identify_once(shard_id=0, bucket=0))
