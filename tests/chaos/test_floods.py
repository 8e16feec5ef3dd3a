"""A flood from one pod: the leader keeps its term, and idle buckets are served while it lasts.

nats-server limits no rates. Where the flood is faster than the machine lets a coordinator read, the server cuts the
traffic connection, and what it had for it is lost; the leader leads on, and serves what is asked again.
"""

import asyncio
import json
import re
import sys
import time
from functools import partial
from statistics import median

import nats
import pytest

from tests.chaos.flooder import RATES, kinds
from tests.processes import ROOT, samples_of, until

pytestmark = pytest.mark.slow

FLOOD_S = 8.0
PROBE_S = 0.2
ASK_AGAIN_S = 30.0
"""A server cuts off a coordinator that a busy machine lets read too little, and what it had for it is lost."""

IDLE = {"IDENTIFY_MAX_CONCURRENCY": "64", "IDENTIFY_SESSION_TOTAL": "100000", "IDENTIFY_LEASE": "3"}


class Probes:
    """Requests for idle buckets, one after the other.

    Attributes:
        took_s: how long each took that was answered.
        late: whether the last one was answered only after the flood.
        lost: requests that were not answered, and repeated.
        unheard: requests that no coordinator was there to receive, repeated as well.
    """

    def __init__(self, client):
        self.took_s, self.lost, self.unheard, self.late = [], 0, 0, False
        self._client = client

    async def run(self, flooder=None, seconds=0.0):
        """Ask while the flooder runs, or for so long; the last one is asked until it is answered."""
        until_s = time.monotonic() + seconds
        while flooder.returncode is None if flooder else time.monotonic() < until_s:
            bucket = len(self.took_s) % 63 + 1
            began_s = time.monotonic()
            await until(partial(self._is_granted, bucket), "a turn is granted")
            self.took_s.append(time.monotonic() - began_s)
            self.late = flooder is not None and flooder.returncode is not None
            await asyncio.sleep(PROBE_S)  # between two probes

    async def _is_granted(self, bucket):
        try:
            reply = await self._client.request(f"identify.request.{bucket}", b"", timeout=ASK_AGAIN_S)
        except nats.errors.NoRespondersError:
            self.unheard += 1
            return False
        except nats.errors.TimeoutError:
            self.lost += 1
            return False
        return json.loads(reply.data)["status"] == "granted"


async def asked(client):
    """Return the answer to `identify.info`, None where none came."""
    try:
        return json.loads((await client.request("identify.info", b"", timeout=10)).data)
    except nats.errors.Error:
        return None


async def metrics_of(leader):
    """Return all samples of /metrics."""
    return samples_of((await leader.page("/metrics"))[1])


@pytest.mark.parametrize("kind", sorted(kinds()))
async def test_a_flood_that_can_be_read_loses_no_request(kind, start_coordinator, nats_server, client):
    """Each kind at the pace at which one pod once stopped a coordinator: idle buckets are served meanwhile."""
    figures = await flood(kind, RATES[kind], start_coordinator, nats_server, client)
    assert figures["cuts"] == 0
    assert figures["lost"] == 0
    assert figures["answered"]


@pytest.mark.parametrize("kind", sorted(kinds()))
async def test_the_worst_flood_of_one_pod_does_not_cost_the_lead(kind, start_coordinator, nats_server, client):
    """As much as one process can send: more than can be read."""
    figures = await flood(kind, None, start_coordinator, nats_server, client)
    assert figures["cuts"] or not figures["lost"], "a request was lost on a connection that was not cut"


async def flood(kind, rate, start_coordinator, nats_server, client):
    """Flood one leader, and ask it for idle buckets meanwhile; return what was seen."""
    leader = await start_coordinator(**IDLE, IDENTIFY_LOG_LEVEL="info")
    await until(leader.is_ready, "it is ready")
    calm, probes = Probes(client), Probes(client)
    await calm.run(seconds=2)
    before = await metrics_of(leader)
    port = nats_server.url.rpartition(":")[2]
    command = (sys.executable, "-m", "tests.chaos.flooder", port, kind, str(FLOOD_S), *([str(rate)] if rate else []))
    flooder = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert flooder.stdout is not None
        await flooder.stdout.readline()
        await probes.run(flooder)
        sent, _ = await flooder.communicate()
    finally:
        if flooder.returncode is None:
            flooder.kill()
    await until(leader.is_leader, "it leads after the flood")
    info = await until(lambda: asked(client), "it answers after the flood")
    after = await metrics_of(leader)
    gone = [line["connection"] for line in leader.logged("NATS is gone; trying on")]
    figures = {
        "kind": kind,
        "rate": rate,
        "sent": int(sent),
        "term": info["term"],
        "answered": len(probes.took_s) - probes.late,
        "late": int(probes.late),
        "lost": probes.lost,
        "no_responders": probes.unheard,
        "median_s": round(median(probes.took_s), 3),
        "max_s": round(max(probes.took_s), 3),
        "calm_max_s": round(max(calm.took_s), 4),
        "log_bytes": len(leader.log),
        "cuts": nats_server.log_file.read_text().count("Slow Consumer Detected"),
        "cpu_s": round(after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"], 1),
        "dropped": {
            name.partition('"')[2][:-2]: int(count)
            for name, count in after.items()
            if re.match("identify_dropped_total", name)
        },
    }
    print(json.dumps(figures))
    assert info["term"] == 1, "the flood cost the lead"
    assert gone == ["traffic"] * figures["cuts"], "a connection was given up that the server had not cut"
    assert len(leader.log) < 100_000
    return figures
