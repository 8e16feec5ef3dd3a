"""The only coordinator, or the only nats-server, dies again and again while shards wait."""

import signal
import time
from typing import Any

import pytest

from nats_identify.testing import SimulatedGateway
from tests.chaos.fleet import fleet_of
from tests.processes import until

pytestmark = pytest.mark.slow

SHARDS = 50
KILLS = 20
WINDOW_S = 0.5
SETTINGS = {
    "IDENTIFY_WINDOW": str(WINDOW_S),
    "IDENTIFY_MARGIN": "0.1",
    "IDENTIFY_USE_WITHIN": "1",
    "IDENTIFY_LEASE": "0.6",
    "IDENTIFY_LOG_LEVEL": "info",
}
WEATHER: dict[str, Any] = {"connect_delay_s": (0, 0.1), "frame_latency_s": (0.005, 0.02)}


@pytest.fixture
async def gateway():
    async with SimulatedGateway(window_s=WINDOW_S, shards=SHARDS, **WEATHER) as gateway:
        yield gateway


def is_further_than(fleet, count):
    async def look():
        return len(fleet.identified()) >= count

    return look


async def judge(fleet, gateway, what):
    """All served once, in order, no window broken."""
    await until(is_further_than(fleet, SHARDS), "all served", within_s=240)
    report = await gateway.until(lambda report: report.ready >= SHARDS, within_s=30)
    print(f"\n{what}\n{report}")
    assert report.violations == 0
    assert fleet.identified() == list(range(SHARDS))
    assert dict(report.ready_by_shard) == dict.fromkeys(range(SHARDS), 1)


async def test_the_coordinator_is_killed_twenty_times(nats_server, start_coordinator, gateway):
    coordinator = await start_coordinator(**SETTINGS)
    async with fleet_of(SHARDS, nats_server.url, gateway) as fleet:
        begun_s = time.monotonic()
        for kill in range(KILLS):
            await until(is_further_than(fleet, 2 * (kill + 1)), f"{2 * (kill + 1)} served before kill {kill + 1}")
            await coordinator.end(signal.SIGKILL)
            await coordinator.start()
        await judge(fleet, gateway, f"{KILLS} x kill -9 of the coordinator in {time.monotonic() - begun_s:.0f} s")


async def test_nats_is_stopped_and_started_with_its_store(nats_server, start_coordinator, gateway):
    await start_coordinator(**SETTINGS)
    async with fleet_of(SHARDS, nats_server.url, gateway) as fleet:
        for stop, end in enumerate((nats_server.stop, nats_server.kill, nats_server.stop, nats_server.kill)):
            await until(is_further_than(fleet, 8 * (stop + 1)), f"{8 * (stop + 1)} served before stop {stop + 1}")
            await end()
            await nats_server.start()
        await judge(fleet, gateway, "nats-server stopped twice and killed twice, started again with its store")
