"""The bot libraries in real processes, through a real NATS and coordinator; the gateway's record judges."""

import asyncio
import signal
from collections import Counter
from typing import Any

import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing import SimulatedGateway
from nats_identify.testing.codes import CloseCode
from nats_identify.testing.events import Identified, Resumed
from tests.processes import until

QUICK_WINDOW = {"IDENTIFY_WINDOW": "0.6", "IDENTIFY_MARGIN": "0.1"}
LONG_WINDOW = {"IDENTIFY_WINDOW": "1.5", "IDENTIFY_MARGIN": "0.1"}
ENDLESS_WINDOW = {"IDENTIFY_WINDOW": "600"}


def order_of_shards(gateway: SimulatedGateway) -> list[int]:
    return [event.shard_id for event in gateway.record.of(Identified)]


async def test_a_fleet_in_two_processes(family, start_coordinator, open_gateway, start_bot):
    await start_coordinator(**QUICK_WINDOW)
    gateway = await open_gateway(shards=4, window_s=0.6, guilds_per_shard=2)
    bots = [
        await start_bot(gateway, shard_ids=[0, 2], shard_count=4),
        await start_bot(gateway, shard_ids=[1, 3], shard_count=4, hide_zstd=True),
    ]
    compress = [(await bot.until("made"))["compress"] for bot in bots]
    assert compress == ["zstd-stream" if family.besides else "zlib-stream", "zlib-stream"]

    report = await gateway.until(lambda report: report.ready == 4)
    for bot in bots:
        await bot.until("ready")  # the library's own `on_ready`: both its shards are up

    assert report.violations == 0
    assert report.ready_by_shard == {0: 1, 1: 1, 2: 1, 3: 1}
    assert report.disconnects_by_code == {}, "nobody reconnected because it had to wait"


async def test_other_shards_resume_while_one_waits(family, start_coordinator, open_gateway, start_bot, waiting):
    await start_coordinator(**ENDLESS_WINDOW, IDENTIFY_MAX_CONCURRENCY="2")  # each bucket has one turn
    gateway = await open_gateway(max_concurrency=2)
    bot = await start_bot(gateway, shard_ids=[0, 1, 2, 3], shard_count=4)

    async def two_wait() -> bool:
        return gateway.record.report().ready == 2 and len(await waiting()) == 2

    await until(two_wait, "two are up and two wait")
    resumable, other = order_of_shards(gateway)
    await gateway.drop(resumable)
    await bot.until("resumed", shard_id=resumable)
    await gateway.reconnect(other)
    await bot.until("resumed", shard_id=other)
    assert len(await waiting()) == 2
    assert gateway.record.report().identifies == 2
    assert [event.accepted for event in gateway.record.of(Resumed)] == [True, True]


async def test_sessions_that_are_lost_are_replaced_in_their_turns(family, start_coordinator, open_gateway, start_bot):
    await start_coordinator(**QUICK_WINDOW)
    gateway = await open_gateway(window_s=0.6)
    bot = await start_bot(gateway, shard_ids=[0, 1, 2], shard_count=3)
    await bot.until("ready")
    await gateway.drop(0, resumable=False)
    await gateway.invalidate(1)
    report = await gateway.until(lambda report: report.ready == 5)
    assert report.violations == 0
    assert report.identifies == 5
    assert report.ready_by_shard == {0: 2, 1: 2, 2: 1}
    assert [event.accepted for event in gateway.record.of(Resumed)] == [False]


@pytest.mark.shared_code
async def test_nothing_passes_while_the_queue_is_away(
    family, start_coordinator, open_gateway, start_bot, nats_server: EmbeddedNats
):
    coordinator = await start_coordinator(**LONG_WINDOW)
    gateway = await open_gateway(window_s=1.5)
    bot = await start_bot(gateway, shard_ids=[0, 1, 2], shard_count=3)
    await gateway.until(lambda report: report.ready == 1)
    live = order_of_shards(gateway)[0]

    await coordinator.end(signal.SIGKILL)
    await nats_server.stop()
    await asyncio.sleep(1.5)  # longer than a turn may be used: one that was granted has been used, or is over
    before = gateway.record.report().identifies
    await gateway.drop(live)
    await bot.until("resumed", shard_id=live)  # RESUME asks nobody
    await gateway.invalidate(live)
    await asyncio.sleep(2)  # longer than a window: time for what must not happen
    assert gateway.record.report().identifies == before

    await nats_server.start()
    await start_coordinator(IDENTIFY_FRESH_START="", **LONG_WINDOW)
    report = await gateway.until(lambda report: report.ready == 4)
    assert report.violations == 0
    assert report.identifies == 4
    assert order_of_shards(gateway)[before] == live, "whose session was live and was lost goes first"


async def test_invalid_session_is_answered_through_the_queue(
    family, start_coordinator, open_gateway, start_bot, happened
):
    await start_coordinator(**QUICK_WINDOW)
    gateway = await open_gateway(window_s=0.6, remaining=0)
    await start_bot(gateway, shard_ids=[0], shard_count=1)
    await gateway.until(lambda report: report.identifies == 2)  # each was answered with Invalid Session
    gateway.reset_day()
    report = await gateway.until(lambda report: report.ready == 1)

    async def is_known() -> bool:
        return "ready" in happened

    await until(is_known, "the queue has heard of READY")
    assert happened["granted"] == happened["identified"] == report.identifies
    assert happened["rejected"] == report.identifies - 1
    assert happened["ready"] == 1


