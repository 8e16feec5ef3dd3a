"""`nats-identify status`, and what waits for a coordinator, where an impostor answers: one plain line, no traceback."""

import asyncio
import json
import sys
from typing import Any

import pytest

from nats_identify.nats_connection import NatsClient, open_connection
from nats_identify.nats_options import NatsOptions
from nats_identify.processes.local_cluster import Cluster
from tests.hostile import GIANT, HEADERS, HostileCoordinator, publish
from tests.processes import until

INFO = {"window_ms": 5_000, "session_start_limit": {}, "leader": "pod-0"}
STATUS = {**INFO, "name": "x", "role": "leader", "prefix": "x", "waiting": 1, "reserve": 0, "buckets": []}
ANSWERS = {
    "nothing": b"",
    "no JSON": b"\xff\xfe\x1b[2J\n",
    "deep": b"[" * 100_000,
    "giant": GIANT,
    "another type": json.dumps({**STATUS, "buckets": "\x1b[31m\nERROR"}).encode(),
    "another tag": json.dumps({**STATUS, "role": ["\x1b[31m\nERROR"]}).encode(),
    "overflow": json.dumps({**STATUS, "session_start_limit": {"reset_after_ms": 10**400}}).encode(),
}


class Impostor(HostileCoordinator):
    """Answers every request of an answer with the same."""

    def __init__(self, url, payload, headers=None):
        super().__init__(url, 0)
        self._answer = payload, headers

    def _heard(self, subject, inbox, body):
        if inbox:
            payload, headers = self._answer
            self._writer.write(publish(inbox, payload, headers=headers))


async def status(url):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nats_identify", "status", "--server", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_is_no_status_is_one_line(nats_server, name):
    async with Impostor(nats_server.url, ANSWERS[name]):
        exit_status, output, errors = await status(nats_server.url)
    assert (exit_status, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.isprintable()
    assert line.startswith(f"what answers on identify.status at {nats_server.url} is no coord")
    assert "update the older of the two" in line


async def test_numbers_that_nobody_can_mean_are_drawn(nats_server):
    most = 2**53
    projection = {"shards": most, "all_up_in_ms": most, "session_starts_short": -most}
    limit = {"total": -most, "remaining": most, "reset_after_ms": -most}
    held = {"request_id": "r", "shard_id": -1, "opens_in_ms": most, "client": "\x1b[31m[red]"}
    numbers = {"restart": projection, "projection": projection, "session_start_limit": limit, "crash_loops": [held]}
    async with Impostor(nats_server.url, json.dumps({**STATUS, **numbers, "held_back": most}).encode()):
        exit_status, output, errors = await status(nats_server.url)
    assert (exit_status, errors) == (0, "")
    assert "\x1b" not in output
    assert r"(\x1b[31m[red])" in output


async def test_headers_that_are_none_leave_a_client_reading(nats_server):
    """nats-py's own client ends its reading at them, in silence: not even the last answer would arrive."""
    dropped: list[Any] = []
    client = await open_connection(NatsOptions.of(nats_server.url), NatsClient(unreadable=dropped.append))
    cluster = Cluster(nats_server.url, client)
    for headers in HEADERS:
        async with Impostor(nats_server.url, json.dumps(INFO).encode(), headers):
            await cluster._ask("identify.info")
    async with Impostor(nats_server.url, json.dumps(INFO).encode()):

        async def is_answered():
            return await cluster._ask("identify.info")

        info = await until(is_answered, "it reads on")
    assert info.leader == "pod-0"
    assert len(dropped) >= 2
    await client.close()
