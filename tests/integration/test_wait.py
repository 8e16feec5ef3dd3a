"""`nats-identify wait` on real parts: what a shell sees, and what the coordinator does."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.command import command
from tests.processes import ROOT, WITHIN_S, until


async def ledger(client):
    message = await client.jetstream().get_msg("KV_identify", subject="$KV.identify.ledger")
    return json.loads(message.data)


async def test_a_turn_ends_it_and_holds_its_bucket_for_the_full_time(start_coordinator, nats_server, client, tmp_path):
    """Nothing is answered: who knows when the bot will send its IDENTIFY?"""
    coordinator = await start_coordinator(IDENTIFY_USE_WITHIN="60")
    async with command(tmp_path, "wait", "3", "--json", NATS_URL=nats_server.url) as waiting:
        assert await waiting.ended() == 0, waiting.output
        said = json.loads(waiting.lines[-1])
    assert (said["outcome"], said["shard_id"], said["bucket"]) == ("granted", 3, 0)
    assert 2000 <= said["use_within_ms"] <= 60_000
    (grant,) = (await ledger(client))["grants"]
    assert (grant["shard_id"], grant["outcome"]) == (3, None)
    for outcome in ("identified", "declined", "undeliverable", "cancelled"):
        assert await coordinator.metric(f'identify_events_total{{event="{outcome}"}}') == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_withdraws_the_request(start_coordinator, nats_server, tmp_path, how):
    coordinator = await start_coordinator(IDENTIFY_USE_WITHIN="60")
    async with command(tmp_path, "wait", "0", NATS_URL=nats_server.url) as first:
        assert await first.ended() == 0
        assert "shard 0 may identify within" in first.lines[-1]
    async with command(tmp_path, "wait", "1", "--json", NATS_URL=nats_server.url) as second:
        await second.until_said("shard 1 waits at position 1 for its window")
        await coordinator.until_metric("identify_waiting", 1)
        assert await second.end(how) == 128 + how
        assert json.loads(second.lines[-1]) == {"outcome": "interrupted", "shard_id": 1}
    await coordinator.until_metric("identify_waiting", 0)
    await coordinator.until_metric('identify_events_total{event="cancelled"}', 1)


async def test_a_signal_after_the_last_line_changes_nothing(start_coordinator, nats_server, tmp_path):
    """A status of 143 would mean that the turn was given back."""
    coordinator = await start_coordinator(IDENTIFY_USE_WITHIN="60")
    async with command(tmp_path, "wait", "0", NATS_URL=nats_server.url) as waiting:
        await waiting.until_said("shard 0 may identify within")
        with suppress(ProcessLookupError):  # it has ended already
            waiting.process.send_signal(signal.SIGTERM)
        assert await waiting.ended() == 0, waiting.output
    assert await coordinator.metric('identify_events_total{event="declined"}') == 0


async def test_a_timeout_withdraws_the_request(start_coordinator, nats_server, tmp_path):
    coordinator = await start_coordinator(IDENTIFY_USE_WITHIN="60")
    async with command(tmp_path, "wait", "0", NATS_URL=nats_server.url) as first:
        assert await first.ended() == 0
    async with command(tmp_path, "wait", "1", "--timeout", "0.2", NATS_URL=nats_server.url) as second:
        assert await second.ended() == 4
        assert second.lines[-1] == "shard 1 had no turn within 0.2 s; its request is withdrawn"
    await coordinator.until_metric("identify_waiting", 0)


async def test_grants_that_leave_too_little_are_declined_and_named(coordinator, nats_server, tmp_path):
    async with command(tmp_path, "wait", "0", "--within", "30", NATS_URL=nats_server.url) as waiting:
        assert await waiting.ended() == 3
        assert "raise IDENTIFY_USE_WITHIN" in waiting.output
    await coordinator.until_metric('identify_events_total{event="declined"}', 5)
    await coordinator.until_metric("identify_waiting", 0)


async def test_it_waits_for_a_coordinator_and_says_so(start_coordinator, nats_server, tmp_path):
    async with command(tmp_path, "wait", "0", NATS_URL=nats_server.url) as waiting:
        await waiting.until_said("shard 0 waits for NATS or a coordinator to answer")
        await start_coordinator(IDENTIFY_USE_WITHIN="60")
        assert await waiting.ended() == 0


async def test_a_request_that_no_coordinator_can_read_is_refused(nats_server, client, tmp_path):
    async def refuse(message):
        request = json.loads(message.data)
        refusal = {"status": "refused", "code": "bad_request", "message": "x", "request_id": request["request_id"]}
        await message.respond(json.dumps(refusal).encode())

    await client.subscribe("identify.request.*", cb=refuse)
    await client.flush()
    async with command(tmp_path, "wait", "0", "--json", NATS_URL=nats_server.url) as waiting:
        assert await waiting.ended() == 3, waiting.output
        assert json.loads(waiting.lines[-1])["outcome"] == "refused"


async def test_the_script_of_the_examples_starts_a_bot_at_its_turn(start_coordinator, nats_server, tmp_path):
    """A turn starts the bot; a signal before it does not."""
    coordinator = await start_coordinator(IDENTIFY_USE_WITHIN="60")
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NATS_URL": nats_server.url}

    async def start(shard_id):
        script = (str(ROOT / "examples/start_bot.sh"), str(shard_id), "echo", f"bot {shard_id} runs")
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*script, env=environment, stdout=pipe, start_new_session=True)

    first = await start(0)
    said, _ = await asyncio.wait_for(first.communicate(), WITHIN_S)
    assert (first.returncode, said.decode().splitlines()[-1]) == (0, "bot 0 runs")
    second = await start(1)

    async def is_waiting():
        return await coordinator.metric("identify_waiting") == 1

    await until(is_waiting, "the second waits")
    os.killpg(second.pid, signal.SIGINT)
    said, _ = await asyncio.wait_for(second.communicate(), WITHIN_S)
    assert (second.returncode != 0, b"runs" in said) == (True, False)
    await coordinator.until_metric("identify_waiting", 0)
