"""Two ways to a ledger: the simulation's, and the product's own store on a real nats-server. They judge nothing."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from nats import errors
from nats.js.errors import NotFoundError

from coordinator.core.ledger import Ledger, LedgerRead, LedgerSeen, LedgerUnreadable, Write, WriteUnsettled, Written
from coordinator.edge.bucket import KvBucket
from coordinator.edge.connections import connect
from coordinator.edge.ledger_json import LedgerWriter
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from coordinator.edge.store import LedgerStore
from coordinator.edge.watch import LedgerWatch
from coordinator.settings import Settings
from nats_identify.clock import now_ns
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.schedule.model import SECOND
from tests.processes import until
from tests.simulation.engine import Engine
from tests.simulation.key import Copy
from tests.simulation.store import FAIR, StoreLine, Stream

ENTRY_BYTES = 500
"""An entry of one short grant is larger, with its headers; one of none is smaller."""

Outcome = LedgerRead | LedgerUnreadable | Written | WriteUnsettled


class Way(Protocol):
    """What one coordinator can do, and what it is shown."""

    async def read(self) -> LedgerRead | LedgerUnreadable: ...
    async def write(self, write: Write) -> Written | WriteUnsettled: ...
    async def is_shown(self, revision: int) -> LedgerSeen: ...


class Bucket(Protocol):
    """The KV bucket, and what an operator or a power cut may do to it."""

    def way(self, instance: str) -> Way: ...
    async def delete_key(self) -> None: ...
    async def delete_bucket(self) -> None: ...
    async def put_back(self, ledger: Ledger) -> None: ...
    async def refuse_grants(self, *, is_refused: bool) -> None: ...
    async def go_away(self) -> None: ...
    async def come_back(self) -> None: ...


# --- the model


class ModelWay:
    """A `StoreLine`, in virtual time."""

    def __init__(self, engine: Engine, stream: Stream, instance: str) -> None:
        self._engine = engine
        self._instance = instance
        self._told: deque[Outcome] = deque()
        self._shown: deque[LedgerSeen] = deque()
        self._line = StoreLine(stream, self._tell)
        stream.watch(self._line)

    def _tell(self, event: Outcome | LedgerSeen) -> None:
        if isinstance(event, LedgerSeen):
            if event.ledger.instance != self._instance:  # the core does not listen to its own
                self._shown.append(event)
        else:
            self._told.append(event)

    async def read(self) -> LedgerRead | LedgerUnreadable:
        self._line.read()
        read: LedgerRead | LedgerUnreadable = self._outcome()
        return read

    async def write(self, write: Write) -> Written | WriteUnsettled:
        self._line.write(write)
        written: Written | WriteUnsettled = self._outcome()
        return written

    async def is_shown(self, revision: int) -> LedgerSeen:
        self._engine.run(self._engine.now_ns + 30 * SECOND)
        return next(seen for seen in self._shown if seen.revision == revision)

    def _outcome(self) -> Any:
        self._engine.run(self._engine.now_ns + 2 * SECOND)
        (outcome,) = self._told  # one, and one alone
        self._told.clear()
        return outcome


class ModelBucket:
    """The simulation's stream, in fair weather."""

    def __init__(self) -> None:
        self.engine = Engine(0)
        self.stream = Stream(self.engine, FAIR)

    def way(self, instance: str) -> Way:
        return ModelWay(self.engine, self.stream, instance)

    async def delete_key(self) -> None:
        self.stream.key.delete(self.engine.now_ns)

    async def delete_bucket(self) -> None:
        self.stream.key.recreate(self.engine.now_ns)

    async def put_back(self, ledger: Ledger) -> None:
        copy = Copy(ledger, 1, 0, 0, 0)
        self.stream.key.restore(copy, self.stream.key.revision + 1, self.engine.now_ns)
        self.stream.show()

    async def refuse_grants(self, *, is_refused: bool) -> None:
        self.stream.grants_most, until_ns = 0, self.engine.now_ns + 3600 * SECOND
        self.stream.refuses_until_ns = until_ns if is_refused else 0

    async def go_away(self) -> None:
        self.stream.away_until_ns = self.engine.now_ns + 3600 * SECOND

    async def come_back(self) -> None:
        self.stream.away_until_ns = 0


@asynccontextmanager
async def model_bucket(_folder: Path):
    yield ModelBucket()


# --- the real one


class RealWay:
    """The product's `LedgerStore` and `LedgerWatch`."""

    def __init__(self, store: LedgerStore, instance: str) -> None:
        self._store = store
        self._shown: list[LedgerSeen] = []
        self.watch = LedgerWatch(store, instance, self._shown.append)
        self.watching = asyncio.create_task(self.watch.run())

    async def read(self) -> LedgerRead | LedgerUnreadable:
        return await self._store.read()

    async def write(self, write: Write) -> Written | WriteUnsettled:
        return await self._store.write(write)

    async def is_shown(self, revision: int) -> LedgerSeen:
        async def seen() -> list[LedgerSeen]:
            return [seen for seen in self._shown if seen.revision == revision]

        return (await until(seen, f"revision {revision} is shown"))[0]


class RealBucket:
    """A nats-server of its own."""

    def __init__(self, server: EmbeddedNats, make_store: Callable[[], LedgerStore], jetstream) -> None:
        self._server = server
        self._make_store = make_store
        self._jetstream = jetstream
        self.ways: list[RealWay] = []

    def way(self, instance: str) -> Way:
        self.ways.append(RealWay(self._make_store(), instance))
        return self.ways[-1]

    async def watchers(self) -> int:
        """How many watch the ledger."""
        try:
            consumers = await self._jetstream.consumers_info("KV_identify")
        except NotFoundError:
            return 0
        return sum(bool(consumer.push_bound) for consumer in consumers)

    async def delete_key(self) -> None:
        await (await self._jetstream.key_value("identify")).delete("ledger")

    async def delete_bucket(self) -> None:
        await self._jetstream.delete_key_value("identify")

    async def put_back(self, ledger: Ledger) -> None:
        await (await self._jetstream.key_value("identify")).put("ledger", LedgerWriter().write(ledger))

    async def refuse_grants(self, *, is_refused: bool) -> None:
        config = (await self._jetstream.stream_info("KV_identify")).config
        size = ENTRY_BYTES if is_refused else -1
        await self._jetstream.update_stream(config.evolve(max_msg_size=size))

    async def go_away(self) -> None:
        await self._server.kill()

    async def come_back(self) -> None:
        await self._server.start()

        async def answers():
            try:
                return await self._jetstream.stream_info("KV_identify")
            except (errors.Error, OSError):
                return None

        await until(answers, "the stream is back")


@asynccontextmanager
async def real_bucket(folder: Path):
    async with EmbeddedNats(folder / "nats") as server:
        settings, log, metrics = Settings(nats_url=server.url), make_log("error", "text"), Metrics()
        lost = asyncio.get_running_loop().create_future()
        connection = await connect(settings, "store", log=log, metrics=metrics, lost=lost)

        def make_store() -> LedgerStore:
            bucket = KvBucket(connection, "identify", settings, log)
            return LedgerStore(
                connection,
                bucket=bucket,
                prefix="identify",
                fresh_start=True,
                clock=now_ns,
                metrics=metrics,
                log=log,
            )

        bucket = RealBucket(server, make_store, connection.jetstream())
        try:
            yield bucket
        finally:
            for way in bucket.ways:
                way.watching.cancel()
            await asyncio.gather(*(way.watching for way in bucket.ways), return_exceptions=True)
            await connection.close()
            await asyncio.gather(lost, return_exceptions=True)  # a connection that is closed says so
