"""What people and their tools ask of a coordinator: info, status, events, pages and the health check."""

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest

from nats_identify.operator_wire import Command
from nats_identify.schemas import schema_of
from nats_identify.wire import Info, Status
from tests.processes import ROOT, WITHIN_S, Mailbox, fetch_page, settle, until


async def asked(client, subject, payload=b""):
    return json.loads((await client.request(subject, payload, timeout=WITHIN_S)).data)


async def test_info_tells_a_client_the_limits(coordinator, client):
    info = await asked(client, "identify.info")
    Info.model_validate_json(json.dumps(info))
    assert info == {
        "max_concurrency": 1,
        "window_ms": 400,
        "session_start_limit": {"total": 1000, "remaining": 1000, "reset_after_ms": None},
        "shards": None,
        "projection": {"shards": 0, "all_up_in_ms": 0, "session_starts_short": 0, "budget_suffices": True},
        "restart": None,
        "leader": "pod-0",
        "term": 1,
        "version": info["version"],
        "trouble": None,
    }


async def test_it_logs_whether_it_is_compiled(coordinator):
    assert (await coordinator.until_logged("serving"))["compiled"] is ("COORDINATOR_PYTHON" in os.environ)


async def test_status_shows_every_bucket_and_who_waits(start_coordinator, client, mailbox):
    await start_coordinator(IDENTIFY_MAX_CONCURRENCY="2", IDENTIFY_USE_WITHIN="60")
    await mailbox.ask(1, managed=True, request_id="one", shard_id=1)
    await mailbox.next("granted")
    await mailbox.ask(1, managed=True, request_id="two", shard_id=3, client="pod-b", priority=1)
    await mailbox.next("queued")
    status = await asked(client, "identify.status")
    Status.model_validate_json(json.dumps(status))
    assert (status["leader"], status["term"], status["role"], status["waiting"]) == ("pod-0", 1, "leader", 1)
    idle, busy = status["buckets"]
    assert (idle["bucket"], idle["waiting"], idle["next_release_ms"], idle["reason"]) == (0, 0, 0, None)
    assert (busy["bucket"], busy["waiting"], busy["reason"]) == (1, 1, "window")
    assert busy["next_release_ms"] > 0
    (waiting,) = busy["first"]
    assert (waiting["request_id"], waiting["shard_id"], waiting["client"]) == ("two", 3, "pod-b")


async def test_a_status_of_many_buckets_and_long_names_fits_into_a_message(start_coordinator, client):
    await start_coordinator(IDENTIFY_MAX_CONCURRENCY="4096", IDENTIFY_SESSION_TOTAL="1", IDENTIFY_SESSION_RESERVE="0")
    box = Mailbox(client)
    await box.open()
    name = "\u0001" * 128
    renewals = itertools.count()

    async def all_are_in_the_book():
        reply = await client.request("identify.status", b"", timeout=WITHIN_S)
        assert len(reply.data) < 1_000_000
        return json.loads(reply.data)["waiting"] >= 1999

    async def all_wait():
        # Renewed, since one that does not renew is forgotten after 12 s. No reply to them counts: a leader that has
        # lost its lease on a busy machine sends none.
        renewal = next(renewals)
        for number in range(2000):
            ask: dict[str, Any] = {
                "request_id": f"{number:064}",
                "shard_id": number % 300,
                "client": name,
                "renewal": renewal,
            }
            await box.ask(number % 300, managed=True, **ask)
        with suppress(AssertionError):
            return await until(all_are_in_the_book, "", within_s=5)

    await until(all_wait, "all are in the book", within_s=120)


async def test_the_usual_nats_tools_find_the_service(coordinator, client):
    about = await asked(client, "$SRV.INFO.identify-coordinator")
    assert (about["name"], about["metadata"]["prefix"]) == ("identify-coordinator", "identify")
    assert about["description"]
    endpoints = {end["name"]: end for end in about["endpoints"]}
    assert {name: end["subject"] for name, end in endpoints.items()} == {
        "info": "identify.info",
        "status": "identify.status",
        "refresh": "identify.refresh",
        **{command.value: f"identify.{command}" for command in Command},
    }
    schemas = {name: json.loads(end["metadata"]["reply_schema"]) for name, end in endpoints.items()}
    known = {name: schemas[name] for name in ("info", "status", "refresh")}
    assert known == {"info": schema_of("info"), "status": schema_of("status"), "refresh": schema_of("info")}
    assert schemas["pause"] == {"oneOf": [schema_of("done"), schema_of("not_done")]}
    assert json.loads(endpoints["pause"]["metadata"]["request_schema"]) == schema_of("pause")
    assert json.loads(endpoints["status"]["metadata"]["request_schema"]) == schema_of("status_query")
    assert {name: end["queue_group"] == "q" for name, end in endpoints.items()} == {
        "info": True,
        "status": True,
        "refresh": False,  # every replica receives it, and the leader alone answers
        **{command.value: False for command in Command},
    }
    assert (await asked(client, "$SRV.PING.identify-coordinator"))["name"] == "identify-coordinator"
    assert (await asked(client, "$SRV.STATS.identify-coordinator"))["endpoints"]


async def test_any_replica_answers_info_and_the_leader_alone_refreshes(coordinator, start_coordinator, client):
    standby = await start_coordinator(until_leader=False)
    await until(standby.is_ready, "the standby is ready")
    for _ in range(10):
        assert (await asked(client, "identify.info"))["leader"] == "pod-0"
    assert (await asked(client, "identify.refresh"))["max_concurrency"] == 1
    box = Mailbox(client)
    await box.open()
    await client.publish("identify.refresh", b"", reply=box.address)
    await box.reply()
    await client.request("identify.info", b"", timeout=WITHIN_S)
    assert box.subscription.pending_msgs == 0


