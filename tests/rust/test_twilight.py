"""The crate for twilight: it keeps every rule of the kit, and its shards stand in one queue with shards in Python."""

import shlex
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from nats_identify import NatsQueue
from nats_identify.clock import NS_PER_MS, now_ns
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing import BareShard, SimulatedGateway
from nats_identify.testing.client_kit.client import ClientProcess
from nats_identify.testing.client_kit.managed_rules import MANAGED_RULES
from nats_identify.testing.client_kit.runner import Runner, nats_for_kit
from nats_identify.testing.events import Identified
from nats_identify.wire import Answered, Request
from tests.processes import settle, until

pytestmark = pytest.mark.slow  # the first build takes minutes: make rust

TWILIGHT = [0, 2, 4, 6]
PYTHON = [1, 3, 5, 7]
COUNT = 8
TOKEN = "MTAw.simulated.token"  # noqa: S105  # opens nothing but the simulated gateway
WINDOW_S = 1.0
REAL_WINDOW = {"IDENTIFY_WINDOW": str(WINDOW_S), "IDENTIFY_MARGIN": "0.2"}
WEATHER: dict[str, Any] = {"connect_delay_s": (0, 0.15), "hello_delay_s": (0, 0.15), "frame_latency_s": (0.02, 0.06)}

Confirms = dict[tuple[str, str], int]
"""A grant and an outcome, and when that came first: a grant whose confirm may be lost is confirmed again."""


@pytest.fixture
async def confirms(client: Client):
    """Each confirm on the wire."""
    seen: Confirms = {}

    async def on_confirm(message: Msg) -> None:
        outcome = Answered.model_validate_json(message.data or b"{}").outcome
        seen.setdefault((message.subject, str(outcome)), now_ns())

    await client.subscribe("identify.confirm.>", cb=on_confirm)
    await settle(client)
    return seen


async def test_the_crate_keeps_every_rule_of_a_managed_client(examples: Path):
    command = shlex.quote(str(examples / "kit_client"))
    async with nats_for_kit(None) as options:
        results = await Runner(options, lambda record: ClientProcess(command, record)).run(MANAGED_RULES, jobs=4)
    assert {one.rule.name: one.finding.seen for one in results if one.finding is not None} == {}
    assert len(results) == len(MANAGED_RULES)


async def test_twilight_and_python_shards_stand_in_one_queue(
    start_coordinator, start_fleet, nats_server: EmbeddedNats, confirms: Confirms
):
    await start_coordinator(**REAL_WINDOW)
    async with (
        SimulatedGateway(window_s=WINDOW_S, **WEATHER) as gateway,
        NatsQueue.connect(nats_server.url) as queue,
        AsyncExitStack() as shards,
    ):
        fleet = await start_fleet(gateway.ws_url, TWILIGHT, COUNT)
        for shard_id in PYTHON:
            await shards.enter_async_context(BareShard(queue, shard_id, COUNT, gateway.ws_url, TOKEN))
        report = await gateway.until(lambda report: report.ready == COUNT)
        assert (report.identifies, report.violations) == (COUNT, 0)
        assert dict(report.ready_by_shard) == dict.fromkeys(range(COUNT), 1)
        assert report.smallest_gap_s[0] >= WINDOW_S

        async def all_reported() -> bool:
            return Counter(outcome for _, outcome in confirms) == {"identified": COUNT, "ready": COUNT}

        await until(all_reported, "each turn is confirmed and READY reported")
        print(f"\n{report}")  # noqa: T201  # shown by make rust

        for shard_id in (*TWILIGHT[:2], *PYTHON[:2]):
            await gateway.invalidate(shard_id)  # four sessions are lost at once
        report = await gateway.until(lambda report: report.ready == COUNT + 4)
        assert (report.identifies, report.violations) == (COUNT + 4, 0)
        assert dict(report.ready_by_shard) == dict.fromkeys(range(COUNT), 1) | dict.fromkeys((0, 2, 1, 3), 2)
        await gateway.reconnect(TWILIGHT[3])
        await gateway.until(lambda report: report.resumes == 1)  # it needs no turn
        assert gateway.record.report().identifies == COUNT + 4
        assert await fleet.end() == 0, fleet.log


async def test_a_session_that_was_lost_goes_first(start_coordinator, start_fleet, client: Client, confirms: Confirms):
    await start_coordinator(IDENTIFY_WINDOW="0.6")
    priorities = list[int]()

    async def on_request(message: Msg) -> None:
        priorities.append(Request.model_validate_json(message.data).priority)

    await client.subscribe("identify.request.>", cb=on_request)
    await settle(client)
    async with SimulatedGateway(window_s=0.6) as gateway:
        await start_fleet(gateway.ws_url, [0], 1)
        await gateway.until(lambda report: report.ready == 1)

        async def is_reported() -> bool:
            return "ready" in {outcome for _, outcome in confirms}

        await until(is_reported, "READY is reported")
        await gateway.invalidate(0)
        await gateway.until(lambda report: report.ready == 2)
        assert (priorities[0], priorities[-1]) == (0, 1)


