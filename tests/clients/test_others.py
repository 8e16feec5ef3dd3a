"""What hikari or interactions.py alone would do wrong; what they share with the family is in the other files."""

import pytest

from nats_identify.testing.events import Resumed
from tests.clients.test_family import ENDLESS_WINDOW, QUICK_WINDOW

OTHERS = pytest.mark.parametrize("family", ["hikari", "interactions"], indirect=True)


@pytest.mark.parametrize("family", ["interactions"], indirect=True)
async def test_more_shards_than_the_library_has_connections(family, start_coordinator, open_gateway, start_bot):
    await start_coordinator(**QUICK_WINDOW, IDENTIFY_MAX_CONCURRENCY="64")
    gateway = await open_gateway(shards=50, window_s=0.6, max_concurrency=64)
    bot = await start_bot(gateway, shard_ids=list(range(50)), shard_count=50)
    await bot.until("ready")
    report = gateway.record.report()
    assert report.violations == 0
    assert report.ready_by_shard == dict.fromkeys(range(50), 1)


@OTHERS
async def test_invalid_session_that_may_resume_costs_no_turn(family, start_coordinator, open_gateway, start_bot):
    await start_coordinator(**ENDLESS_WINDOW)
    gateway = await open_gateway()
    bot = await start_bot(gateway, shard_ids=[0], shard_count=1)
    await bot.until("ready")
    await gateway.invalidate(0, resumable=True)
    await bot.until("resumed", shard_id=0)
    assert [event.accepted for event in gateway.record.of(Resumed)] == [True]
    assert gateway.record.report().identifies == 1


@OTHERS
@pytest.mark.parametrize("code", [1000, 1011, 4007, 4009])
async def test_a_close_code_that_leaves_the_session_costs_no_turn(
    family, start_coordinator, open_gateway, start_bot, code
):
    await start_coordinator(**ENDLESS_WINDOW)
    gateway = await open_gateway()
    bot = await start_bot(gateway, shard_ids=[0], shard_count=1)
    await bot.until("ready")
    await gateway.drop(0, code=code)
    await bot.until("resumed", shard_id=0)
    assert gateway.record.report().identifies == 1
