"""Real libraries at Discord's own pace: minutes each, `make clients`. The figures are printed with `pytest -s`."""

import asyncio
import signal

import pytest

from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing import SimulatedGateway
from nats_identify.testing.events import Connected, Identified, Resumed
from tests.processes import until

pytestmark = pytest.mark.slow

AS_SHIPPED = {
    "IDENTIFY_WINDOW": "5",
    "IDENTIFY_MARGIN": "0.2",
    "IDENTIFY_USE_WITHIN": "5",
    "IDENTIFY_LEASE": "3",
    "IDENTIFY_GRACE": "1",
}
SHARDS = 18


async def test_eighteen_shards_in_one_bucket(family, start_coordinator, open_gateway, start_bot):
    await start_coordinator(**AS_SHIPPED)
    gateway = await open_gateway(shards=SHARDS, guilds_per_shard=1)
    hands = [list(range(first, SHARDS, 3)) for first in range(3)]
    bots = [await start_bot(gateway, shard_ids=hand, shard_count=SHARDS, hurried=False) for hand in hands]
    report = await gateway.until(lambda report: report.ready == SHARDS, within_s=180)
    for bot in bots:
        await bot.until("ready")

    longest_wait_s = (report.last_identify_ns - report.first_identify_ns) / NS_PER_S
    print(f"\n{family.front}: {report}; the last waited {longest_wait_s:.1f} s longer than the first")  # noqa: T201  # a measurement
    assert report.violations == 0
    assert report.mean_gap_s[0] <= 5.3
    assert report.ready_by_shard == dict.fromkeys(range(SHARDS), 1)
    assert longest_wait_s > 80
    assert gateway.record.report().disconnects_by_code == {}
    assert len(gateway.record.of(Connected)) == SHARDS, "each connected once"


async def seconds_to_resume(gateway: SimulatedGateway, shard_id: int) -> float:
    begun_ns, before = now_ns(), len(gateway.record.of(Resumed))
    await gateway.drop(shard_id)
    await gateway.until(lambda report: report.resumes + report.resumes_refused > before)
    return (gateway.record.of(Resumed)[-1].at_ns - begun_ns) / NS_PER_S


async def test_everything_is_lost_while_others_wait(
    family, start_coordinator, open_gateway, start_bot, nats_server: EmbeddedNats
):
    coordinator = await start_coordinator(**AS_SHIPPED)
    gateway = await open_gateway()
    for hand in ([0, 1, 2, 3], [4, 5, 6, 7]):
        await start_bot(gateway, shard_ids=hand, shard_count=8, hurried=False)
    await gateway.until(lambda report: report.ready == 3, within_s=60)
    first, second, third = [event.shard_id for event in gateway.record.of(Identified)]

    took_s = [await seconds_to_resume(gateway, shard_id) for shard_id in (first, second, third)]
    await coordinator.end(signal.SIGKILL)
    took_s.append(await seconds_to_resume(gateway, first))
    await nats_server.stop()
    took_s.append(await seconds_to_resume(gateway, second))
    before = gateway.record.report().identifies
    await gateway.invalidate(first)
    await gateway.drop(second, resumable=False)
    await asyncio.sleep(12)  # more than two windows: time for what must not happen
    passed = gateway.record.report().identifies - before

    await nats_server.start()
    await start_coordinator(**{**AS_SHIPPED, "IDENTIFY_FRESH_START": ""})
    report = await gateway.until(lambda report: report.ready == 10, within_s=120)
    resumed = ", ".join(f"{took:.2f}" for took in took_s)
    print(f"\n{family.front}: {report}; resumed after {resumed} s; {passed} passed without a queue")  # noqa: T201  # a measurement
    assert passed == 0
    assert max(took_s) < 1
    assert report.violations == 0
    assert report.identifies == 10
    next_two = [event.shard_id for event in gateway.record.of(Identified)][3:5]
    assert sorted(next_two) == sorted([first, second]), "whose sessions were live and were lost go first"


async def test_heartbeats_go_on_while_a_connected_shard_waits(family, start_coordinator, open_gateway, start_bot):
    coordinator = await start_coordinator(**AS_SHIPPED)
    gateway = await open_gateway(heartbeat_interval_s=3)
    await start_bot(gateway, shard_ids=[0, 1], shard_count=2, hurried=False)

    async def both_are_connected() -> bool:
        return len(gateway.record.of(Connected)) == 2

    await until(both_are_connected, "a shard that is up, and one whose turn is near")
    await coordinator.end(signal.SIGKILL)  # so that the turn does not come
    await asyncio.sleep(20)  # several heartbeats: the library ends a connection whose acknowledgements are not read
    assert gateway.record.report().identifies == 1

    await start_coordinator(**{**AS_SHIPPED, "IDENTIFY_FRESH_START": ""})
    report = await gateway.until(lambda report: report.ready == 2)
    assert report.violations == 0
    assert report.heartbeat_timeouts == 0
    assert len(gateway.record.of(Connected)) == 2, "the connection that waited was used"


async def test_close_in_the_middle_of_a_wait(family, start_coordinator, open_gateway, start_bot, waiting):
    await start_coordinator(**AS_SHIPPED)
    gateway = await open_gateway()
    bot = await start_bot(gateway, shard_ids=[0, 1, 2, 3], shard_count=4, hurried=False)

    async def two_wait() -> bool:
        return gateway.record.report().ready == 2 and len(await waiting()) == 2

    await until(two_wait, "two are up and two wait")
    await bot.obey("close")
    closed = await bot.until("closed")
    begun_ns = now_ns()

    async def nobody_waits() -> bool:
        return not await waiting()

    await until(nobody_waits, "the queue forgets them")
    forgotten_s = (now_ns() - begun_ns) / NS_PER_S
    print(f"\n{family.front}: closed within {closed['within_s']:.3f} s, forgotten {forgotten_s:.3f} s later")  # noqa: T201  # a measurement
    assert closed["within_s"] < 1
    assert forgotten_s < 1