async def requests_and_cancels(client: Client) -> tuple[set[str], list[str]]:
    """The ids of all requests from here on, and what was cancelled."""
    ids, cancels = set[str](), list[str]()

    async def on_request(message: Msg) -> None:
        ids.add(str(Request.model_validate_json(message.data).request_id))

    async def on_cancel(message: Msg) -> None:
        cancels.append(message.data.decode())

    await client.subscribe("identify.request.>", cb=on_request)
    await client.subscribe("identify.cancel.>", cb=on_cancel)
    await settle(client)
    return ids, cancels


async def test_a_connection_that_is_lost_in_the_wait_keeps_the_place(start_coordinator, start_fleet, client: Client):
    """The first shard takes the turn. The second waits, loses its connection, and goes on with the same request."""
    await start_coordinator(IDENTIFY_WINDOW="4", IDENTIFY_USE_WITHIN="2")
    ids, cancels = await requests_and_cancels(client)
    async with SimulatedGateway(window_s=4) as gateway:
        await start_fleet(gateway.ws_url, [0, 1], 2)

        async def one_waits() -> bool:
            return bool(gateway.record.report().ready == 1 and len(ids) == 2)

        await until(one_waits, "one shard is up, and one waits")
        await gateway.drop(None)  # the one that waits has no session
        report = await gateway.until(lambda report: report.ready == 2)
        await settle(client)
        assert (report.identifies, report.violations) == (2, 0)
        assert dict(report.ready_by_shard) == {0: 1, 1: 1}
        assert (len(ids), cancels) == (2, [])


async def test_a_turn_that_comes_while_the_shard_is_busy_is_not_used_late(
    start_coordinator, start_fleet, confirms: Confirms
):
    """twilight sends IDENTIFY when it is polled next; what was granted too long before that is declined."""
    await start_coordinator(IDENTIFY_USE_WITHIN="1")
    async with SimulatedGateway(window_s=0.4) as gateway:
        fleet = await start_fleet(gateway.ws_url, TWILIGHT, COUNT, busy_ms=2500)
        report = await gateway.until(lambda report: report.ready == len(TWILIGHT))
        assert (report.identifies, report.violations) == (len(TWILIGHT), 0)
        assert "declined" in {outcome for _, outcome in confirms}
        assert await fleet.end() == 0, fleet.log
        print(f"\n{report}")  # noqa: T201  # shown by make rust


async def test_a_shard_that_is_busy_for_longer_than_a_place_is_kept_goes_on_at_its_place(
    start_coordinator, start_fleet, client: Client, confirms: Confirms
):
    """Its task is busy for 17 s. It holds the bucket once, and not again before it asks."""
    await start_coordinator(IDENTIFY_USE_WITHIN="1")
    ids, cancels = await requests_and_cancels(client)
    async with SimulatedGateway(window_s=0.4) as gateway:
        await start_fleet(gateway.ws_url, [0, 1], 2, busy_ms=17_000)
        report = await gateway.until(lambda report: report.ready == 2)
        await settle(client)
        assert (report.identifies, report.violations) == (2, 0)
        assert (len(ids), cancels) == (2, [])
        print(f"\n{Counter(outcome for _, outcome in confirms)}")  # noqa: T201  # shown by make rust


async def test_identified_is_confirmed_right_when_identify_is_sent(start_coordinator, start_fleet, confirms: Confirms):
    """Both are received by this process; what lies between them is shown, not judged: a busy machine delays either."""
    await start_coordinator()
    async with SimulatedGateway(window_s=0.4) as gateway:
        await start_fleet(gateway.ws_url, TWILIGHT, COUNT)
        await gateway.until(lambda report: report.ready == len(TWILIGHT))

        async def all_confirmed() -> bool:
            return sum(outcome == "identified" for _, outcome in confirms) == len(TWILIGHT)

        await until(all_confirmed, "each turn is confirmed")
        sent = [event.at_ns for event in gateway.record.of(Identified)]
        confirmed = [at_ns for (_, outcome), at_ns in confirms.items() if outcome == "identified"]
        apart_ms = [(one - other) / NS_PER_MS for one, other in zip(confirmed, sent, strict=True)]
        print("\nidentified came after IDENTIFY, in ms:", ", ".join(f"{ms:+.2f}" for ms in apart_ms))  # noqa: T201
        assert gateway.record.report().violations == 0
