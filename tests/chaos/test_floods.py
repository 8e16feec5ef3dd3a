"""A flood from one pod: the leader keeps its term, and an idle bucket is served while it lasts."""

import asyncio
import json
import sys
import time
from statistics import quantiles

import nats
import pytest

from tests.chaos.flooder import kinds
from tests.processes import ROOT, until

pytestmark = pytest.mark.slow

FLOOD_S = 8.0
PROBE_S = 0.2
IDLE = {"IDENTIFY_MAX_CONCURRENCY": "64", "IDENTIFY_SESSION_TOTAL": "100000", "IDENTIFY_LEASE": "3"}


async def served(client, until_s):
    """Ask for idle buckets, one after the other; return how long each took, None for one that was not answered."""
    took_s: list[float | None] = []
    bucket = 1
    while time.monotonic() < until_s:
        began_s = time.monotonic()
        try:
            await client.request(f"identify.request.{bucket}", b"", timeout=5)
            took_s.append(time.monotonic() - began_s)
        except (TimeoutError, nats.errors.Error):
            took_s.append(None)
        bucket = bucket % 63 + 1
        await asyncio.sleep(PROBE_S)  # between two probes
    return took_s


@pytest.mark.parametrize("kind", sorted(kinds()))
async def test_a_flood_costs_neither_the_lead_nor_an_idle_bucket(kind, start_coordinator, nats_server, client):
    leader = await start_coordinator(**IDLE, IDENTIFY_LOG_LEVEL="info")
    await until(leader.is_ready, "it is ready")
    before = await served(client, time.monotonic() + 2)
    port = nats_server.url.rpartition(":")[2]
    command = (sys.executable, "-m", "tests.chaos.flooder", port, kind, str(FLOOD_S))
    flooder = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        during = await served(client, time.monotonic() + FLOOD_S)
        sent, _ = await asyncio.wait_for(flooder.communicate(), 60)
    finally:
        if flooder.returncode is None:
            flooder.kill()
    await until(leader.is_leader, "it leads after the flood")
    info = json.loads((await client.request("identify.info", b"", timeout=10)).data)
    answered = [took_s for took_s in during if took_s is not None]
    worst = quantiles(answered, n=100)[98] if len(answered) > 1 else None
    dropped = [line for line in (await leader.page("/metrics"))[1].splitlines() if "identify_dropped_total" in line]
    figures = {
        "kind": kind,
        "sent": int(sent),
        "terms": info["term"],
        "probes": len(during),
        "answered": len(answered),
        "p99_s": worst,
        "max_before_s": max(took_s for took_s in before if took_s is not None),
        "log_bytes": len(leader.log),
        "dropped": dropped,
    }
    print(json.dumps(figures))
    assert info["term"] == 1, "the flood cost the lead"
    assert len(answered) == len(during), "an idle bucket was not served"
    assert len(leader.log) < 100_000
