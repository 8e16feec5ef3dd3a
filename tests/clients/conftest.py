"""What the tests of the real libraries share: an environment, a gateway, and bots in processes of their own."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing import SimulatedGateway
from tests.clients.environments import FAMILY, Environment
from tests.processes import WITHIN_S, settle, until

TOKEN = "MTAw.simulated.token"  # noqa: S105  # opens nothing but the simulated gateway


class BotProcess:
    """One process of a bot.

    Attributes:
        told: what it said, in order.
    """

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self.log_file = log_file
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.told.append(json.loads(line))

    def says(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        """Return what it said of this kind."""
        wanted = {"event": event, **facts}.items()
        return [told for told in self.told if wanted <= told.items()]

    async def until(self, event: str, *, times: int = 1, within_s: float = WITHIN_S, **facts: Any) -> dict[str, Any]:
        """Wait until it has said this so many times."""

        async def heard() -> bool:
            assert self.process.returncode in {None, 0} or event == "failed", self.log_file.read_text()
            return len(self.says(event, **facts)) >= times

        await until(heard, f"{event} {facts} from the bot, which said {self.told}", within_s)
        return self.says(event, **facts)[-1]

    async def until_logged(self, text: str, *, within_s: float = WITHIN_S) -> None:
        """Wait until its log says this."""

        async def is_there() -> bool:
            return text in self.log_file.read_text()

        await until(is_there, f"{text!r} in the bot's log", within_s)

    async def obey(self, line: str) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def ended(self) -> int:
        """Wait for its end, and return the exit status."""
        return await asyncio.wait_for(self.process.wait(), WITHIN_S)

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@pytest.hookimpl(tryfirst=True)  # before those that are slow are taken out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where all that is tried is code that the libraries share, the first one tries it; `make clients` the others."""
    others = list(FAMILY)[1:]
    for item in items:
        callspec = getattr(item, "callspec", None)
        if item.get_closest_marker("shared_code") and callspec and callspec.params.get("family") in others:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=list(FAMILY))
def family(request: pytest.FixtureRequest) -> Environment:
    """One of the libraries; its environment is made, which takes a while the first time."""
    environment = FAMILY[request.param]
    environment.python()
    return environment


@pytest.fixture
async def open_gateway():
    """Open a simulated gateway: `await open_gateway(max_concurrency=1, window_s=1)`, in a real network's weather."""
    weather = {"connect_delay_s": (0, 0.15), "hello_delay_s": (0, 0.15), "frame_latency_s": (0.02, 0.06)}
    async with AsyncExitStack() as stack:

        async def open_it(**options: Any) -> SimulatedGateway:
            gateway = SimulatedGateway(**{**weather, "token": TOKEN, **options})
            return await stack.enter_async_context(gateway)

        yield open_it


async def launch(environment: Environment, order: dict[str, Any], log_file: Path) -> BotProcess:
    """Start one process of a bot in its library's environment."""
    program = str(Path(__file__).with_name("bot.py"))
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(str(environment.python()), program, json.dumps(order)),
            env={"DISCORD_TOKEN": TOKEN},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    return BotProcess(process, log_file)


def order_for(
    environment: Environment,
    gateway: SimulatedGateway,
    kind: str | None = None,
    *,
    queue_object: bool = False,
    hide_zstd: bool = False,
    hurried: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """What `bot.py` is to run; ``options`` are the bot's."""
    return {
        "front": environment.front,
        "package": environment.package,
        "kind": kind or environment.many,
        "rest_url": gateway.rest_url,
        "gateway_url": gateway.ws_url,
        "queue_object": queue_object,
        "hide_zstd": hide_zstd,
        "hurried": hurried,
        "options": options,
    }


@pytest.fixture
async def start_bot(family: Environment, nats_server: EmbeddedNats, tmp_path: Path):
    """Start a bot in a process of its own: `await start_bot(gateway, shard_ids=[0, 2], shard_count=4)`."""
    started: list[BotProcess] = []

    async def start(gateway: SimulatedGateway, kind: str | None = None, **options: Any) -> BotProcess:
        order = order_for(family, gateway, kind, **{"queue": nats_server.url, **options})
        started.append(await launch(family, order, tmp_path / f"bot-{len(started)}.log"))
        return started[-1]

    yield start
    for bot in started:
        await bot.kill()


@pytest.fixture
def waiting(client: Client) -> Callable[[], Awaitable[list[int]]]:
    """Return the shards that wait, as the coordinator tells them."""

    async def look() -> list[int]:
        status = json.loads((await client.request("identify.status", b"", timeout=WITHIN_S)).data)
        return sorted(first["shard_id"] for bucket in status["buckets"] for first in bucket["first"])

    return look


@pytest.fixture
async def happened(client: Client) -> Counter[str]:
    """Count the queue's events, by name."""
    events: Counter[str] = Counter()

    async def count(message: Msg) -> None:
        events[message.subject.rpartition(".")[2]] += 1

    await client.subscribe("identify.event.*", cb=count)
    await settle(client)
    return events