async def test_a_connection_that_dies_in_the_wait_is_replaced(family, start_coordinator, open_gateway, start_bot):
    await start_coordinator(**LONG_WINDOW)
    gateway = await open_gateway(window_s=1.5, connect_delay_s=(0, 0), hello_delay_s=(0, 0))
    await start_bot(gateway, shard_ids=[0, 1], shard_count=2)
    await gateway.until(lambda report: report.ready == 1)

    async def drop_the_one_that_waits() -> bool:
        try:
            await gateway.drop(None, code=CloseCode.ABNORMAL)
        except LookupError:
            return False  # it has not connected yet
        return True

    await until(drop_the_one_that_waits, "a connection that waits for its turn")
    report = await gateway.until(lambda report: report.ready == 2)
    assert report.violations == 0
    assert report.identifies == 2


async def test_close_gives_the_place_back_at_once(
    family, start_coordinator, open_gateway, start_bot, waiting, happened
):
    await start_coordinator(**ENDLESS_WINDOW)
    gateway = await open_gateway()
    bots = [
        await start_bot(gateway, shard_ids=[0, 1], shard_count=4),
        await start_bot(gateway, shard_ids=[2, 3], shard_count=4, queue_object=True),
    ]

    async def three_wait() -> bool:
        return gateway.record.report().ready == 1 and len(await waiting()) == 3

    await until(three_wait, "all but the first wait")
    for bot in bots:
        await bot.until("queued")
        await bot.obey("close")
        await bot.until("ended")
        assert await bot.ended() == 0

    async def nobody_waits() -> bool:
        return not await waiting()

    await until(nobody_waits, "the queue forgets them")
    assert happened["cancelled"] == 3, "they were not found dead, they left"
    assert happened["expired"] == 0
    assert gateway.record.report().identifies == 1


@pytest.mark.parametrize(("options", "code"), [({}, 1000), ({"close_code": 4000}, 4000)], ids=["ends it", "leaves it"])
async def test_close_ends_the_session_or_leaves_it_resumable(
    family, start_coordinator, open_gateway, start_bot, options, code
):
    await start_coordinator(**QUICK_WINDOW)
    gateway = await open_gateway(window_s=0.6)
    bot = await start_bot(gateway, shard_ids=[0, 1], shard_count=2, **options)
    await bot.until("ready")
    await gateway.drop(1)
    await bot.until("resumed", shard_id=1)  # its connection is the library's own from here on
    await bot.obey("close")
    await bot.until("ended")
    report = await gateway.until(lambda report: sum(report.disconnects_by_code.values()) == 3)
    assert report.disconnects_by_code == Counter([CloseCode.UNKNOWN_ERROR, code, code])  # the first was ours


async def test_a_fatal_close_code_ends_the_bot_and_asks_no_more(
    family, start_coordinator, open_gateway, start_bot, waiting
):
    await start_coordinator(**ENDLESS_WINDOW)
    gateway = await open_gateway()
    bot = await start_bot(gateway, shard_ids=[0, 1], shard_count=2)
    await gateway.until(lambda report: report.ready == 1)
    await gateway.drop(order_of_shards(gateway)[0], code=CloseCode.DISALLOWED_INTENTS)

    await bot.until("failed")
    assert await bot.ended() != 0
    assert await waiting() == []
    assert gateway.record.report().identifies == 1


async def test_clients_and_bots_of_every_kind(family, start_coordinator, open_gateway, start_bot):
    await start_coordinator(**QUICK_WINDOW)
    gateway = await open_gateway(window_s=0.6)
    bots = [
        *[await start_bot(gateway, kind, shard_id=n, shard_count=5) for n, kind in enumerate(family.one)],
        *[await start_bot(gateway, kind, shard_ids=[n], shard_count=5) for n, kind in enumerate(family.bots, 2)],
        await start_bot(gateway, shard_ids=[4], shard_count=5),
        await start_bot(gateway, *family.one[:1]),  # a whole bot of one shard
    ]
    report = await gateway.until(lambda report: report.ready == len(bots))
    for bot in bots:
        await bot.until("ready")
    assert report.violations == 0
    assert report.ready_by_shard == Counter([*range(len(family.one)), *range(2, 2 + len(family.bots)), 4, 0])


@pytest.mark.shared_code
async def test_a_part_of_the_shards_without_a_queue_is_refused(family, open_gateway, start_bot):
    gateway = await open_gateway()
    parts: list[tuple[str, dict[str, Any]]] = [
        (family.many, {"shard_ids": [0, 1, 2], "shard_count": 6}),
        *[(kind, {"shard_id": 0, "shard_count": 2}) for kind in family.one[:1]],
    ]
    for kind, part in parts:
        bot = await start_bot(gateway, kind, queue=None, **part)
        await bot.until_logged("no queue is named")
        assert await bot.ended() != 0
        said = bot.log_file.read_text().strip().splitlines()[-1]
        assert said.startswith("ValueError: no queue is named, and this process runs only shards")
    assert gateway.record.report().identifies == 0


@pytest.mark.shared_code
async def test_the_log_says_which_shards_ask_which_queue_and_no_password(
    family, nats_server, start_coordinator, open_gateway, start_bot
):
    await start_coordinator(**QUICK_WINDOW)
    gateway = await open_gateway(window_s=0.6)
    address = nats_server.url.removeprefix("nats://")
    bot = await start_bot(gateway, shard_ids=[0, 1, 3], shard_count=6, queue=f"nats://shard:secret@{address}")
    await bot.until_logged(f"shards 0-1, 3 of 6 ask a NatsQueue at {address} with the prefix identify")
    await gateway.until(lambda report: report.ready == 3)
    assert "secret" not in bot.log_file.read_text()
    assert bot.log_file.read_text().count(" ask a NatsQueue") == 1
