"""The crash-loop guard on real coordinators: what a shard and an operator see of it; kill -9 does not lift it."""

import json
import signal

from tests.processes import WITHIN_S, until

GUARD = {"IDENTIFY_CRASH_LOOP_GRANTS": "3", "IDENTIFY_WINDOW": "0.1", "IDENTIFY_GRACE": "0.1"}


async def loop(client, mailbox, turns):
    """A shard identifies so often."""
    for turn in range(turns):
        granted, message = await mailbox.until_granted(f"turn-{turn}", priority=10)
        assert granted["shard_id"] == 0
        await message.respond(b"")
    await client.flush()


async def test_a_looping_shard_is_held_back_and_everybody_can_see_it(start_coordinator, client, mailbox):
    process = await start_coordinator(**GUARD)
    events = await client.subscribe("identify.event.crash_loop")
    await loop(client, mailbox, 3)
    await mailbox.ask(0, managed=True, request_id="again", priority=10, client="pod-7")
    queued, _ = await mailbox.next("queued")
    assert queued["reason"] == "crash_loop"
    assert 290_000 < queued["eta_ms"] <= 300_000
    event = json.loads((await events.next_msg(timeout=WITHIN_S)).data)
    assert (event["shard_id"], event["client"]) == (0, "pod-7")
    assert 290_000 < event["wait_ms"] <= 300_000
    other = json.loads((await client.request("identify.request.0", b'{"shard_id": 1}', timeout=WITHIN_S)).data)
    assert other["status"] == "granted"  # nobody waits for it
    status = json.loads((await client.request("identify.status", b"", timeout=WITHIN_S)).data)
    assert (status["waiting"], status["held_back"]) == (1, 1)
    assert (status["crash_loops"][0]["shard_id"], status["crash_loops"][0]["client"]) == (0, "pod-7")
    assert status["projection"]["all_up_in_ms"] > 290_000
    assert await process.metric("identify_held_back") == 1
    assert await process.metric('identify_events_total{event="crash_loop"}') == 1
    assert process.logged("crash_loop")


async def test_it_is_held_back_by_the_successor_of_one_that_was_killed(start_coordinator, client, mailbox):
    first = await start_coordinator(**GUARD)
    second = await start_coordinator(until_leader=False, **GUARD)
    await until(second.is_ready, "the standby is ready")
    await loop(client, mailbox, 3)
    await mailbox.ask(0, managed=True, request_id="again")
    assert (await mailbox.next("queued"))[0]["reason"] == "crash_loop"
    await first.end(signal.SIGKILL)
    await until(second.is_leader, "the standby leads")
    await mailbox.ask(0, managed=True, request_id="once-more", priority=10)
    while (queued := (await mailbox.next("queued"))[0])["request_id"] != "once-more":
        pass
    assert queued["reason"] == "crash_loop"
    assert 250_000 < queued["eta_ms"] <= 300_000


async def test_none_is_held_back_where_there_is_no_guard(start_coordinator, client, mailbox):
    await start_coordinator(**{**GUARD, "IDENTIFY_CRASH_LOOP_GRANTS": "0"})
    await loop(client, mailbox, 15)


async def test_the_margin_is_learnt_shown_and_inherited(start_coordinator, client, mailbox):
    settings = {"IDENTIFY_MARGIN": "0.2", "IDENTIFY_CRASH_LOOP_GRANTS": "0"}
    first = await start_coordinator(**settings)
    assert await first.metric("identify_margin_seconds") == 0.2
    second = await start_coordinator(until_leader=False, **settings)
    await until(second.is_ready, "the standby is ready")
    _, message = await mailbox.until_granted("refused")
    await message.respond(b"")
    await client.publish(message.reply, b'{"outcome": "rejected"}')

    async def is_wider():
        return await first.metric("identify_margin_seconds") == 0.4

    await until(is_wider, "the margin is wider")
    assert await first.metric('identify_events_total{event="rejected"}') == 1
    await first.end()
    await until(second.is_leader, "the standby leads")
    status = json.loads((await client.request("identify.status", b"", timeout=WITHIN_S)).data)
    assert status["margin_ms"] == 400
