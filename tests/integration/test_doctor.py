"""`nats-identify doctor` with real coordinators, and with a server that answers as Discord does, or should not."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from nats_identify.cli.doctor.discord import check_token, judge_clock
from nats_identify.cli.doctor.findings import Level
from tests.integration.test_operators_cli import run
from tests.processes import until

TOKEN = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.hunter2"  # noqa: S105  # it is no real token
LIMIT = {"total": 1000, "remaining": 990, "reset_after": 0, "max_concurrency": 16}


@pytest.fixture
async def discord():
    """A server that answers GET /gateway/bot; its clock is `ahead` of ours."""

    async def answer(request):
        server["asked"].append(request.headers["Authorization"])
        at = datetime.now(UTC) + server["ahead"]
        body = {"url": "wss://x", "shards": 12, "session_start_limit": LIMIT}
        return web.json_response(body, status=server["status"], headers={"Date": format_datetime(at, usegmt=True)})

    server: dict[str, Any] = {"asked": [], "status": 200, "ahead": timedelta(0)}
    app = web.Application()
    app.router.add_get("/gateway/bot", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "level", "said"),
    [
        (200, Level.WELL, "accepted; 12 shards recommended, max_concurrency 16, 990 of 1000 starts left"),
        (401, Level.TODO, "Discord refuses the bot's token"),
        (429, Level.NOTE, "Discord asks to wait"),
        (500, Level.TODO, "HTTP 500"),
    ],
)
async def test_the_token_is_tried_once_and_never_shown(discord, status, level, said):
    discord["status"] = status
    answered = await check_token({"DISCORD_TOKEN": f"Bot {TOKEN}", "DISCORD_API_URL": discord["url"]})
    (finding,) = answered.findings
    assert (finding.level, said in finding.text) == (level, True)
    assert "hunter2" not in finding.text
    assert discord["asked"] == [f"Bot {TOKEN}"]


@pytest.mark.parametrize(("ahead_s", "level"), [(0, Level.WELL), (-3600, Level.TODO), (3600, Level.TODO)])
async def test_the_clock_is_compared_with_discords(discord, ahead_s, level):
    discord["ahead"] = timedelta(seconds=ahead_s)
    answered = await check_token({"DISCORD_TOKEN": TOKEN, "DISCORD_API_URL": discord["url"]})
    assert judge_clock(answered.ahead_s, "Discord", 60).level is level  # a busy machine may take long


async def test_a_token_that_is_none_or_a_file_that_is_not_there_is_named(tmp_path):
    for environment in ({"DISCORD_TOKEN": "a b"}, {"DISCORD_TOKEN_FILE": str(tmp_path / "none")}):
        (finding,) = (await check_token(environment)).findings
        assert finding.level is Level.TODO
    assert [finding.level for finding in (await check_token({})).findings] == [Level.NOTE]


async def test_all_is_well_with_two_coordinators(start_coordinator, nats_server, discord):
    for _ in range(2):
        await start_coordinator(until_leader=False)

    async def is_well():
        environment = {"DISCORD_TOKEN": TOKEN, "DISCORD_API_URL": discord["url"]}
        status, output, errors = await run(nats_server.url, "doctor", **environment)
        assert "hunter2" not in output + errors
        return output if status == 0 and "2: pod-0, pod-1" in output else None

    output = await until(is_well, "all is well")
    for said in ("✓ leader: pod-", "✓ KV TTL: none", "✓ clock: within 5 s of NATS", "✓ Discord's token: accepted"):
        assert said in output
    assert "✗" not in output


async def test_what_it_sends_changes_nothing(coordinator, nats_server, client):
    """No request waits, no event is published, the ledger is the leader's own, and its log has no error."""
    events = await client.subscribe("identify.event.>")
    for role in ("operator", "shard", "coordinator"):
        status, output, _ = await run(nats_server.url, "doctor", "--role", role, "--json")
        assert (role, status, [line for line in output.splitlines() if '"todo"' in line]) == (role, 0, [])
    message = await client.jetstream().get_msg("KV_identify", subject="$KV.identify.ledger")
    ledger = json.loads(message.data)
    assert (ledger["leader"], ledger["grants"]) == ("pod-0", [])
    assert await coordinator.metric("identify_waiting") == 0
    assert events.pending_msgs == 0
    assert (await client.jetstream().streams_info())[0].state.consumer_count <= 1  # the coordinator's watch
    assert '"level": "error"' not in coordinator.log
    assert "rejected" not in coordinator.log
