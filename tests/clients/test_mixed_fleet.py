"""Every client of the project in one bucket of one queue, two shards each, before one simulated Discord.

`make clients` runs it. Clients of other languages take part where they have been built (`make node`, `make rust`).
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any, Final

import nats
import pytest

from nats_identify.clock import NS_PER_S
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.queue import Queue
from nats_identify.testing import BareShard, SimulatedGateway
from nats_identify.testing.events import Identified
from tests.chaos.nats_cluster import free_ports
from tests.clients.conftest import TOKEN, BotProcess, launch, order_for
from tests.clients.environments import FAMILY
from tests.clients.other_queues import HttpQueue, PlainQueue
from tests.http_clients import address_of
from tests.processes import ROOT, CoordinatorProcess, until

pytestmark = pytest.mark.slow

AS_SHIPPED: Final = {
    "IDENTIFY_WINDOW": "5",
    "IDENTIFY_MARGIN": "0.2",
    "IDENTIFY_USE_WITHIN": "5",
    "IDENTIFY_LEASE": "3",
    "IDENTIFY_GRACE": "1",
}
EACH: Final = 2
NODE: Final = ROOT / "clients/node/dist/test/bots/ws_bot.js"
RUST: Final = ROOT / "clients/rust/target/debug/examples/fleet"
LANGUAGES: Final = {"discord.js": ("node", str(NODE)), "twilight": (str(RUST),)}
READY_WITHIN_S: Final = 240


class Fleet:
    """Two shards of each client.

    Attributes:
        clients: their names; the shards of the first are 0 and 1, of the second 2 and 3, and so on.
        plain: the queue of the plain client. ``http``: that of the HTTP client.
    """

    def __init__(self, folder: Path, server: EmbeddedNats, coordinators: list[CoordinatorProcess]) -> None:
        built = [name for name, command in LANGUAGES.items() if Path(command[-1]).exists()]
        self.clients = [*FAMILY, *built, "HTTP", "plain"]
        self.plain: PlainQueue | None = None
        self.http: HttpQueue | None = None
        self._folder, self._server, self._coordinators = folder, server, coordinators
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Fleet":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def count(self) -> int:
        """How many shards there are."""
        return EACH * len(self.clients)

    async def start(self, gateway: SimulatedGateway) -> None:
        """Start all of them; each process asks when it is up."""
        for number, name in enumerate(self.clients):
            shard_ids = list(range(EACH * number, EACH * (number + 1)))
            if name in FAMILY:
                order = order_for(
                    *(FAMILY[name], gateway),
                    hurried=False,
                    queue=self._server.url,
                    shard_ids=shard_ids,
                    shard_count=self.count,
                )
                await self._keep(launch(FAMILY[name], order, self._folder / f"{name}.log"))
            elif name in LANGUAGES:
                await self._run(name, gateway, shard_ids)
        self.plain = PlainQueue(await self._connect(), 1)
        self.http = HttpQueue(
            [await address_of(one) for one in self._coordinators], float(AS_SHIPPED["IDENTIFY_GRACE"])
        )
        for name, queue in (("HTTP", self.http), ("plain", self.plain)):
            await self._bare(gateway, queue, EACH * self.clients.index(name))

    async def _bare(self, gateway: SimulatedGateway, queue: Queue, first: int) -> None:
        for shard_id in range(first, first + EACH):
            shard = BareShard(queue, shard_id, self.count, gateway.ws_url, TOKEN)
            await self._stack.enter_async_context(shard)

    async def _connect(self) -> Any:
        client = await nats.connect(self._server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        self._stack.push_async_callback(client.close)
        return client

    async def _run(self, name: str, gateway: SimulatedGateway, shard_ids: list[int]) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "NATS_URL": self._server.url,
            "DISCORD_TOKEN": TOKEN,
            "DISCORD_API": gateway.rest_url.removesuffix("/v10"),
            "GATEWAY_URL": gateway.ws_url,
            "SHARD_IDS": ",".join(map(str, shard_ids)),
            "SHARD_COUNT": str(self.count),
        }
        with (self._folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*LANGUAGES[name], env=environment, stdout=log, stderr=log)

        async def kill() -> None:
            if process.returncode is None:
                process.kill()
            await process.wait()

        self._stack.push_async_callback(kill)

    async def _keep(self, starting: Awaitable[BotProcess]) -> None:
        bot = await starting
        self._stack.push_async_callback(bot.kill)

    def figures(self, gateway: SimulatedGateway) -> str:
        """The mean gap after an IDENTIFY of each client, in seconds."""
        events = gateway.record.of(Identified)
        gaps: dict[str, list[float]] = {name: [] for name in self.clients}
        for before, after in pairwise(events):
            gaps[self.clients[before.shard_id // EACH]].append((after.at_ns - before.at_ns) / NS_PER_S)
        return ", ".join(f"{name} {mean(of):.2f}" for name, of in gaps.items() if of)


@pytest.fixture
async def two_replicas(start_coordinator: Callable[..., Awaitable[CoordinatorProcess]]):
    """Two coordinators that serve the queue over HTTP as well; the first leads."""
    ports = free_ports(2)
    first = await start_coordinator(**AS_SHIPPED, IDENTIFY_QUEUE_HTTP_PORT=str(ports[0]))
    second = await start_coordinator(**AS_SHIPPED, IDENTIFY_QUEUE_HTTP_PORT=str(ports[1]), until_leader=False)
    await until(second.is_ready, "both are ready")
    return [first, second]


async def test_a_mixed_fleet_in_one_bucket(two_replicas, open_gateway, nats_server: EmbeddedNats, tmp_path: Path):
    async with Fleet(tmp_path, nats_server, two_replicas) as fleet:
        gateway = await open_gateway(shards=fleet.count)
        await fleet.start(gateway)
        report = await gateway.until(lambda report: report.ready == fleet.count, within_s=READY_WITHIN_S)
        print(f"\n{', '.join(fleet.clients)}: {report}; mean gap after each: {fleet.figures(gateway)}")  # noqa: T201  # a measurement
    assert report.violations == 0
    assert report.identifies == fleet.count
    assert report.ready_by_shard == dict.fromkeys(range(fleet.count), 1)


async def test_a_mixed_fleet_while_the_leader_is_killed_and_nats_restarted(
    two_replicas, open_gateway, nats_server: EmbeddedNats, tmp_path: Path
):
    async with Fleet(tmp_path, nats_server, two_replicas) as fleet:
        gateway = await open_gateway(shards=fleet.count)
        await fleet.start(gateway)
        await gateway.until(lambda report: report.ready >= 3, within_s=READY_WITHIN_S)
        await two_replicas[0].end(signal.SIGKILL)
        await two_replicas[0].start()
        await gateway.until(lambda report: report.ready >= 6, within_s=READY_WITHIN_S)
        await nats_server.restart()
        report = await gateway.until(lambda report: report.ready == fleet.count, within_s=READY_WITHIN_S)
        asked, broken = fleet.plain and fleet.plain.asked, fleet.http and fleet.http.broken
        print(f"\n{report}; the plain client asked {asked} times, HTTP connections broke {broken} times")  # noqa: T201  # a measurement
    assert report.violations == 0
    assert report.ready_by_shard == dict.fromkeys(range(fleet.count), 1)
