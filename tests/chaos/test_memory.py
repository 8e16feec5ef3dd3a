"""The memory of a real leader, a standby and one that starts, with as many requests of the largest content as may wait.

The manifest's limit is where Kubernetes kills a coordinator: the worst case must fit with room.
"""

import asyncio
import json
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator.edge.event_queue import QUEUED_MAX
from coordinator.settings import Settings
from tests.processes import ROOT, until

pytestmark = pytest.mark.slow

WAITING = Settings.model_fields["identify_max_waiting"].default
STEP = 4_000
CHURN = WAITING // 2
FLOOD = QUEUED_MAX + 16_384
ROOM = 0.8
WITHIN_S = 600.0
SETTINGS = {
    "IDENTIFY_FRESH_START": "0",  # every bucket is held for a whole window first: none is granted
    "IDENTIFY_WINDOW": "80000",
    "IDENTIFY_MAX_CONCURRENCY": "16",
    "IDENTIFY_SESSION_TOTAL": "100000",
    "IDENTIFY_LEASE": "10",
    "IDENTIFY_LOG_LEVEL": "info",
}


def limit_bytes():
    """Return the memory limit of the manifest."""
    manifest = (ROOT / "deploy/k8s/base/deployment.yaml").read_text()
    (mebibytes,) = re.findall(r"limits:\n\s+memory: (\d+)Mi", manifest)
    return int(mebibytes) * 2**20


def resident_mb(coordinator):
    """Return the resident set of a process, now and at its largest, in MB."""
    status = Path(f"/proc/{coordinator.process.pid}/status").read_text()
    sizes = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+)", status))
    return [round(int(sizes[name]) * 1024 / 1e6, 1) for name in ("VmRSS", "VmHWM")]


@asynccontextmanager
async def crowd(port):
    """Run the process that sends; it is told what to do line by line."""
    command = (sys.executable, "-m", "tests.chaos.crowd", str(port))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def do(what, count):
        stdin.write(f"{what} {count}\n".encode())
        await stdout.readline()

    try:
        yield do
    finally:
        process.kill()
        await process.wait()


async def until_waiting(coordinators, least, most=WAITING):
    """Wait until each of them has so many requests, none of which waits in its inbox."""
    for one in coordinators:

        async def is_so(one=one):
            waiting, unread = await counted(one)
            return least <= waiting <= most and unread == 0  # a request read after a cancel would take its room

        await until(is_so, f"{least} to {most} requests wait", WITHIN_S)


async def fill(do, coordinators, count, least):
    """Send ``count`` requests, and more where an inbox was full, until ``least`` wait at each coordinator.

    A full inbox drops requests, and the crowd sends each of its requests once.
    """
    await do("ask", count)

    async def is_so():
        found = [await counted(one) for one in coordinators]
        if all(unread == 0 for _, unread in found) and any(waiting < least for waiting, _ in found):
            await do("ask", STEP)
        return all(least <= waiting <= WAITING and unread == 0 for waiting, unread in found)

    await until(is_so, f"at least {least} requests wait", WITHIN_S)


async def counted(coordinator):
    """How many requests wait, and how many messages are unread."""
    await asyncio.sleep(0.1)  # a page with 200,000 requests costs the coordinator time
    return await coordinator.metric("identify_waiting"), await coordinator.metric("identify_inbox_depth")


async def test_the_most_that_may_wait_fits_the_limit_of_the_manifest(start_coordinator, nats_server):
    leader = await start_coordinator(**SETTINGS)
    standby = await start_coordinator(**SETTINGS, until_leader=False)
    await until(standby.is_ready, "the standby is ready")
    both = {"leader": leader, "standby": standby}
    figures: dict[str, Any] = {"empty": {name: resident_mb(one) for name, one in both.items()}}
    async with crowd(nats_server.url.rpartition(":")[2]) as do:
        for asked in range(STEP, WAITING + STEP, STEP):
            await fill(do, both.values(), STEP, min(asked, WAITING) - 200)
        figures["full"] = {name: resident_mb(one) for name, one in both.items()}
        for _ in range(0, CHURN, STEP):
            await do("cancel", STEP)
            await until_waiting(both.values(), 0, WAITING - STEP + 200)
            await fill(do, both.values(), 2 * STEP, WAITING - 200)  # every second one is refused
        await fill(do, both.values(), FLOOD, WAITING - 200)  # as fast as it goes: more than an inbox takes
        figures["churned"] = {name: resident_mb(one) for name, one in both.items()}
    third = await start_coordinator(**SETTINGS, until_leader=False)
    await until(third.is_ready, "the third is ready", WITHIN_S)
    both["third"] = third
    figures["handed over"] = {name: resident_mb(one) for name, one in both.items()}
    figures["taken"] = [line["requests"] for line in third.logged("queue taken from another replica")]
    figures["limit_mb"] = limit_bytes() / 1e6
    print(json.dumps(figures))
    worst_mb = max(peak for name in both for peak in figures["handed over"][name])
    assert worst_mb * 1e6 <= ROOM * limit_bytes()
