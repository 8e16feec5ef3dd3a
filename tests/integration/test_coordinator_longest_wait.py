"""A request that says that it has waited for as long as a number can say is answered as any other."""

import json

from nats_identify.wire import INT_MAX


async def test_the_longest_wait_is_granted_and_shown(coordinator, mailbox, client):
    await mailbox.until_granted("first")
    next_one = {"shard_id": 0, "waited_ms": INT_MAX}
    await mailbox.ask(managed=True, request_id="next", **next_one)
    await mailbox.next("queued")
    status = json.loads((await client.request("identify.status", b"", timeout=30)).data)
    assert [one["request_id"] for one in status["buckets"][0]["first"]] == ["next"]
    granted, _ = await mailbox.until_granted("next", renewal=1, **next_one)  # it has waited a window more by now
    assert granted["waited_ms"] == INT_MAX
    assert coordinator.process.returncode is None
