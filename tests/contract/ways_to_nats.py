"""Two NATSs: the simulation's traffic in calm weather, and a real nats-server with nats-py. They judge nothing."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import nats
from nats.aio.client import Client

from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.schedule.model import SECOND
from tests.processes import WITHIN_S, settle
from tests.simulation.broker import Delivery
from tests.simulation.engine import Engine
from tests.simulation.process import Process
from tests.simulation.traffic import CALM, Line, Traffic


class Heard(NamedTuple):
    """One message as a client hears it; ``nobody``: NATS says that nobody listens."""

    subject: str
    payload: str
    reply_to: str = ""
    nobody: bool = False


class Party(Protocol):
    """One connection, and what it has heard."""

    heard: list[Heard]

    async def subscribe(self, pattern: str) -> None: ...
    async def unsubscribe(self, pattern: str) -> None: ...
    async def publish(self, subject: str, payload: str, reply_to: str = "") -> None: ...
    async def close(self) -> None: ...


class Net(Protocol):
    """One NATS."""

    async def join(self) -> Party: ...

    async def settle(self) -> None:
        """Wait until all that was sent has arrived, or never will."""


class ModelParty:
    """A `Line` of a process in virtual time."""

    def __init__(self, traffic: Traffic, engine: Engine, name: str) -> None:
        self.heard: list[Heard] = []
        self._engine = engine
        self._process = Process(engine, name)
        self._line = Line(traffic, self._process, self._hear)
        self._line.connect()

    def _hear(self, delivery: Delivery) -> None:
        self.heard.append(Heard(delivery.subject, delivery.payload or "", delivery.reply_to, delivery.nobody))

    async def subscribe(self, pattern: str) -> None:
        self._line.subscribe(pattern)

    async def unsubscribe(self, pattern: str) -> None:
        self._line.unsubscribe(pattern)

    async def publish(self, subject: str, payload: str, reply_to: str = "") -> None:
        self._line.publish(subject, payload, reply_to)

    async def close(self) -> None:
        self._process.kill()
        self._line.abandon(noticed_after_ns=0)
        self._engine.run(self._engine.now_ns + SECOND)


class ModelNet:
    """The simulation's traffic."""

    def __init__(self) -> None:
        self._engine = Engine(0)
        self._traffic = Traffic(self._engine, CALM)
        self._joined = 0

    async def join(self) -> Party:
        self._joined += 1
        return ModelParty(self._traffic, self._engine, f"p{self._joined}")

    async def settle(self) -> None:
        self._engine.run(self._engine.now_ns + SECOND)


@asynccontextmanager
async def model_net(_folder: Path):
    yield ModelNet()


class RealParty:
    """A nats-py client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[Heard] = []
        self.marks: set[str] = set()
        self._subscriptions: dict[str, Any] = {}

    async def subscribe(self, pattern: str) -> None:
        self._subscriptions[pattern] = await self.client.subscribe(pattern, cb=self._hear)
        await settle(self.client)

    async def unsubscribe(self, pattern: str) -> None:
        await self._subscriptions.pop(pattern).unsubscribe()
        await settle(self.client)

    async def publish(self, subject: str, payload: str, reply_to: str = "") -> None:
        await self.client.publish(subject, payload.encode(), reply=reply_to)

    async def close(self) -> None:
        await self.client.close()

    async def _hear(self, message) -> None:
        nobody = (message.headers or {}).get("Status") == "503"
        self.heard.append(Heard(message.subject, message.data.decode(), message.reply, nobody))

    async def _mark(self, message) -> None:
        self.marks.add(message.data.decode())

    async def listen_for_marks(self) -> None:
        await self.client.subscribe("mark", cb=self._mark)
        await settle(self.client)


class RealNet:
    """A nats-server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._parties: list[RealParty] = []
        self._marks = 0

    async def join(self) -> Party:
        party = RealParty(await nats.connect(self._url))
        await party.listen_for_marks()
        self._parties.append(party)
        return party

    async def settle(self) -> None:
        """A mark from everybody to everybody: what was sent before it is there before it."""
        there = [party for party in self._parties if not party.client.is_closed]
        marks = set()
        for party in there:
            self._marks += 1
            marks.add(str(self._marks))
            await party.client.publish("mark", str(self._marks).encode())
        async with asyncio.timeout(WITHIN_S):
            while not all(marks <= party.marks for party in there):  # noqa: ASYNC110  # another process carries them
                await asyncio.sleep(0.001)  # between two looks

    async def close(self) -> None:
        for party in self._parties:
            await party.client.close()


@asynccontextmanager
async def real_net(folder: Path):
    async with EmbeddedNats(folder / "nats") as server:
        net = RealNet(server.url)
        yield net
        await net.close()
