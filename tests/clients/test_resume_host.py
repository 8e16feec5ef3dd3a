"""A session is resumed wherever it can be, and never waits for the queue: hosts that fail, in every library.

The figures are printed with `pytest -s`.
"""

import json

import pytest

from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.testing import DoorState, ErrorResponse
from nats_identify.testing.codes import CloseCode
from nats_identify.testing.events import Connected, Identified, Resumed
from tests.clients.test_family import ENDLESS_WINDOW, LONG_WINDOW, order_of_shards
from tests.processes import until

BACK_MAX_S = 120.0
"""Far beyond what a shard needs; a shard that never comes back is what these tests are about."""


@pytest.fixture
def took(request: pytest.FixtureRequest):
    """Print how long something took since a moment."""

    def say(begun_ns: int, what: str) -> None:
        print(f"\n{request.node.name}: {what} after {(now_ns() - begun_ns) / NS_PER_S:.1f} s")  # noqa: T201  # a measurement

    return say


OTHER_FAULTS = (DoorState.SILENT, DoorState.NO_HELLO, DoorState.NO_ANSWER, DoorState.HANGS_UP)
FAULTS = (DoorState.REFUSES, *[pytest.param(fault, marks=pytest.mark.shared_code) for fault in OTHER_FAULTS])
"""The first shows that each library is brought from its host to the gateway."""


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_resume_host_that_fails_is_left_for_the_gateway(
    family, start_coordinator, open_gateway, start_bot, waiting, took, fault
):
    await start_coordinator(**ENDLESS_WINDOW)  # no further turn comes: what comes back, comes back without one
    gateway = await open_gateway(resume_host=fault)
    bot = await start_bot(gateway, shard_ids=[0, 1], shard_count=2)
    await gateway.until(lambda report: report.ready == 1)
    (live,) = order_of_shards(gateway)

    begun_ns = now_ns()
    await gateway.drop(live)
    await gateway.until(lambda report: report.resumes == 1, within_s=BACK_MAX_S)
    await bot.until("resumed", shard_id=live)
    took(begun_ns, "resumed")
    assert gateway.record.report().identifies == 1
    assert await waiting() == [1 - live]


@pytest.mark.shared_code
@pytest.mark.parametrize("fault", [DoorState.REFUSES, DoorState.SILENT])
async def test_a_session_that_is_gone_is_replaced_by_a_turn_whatever_its_resume_host_does(
    family, start_coordinator, open_gateway, start_bot, client, took, fault
):
    await start_coordinator(**LONG_WINDOW)
    priorities: list[int] = []

    async def keep(message) -> None:
        priorities.append(json.loads(message.data).get("priority", 0))

    await client.subscribe("identify.request.*", cb=keep)
    gateway = await open_gateway(window_s=1.5, resume_host=fault)
    await start_bot(gateway, shard_ids=[0], shard_count=1)
    await gateway.until(lambda report: report.ready == 1)

    begun_ns = now_ns()
    await gateway.drop(0, resumable=False)
    report = await gateway.until(lambda report: report.ready == 2, within_s=BACK_MAX_S)
    took(begun_ns, "up with a new session")
    assert report.violations == 0
    assert report.identifies == len(gateway.record.of(Identified)) == 2
    assert [event.accepted for event in gateway.record.of(Resumed)] == [False]
    assert (priorities[0], priorities[-1]) == (0, 1), "a session that was live and was lost goes first"


@pytest.mark.parametrize(
    "fault", [pytest.param(DoorState.NO_ANSWER, marks=pytest.mark.shared_code), DoorState.HANGS_UP]
)
async def test_a_gateway_that_answers_no_resume_gets_an_identify(
    family, start_coordinator, open_gateway, start_bot, took, fault
):
    await start_coordinator(**LONG_WINDOW)
    gateway = await open_gateway(window_s=1.5)
    bot = await start_bot(gateway, shard_ids=[0], shard_count=1)
    await gateway.until(lambda report: report.ready == 1)

    begun_ns = now_ns()
    gateway.set_gateway(fault)
    await gateway.drop(0)
    await bot.until_logged("asks for a new one", within_s=BACK_MAX_S)
    took(begun_ns, "the session was given up")
    gateway.set_gateway("open")
    report = await gateway.until(lambda report: report.ready == 2, within_s=BACK_MAX_S)
    took(begun_ns, "up with a new session")
    assert report.violations == 0
    await bot.until_logged("shard 0 is up again")


@pytest.mark.shared_code
@pytest.mark.parametrize("resume_host", [None, DoorState.REFUSES])
async def test_a_gateway_that_is_away_for_a_while_is_told_of_and_found_again(
    family, start_coordinator, open_gateway, start_bot, took, resume_host
):
    await start_coordinator(**ENDLESS_WINDOW)
    gateway = await open_gateway(resume_host=resume_host)
    bot = await start_bot(gateway, shard_ids=[0], shard_count=1)
    await gateway.until(lambda report: report.ready == 1)

    gateway.set_gateway("refuses")
    gateway.misbehave(*[ErrorResponse.server_error()] * 1000, lookup=True)  # nor is its address to be had
    await gateway.drop(0)
    await bot.until_logged("shard 0 cannot reach the gateway", within_s=BACK_MAX_S)
    begun_ns = now_ns()
    gateway.set_gateway("open")
    report = await gateway.until(lambda report: report.resumes == 1, within_s=BACK_MAX_S)
    took(begun_ns, "resumed")
    await bot.until_logged("shard 0 is up again")
    assert report.identifies == 1, "the session was kept, and no turn was taken"


@pytest.mark.shared_code
async def test_a_code_that_no_retry_mends_is_told_with_what_to_do(family, start_coordinator, open_gateway, start_bot):
    await start_coordinator(**ENDLESS_WINDOW)
    gateway = await open_gateway()
    bot = await start_bot(gateway, shard_ids=[0, 1], shard_count=2)
    await gateway.until(lambda report: report.ready == 1)
    await gateway.drop(order_of_shards(gateway)[0], code=CloseCode.DISALLOWED_INTENTS)
    await bot.until("failed")
    log = bot.log_file.read_text()
    assert "4014 (disallowed intents)" in log
    assert "developer portal" in log


@pytest.mark.shared_code
async def test_a_gateway_that_hangs_up_at_once_is_told_of_once(
    family, start_coordinator, open_gateway, start_bot, took
):
    await start_coordinator(**LONG_WINDOW)
    gateway = await open_gateway(window_s=1.5)
    gateway.set_gateway(DoorState.HANGS_UP)
    bot = await start_bot(gateway, shard_ids=[0], shard_count=1)

    async def has_tried_often() -> bool:
        return len(gateway.record.of(Connected)) >= 9

    await until(has_tried_often, "nine connections that Discord closed", BACK_MAX_S)
    lines = [line for line in bot.log_file.read_text().splitlines() if "before it was up" in line]
    print(f"\n{len(lines)} lines for {len(gateway.record.of(Connected))} connections: {lines[0]}")  # noqa: T201  # a measurement
    assert "Discord closed it with 4000 (unknown error)" in lines[0]
    assert len(lines) <= 2, "again after half a minute at the earliest"
    begun_ns = now_ns()
    gateway.set_gateway("open")
    await gateway.until(lambda report: report.ready == 1, within_s=BACK_MAX_S)
    took(begun_ns, "up")
    await bot.until_logged("shard 0 is up again")