async def test_events_tell_what_happens(coordinator, client, mailbox):
    events = await client.subscribe("identify.event.*")
    await settle(client)
    await mailbox.ask(0, managed=True, request_id="one", client="pod-a")
    granted, message = await mailbox.next("granted")
    await message.respond(b"")
    await client.publish(message.reply, b'{"outcome": "ready"}')
    await mailbox.ask(0, payload=b"{")
    seen: dict[str, Any] = {}
    while set(seen) != {"granted", "identified", "ready", "refused"}:
        event = await events.next_msg(timeout=WITHIN_S)
        seen[event.subject.removeprefix("identify.event.")] = json.loads(event.data)
    for name in ("granted", "identified", "ready"):
        assert seen[name]["grant_id"] == granted["grant_id"]
        assert (seen[name]["request_id"], seen[name]["shard_id"], seen[name]["bucket"]) == ("one", 0, 0)
        assert seen[name]["client"] == "pod-a"
        assert seen[name]["waited_ms"] >= 0
    for facts in seen.values():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", facts["at"])
    assert seen["refused"]["code"] == "bad_request"


async def test_the_pages(coordinator, client, mailbox):
    await mailbox.ask(0, managed=True, request_id="one")
    await mailbox.next("granted")
    for page in ("/livez", "/readyz", "/leader"):
        assert await coordinator.page(page) == (200, "ok\n")
    assert (await coordinator.page("/elsewhere"))[0] == 404
    await coordinator.until_metric('identify_events_total{event="granted"}', 1)
    assert await coordinator.metric("identify_leader") == 1
    assert await coordinator.metric("identify_term") == 1
    assert await coordinator.metric("identify_session_starts_remaining") == 999
    assert await coordinator.metric("identify_wait_seconds_count") == 1
    assert await coordinator.metric("identify_commit_seconds_count") >= 2
    assert await coordinator.metric('identify_nats_connected{name="store"}') == 1


def healthcheck(**environment):
    command = [sys.executable, "-m", "coordinator", "healthcheck"]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], **environment}, cwd=ROOT, check=False).returncode


async def test_the_health_check_asks_the_coordinator_beside_it(coordinator):
    address = coordinator.logged("HTTP is served")[0]["addresses"][0]
    port = address.rpartition(":")[2]
    assert healthcheck(IDENTIFY_HTTP_PORT=port) == 0
    assert healthcheck(IDENTIFY_HTTP_PORT=port, IDENTIFY_HTTP_HOST="0.0.0.0") == 0  # noqa: S104  # asked on loopback
    await coordinator.end(signal.SIGKILL)
    assert healthcheck(IDENTIFY_HTTP_PORT=port) == 1


async def test_another_program_on_its_port_is_no_healthy_coordinator(capfd):
    async def greet(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await asyncio.to_thread(healthcheck, IDENTIFY_HTTP_PORT=str(port)) == 1
    assert capfd.readouterr().err == ""
    server.close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="IPv6 is off on this machine")
@pytest.mark.parametrize(
    ("host", "addresses"),
    [("::", ["127.0.0.1", "[::1]"]), ("::1", ["[::1]"]), ("[::1]", ["[::1]"]), ("localhost", ["127.0.0.1"])],
)
async def test_the_pages_are_served_on_ipv6_too(start_coordinator, host, addresses):
    process = await start_coordinator(until_leader=False, IDENTIFY_HTTP_HOST=host)

    async def serves():
        return process.logged("HTTP is served")

    port = (await until(serves, "it serves"))[0]["addresses"][0].rpartition(":")[2]
    for address in addresses:
        assert (await asyncio.to_thread(fetch_page, f"http://{address}:{port}/livez"))[0] == 200
    # A proxy of the environment is for Discord: it knows nothing of this machine.
    assert healthcheck(IDENTIFY_HTTP_PORT=port, IDENTIFY_HTTP_HOST=host, http_proxy="http://127.0.0.1:1") == 0
    assert await process.end() == 0
    assert healthcheck(IDENTIFY_HTTP_PORT=port, IDENTIFY_HTTP_HOST=host) == 1


async def test_wrong_settings_exit_with_2_and_a_line_each(start_coordinator):
    process = await start_coordinator(
        until_leader=False, IDENTIFY_WINDOW="soon", IDENTIFY_LEASE="0", NATS_URL="nats://bot:hunter2@host:x"
    )
    assert await process.ended() == 2
    lines = process.log.splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == ["IDENTIFY_LEASE", "IDENTIFY_WINDOW", "NATS_URL"]
    assert "hunter2" not in process.log


async def test_a_port_that_is_taken_exits_with_2(coordinator, start_coordinator):
    port = coordinator.logged("HTTP is served")[0]["addresses"][0].rpartition(":")[2]
    process = await start_coordinator(until_leader=False, IDENTIFY_HTTP_PORT=port)
    assert await process.ended() == 2
    assert process.log.splitlines()[-1].startswith("IDENTIFY_HTTP_HOST, IDENTIFY_HTTP_PORT: ")


def test_an_unknown_argument_exits_with_2():
    command = [sys.executable, "-m", "coordinator", "serve"]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 2


async def test_a_misspelt_variable_is_named(start_coordinator):
    process = await start_coordinator(IDENTIFY_MAX_CONCURENCY="16")
    (warning,) = process.logged("an unknown variable is ignored")
    assert warning["name"] == "IDENTIFY_MAX_CONCURENCY"
