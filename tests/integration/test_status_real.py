"""`nats-identify status` and `history` with a real coordinator."""

import json
from secrets import token_hex

from tests.integration.test_operators_cli import run
from tests.processes import until


async def test_a_shard_that_waits_is_explained_by_a_real_coordinator(start_coordinator, nats_server, mailbox):
    await start_coordinator(IDENTIFY_USE_WITHIN="60", IDENTIFY_WINDOW="30")
    granted, _ = await mailbox.until_granted("one", shard_id=0, client="shards-0")
    for number in (1, 2):
        await mailbox.ask(0, managed=True, request_id=f"r{number}", shard_id=number, client=f"shards-{number}")
        await mailbox.next("queued")
    status, output, errors = await run(nats_server.url, "status", "--shard", "2")
    assert (status, errors) == (0, "")
    assert "Shard 2 (shards-2) waits in bucket 0 at position 2; its turn comes in 0:0" in output
    assert "for the request before it: shard 1 (shards-1)." in output
    assert "Its request is r2, priority 0, managed." in output
    status, output, _ = await run(nats_server.url, "status", "--shard", "0")
    assert f"(grant {granted['grant_id']}): it has not confirmed yet that it sent IDENTIFY" in output
    status, output, _ = await run(nats_server.url, "status", "--client", "shards-1", "--json")
    assert [request["request_id"] for request in json.loads(output)["requests"]] == ["r1"]
    status, _, errors = await run(nats_server.url, "status", "--bucket", "7")
    assert (status, "there is no bucket 7" in errors) == (2, True)


async def test_the_history_is_read_and_without_one_it_says_what_to_set(start_coordinator, nats_server, mailbox):
    first = await start_coordinator()
    status, _, errors = await run(nats_server.url, "history")
    assert (status, "IDENTIFY_HISTORY" in errors) == (1, True)
    await first.end()
    await start_coordinator(IDENTIFY_HISTORY="1h")

    async def is_kept():
        await mailbox.ask(0, request_id=token_hex(8), shard_id=0, client="shards-0")
        return (await run(nats_server.url, "history", "--since", "10m", "--shard", "0", "--json"))[1]

    line = (await until(is_kept, "an event is kept")).splitlines()[0]
    assert json.loads(line)["shard_id"] == 0
    status, output, errors = await run(nats_server.url, "history", "--since", "00:00", "--name", "no_such")
    assert (status, output) == (0, "")
    assert "00:00 is read as 00:00" in errors
    assert (await run(nats_server.url, "history", "--since", "1m", "--until", "2m"))[0] == 2
