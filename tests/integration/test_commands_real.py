"""The operators' commands with real coordinators: what the command prints is what the queue does."""

from tests.integration.test_operators_cli import run
from tests.processes import until


async def test_a_pause_is_seen_and_ended(start_coordinator, nats_server, mailbox):
    await start_coordinator()
    status, output, _ = await run(nats_server.url, "pause", "--for", "1h", "--why", "deploy", "--by", "alice@laptop")
    assert (status, output.startswith("done: paused")) == (0, True)
    await mailbox.ask(0, managed=True, request_id="one", shard_id=0, client="shards-0")
    await mailbox.next("queued")
    status, output, _ = await run(nats_server.url, "status", "--shard", "0")
    assert "It waits for the end of a pause by an operator." in output
    assert "PAUSED by alice@laptop: every request waits for " in output
    assert "; deploy." in output
    assert (await run(nats_server.url, "resume"))[0] == 0
    assert "PAUSED" not in (await run(nats_server.url, "status"))[1]


async def test_a_kick_a_pardon_and_a_release_that_cannot_be(start_coordinator, nats_server, mailbox):
    await start_coordinator()
    assert (await run(nats_server.url, "pause"))[0] == 0
    await mailbox.ask(0, managed=True, request_id="one", shard_id=0, client="shards-0")
    await mailbox.next("queued")
    status, output, _ = await run(nats_server.url, "kick", "--shard", "0")
    assert (status, "request one was ended" in output) == (0, True)
    assert (await mailbox.next("refused"))[0]["code"] == "ended"
    assert (await run(nats_server.url, "kick", "--shard", "0"))[0] == 3
    assert (await run(nats_server.url, "kick", "one"))[0] == 3
    assert (await run(nats_server.url, "pardon", "0"))[0] == 0
    status, _, errors = await run(nats_server.url, "release", "none", "--outcome", "declined", said=b"declined\n")
    assert (status, "no live grant is none" in errors) == (3, True)


async def test_a_released_turn_goes_to_the_next(start_coordinator, nats_server, mailbox):
    await start_coordinator(IDENTIFY_USE_WITHIN="60", IDENTIFY_WINDOW="30")
    granted, _ = await mailbox.until_granted("one", shard_id=0)
    release = ("release", granted["grant_id"], "--outcome", "declined")
    status, output, _ = await run(nats_server.url, *release, said=b"declined\n")
    assert (status, "was released as declined" in output) == (0, True)
    assert (await mailbox.until_granted("two", shard_id=1))[0]["shard_id"] == 1


async def test_a_handover(start_coordinator, nats_server):
    await start_coordinator()
    second = await start_coordinator(until_leader=False)
    await until(second.is_ready, "the second is ready")

    async def is_done():
        """A leader of less than a lease refuses: the command may be the one that made it leader."""
        status, output, said = await run(nats_server.url, "handover", "--why", "node is drained")
        assert (status, "has given the lead up" in output) == (0, True) or (status, "just taken" in said) == (3, True)
        return status == 0

    await until(is_done, "the leader has led for a lease, and hands over")
    await until(second.is_leader, "the second leads")
