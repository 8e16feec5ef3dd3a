"""One coordinator process: wired here, once, from its settings to its end. It makes no decision."""

import asyncio
import gc
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, TypeVar

from coordinator.core import replica
from coordinator.core.ledger import Stop, TrafficReturned
from coordinator.core.replica import Replica
from coordinator.edge import page, status, tracing
from coordinator.edge.bucket import KvBucket
from coordinator.edge.busiest import Busiest
from coordinator.edge.connections import CannotServeError, Connection, connect
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.event_stream import EventStream
from coordinator.edge.health import Health
from coordinator.edge.http_queue import HttpQueue, queue_of
from coordinator.edge.http_server import HttpServer
from coordinator.edge.intake import Intake
from coordinator.edge.limits import RESERVE_IS_ALL, DiscordLimits, StaticLimits
from coordinator.edge.log import Log, make_log
from coordinator.edge.metrics import Metrics
from coordinator.edge.operator import OperatorCommands
from coordinator.edge.overload import OverloadLog
from coordinator.edge.page_server import PageServer, View
from coordinator.edge.probe import Probe
from coordinator.edge.publisher import Publisher
from coordinator.edge.queue_transfer import QueueTransfer
from coordinator.edge.recent import Recent
from coordinator.edge.refusals import Refusals
from coordinator.edge.service import VERSION, Service
from coordinator.edge.store import LedgerStore
from coordinator.edge.watch import LedgerWatch
from coordinator.runtime import Runtime
from coordinator.settings import Settings, SettingsError, load, unknown_variables
from nats_identify.clock import now_ns
from nats_identify.printable import printable
from nats_identify.schedule.model import MS, SECOND
from nats_identify.wire import Subjects

if TYPE_CHECKING:
    from coordinator.edge.otel import Tracing

RELEASE_WITHIN_S: Final = 4.0
"""Time to release the ledger at shutdown; else the lease runs out, and then a standby takes over."""

PROBES_PER_LEASE: Final = 3

LEADER_SEEN_EVERY_S: Final = 1.0
"""How often the page's list of leaders is brought up to date: a comparison of two names."""

DISCORD_WINDOW_NS: Final = 5 * SECOND

IS_COMPILED: Final = not str(replica.__file__).endswith(".py")
"""Whether this program is the compiled one (`python -m compiled`), as in an image: the same, and faster."""

_Result = TypeVar("_Result")


def run() -> int:
    """Run a coordinator until a signal stops it; return the exit status."""
    status = 0
    try:
        settings = load()
        log = make_log(settings.identify_log_level, settings.identify_log_format)
        _collect_seldom()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(Process(settings, log).run())
    except* SettingsError as wrong:
        status = 2
        _say(wrong)
    except* CannotServeError as trouble:
        status = 1
        _say(trouble)
    return status


def _collect_seldom() -> None:
    """Let the garbage collector look less often.

    A commit of a thousand grants makes thousands of objects, but no reference cycles. With Python's defaults the
    collector would search each commit for cycles and find none. From time to time it would also search all waiting
    requests: with 200,000 of them that stops the process for 0.1 s.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class Process:
    """All parts of one process.

    Args:
        settings: from the environment.
        log: of the process.

    Raises:
        SettingsError: the token cannot be read.
    """

    def __init__(self, settings: Settings, log: Log) -> None:
        token = settings.token()
        self._settings = settings
        self._log = log
        self._instance = secrets.token_hex(6)
        self._subjects = Subjects(settings.identify_prefix)
        self._metrics = Metrics(settings.identify_prefix, VERSION)
        self._recent = Recent()
        self._aliases = page.Aliases(secrets.token_bytes(16))
        self._event_queue = EventQueue()
        self._busiest = Busiest(now_ns())
        core = settings.core(self._instance, grant_key=secrets.token_bytes(32), has_token=token is not None)
        self._replica = Replica(core)
        self._limits = self._make_limits(token)
        self._health = Health(settings.lease_ns, now_ns, lambda: self._limits.refusal)

    def _make_limits(self, token: str | None) -> DiscordLimits | StaticLimits:
        if token is None:
            return StaticLimits()
        return DiscordLimits(
            self._settings, token, self._event_queue, is_leading=self._is_leading, metrics=self._metrics, log=self._log
        )

    async def run(self) -> None:
        """Serve until a signal, then release the lock.

        Raises:
            ExceptionGroup: of a `SettingsError` or a `CannotServeError`: this process cannot go on.
        """
        self._say_what_is_unusual()
        stop, lost = asyncio.Event(), asyncio.get_running_loop().create_future()
        self._listen_for_signals(stop)
        page_server = self._make_page_server()
        http_server = HttpServer(self._health, self._is_leading, self._metrics, self._read_gauges, page_server)
        host, port = self._settings.identify_http_host, self._settings.identify_http_port
        async with http_server.serve(host, port, self._log), self._http_queue(stop), _meanwhile(_raise_from(lost)):
            connections = await _unless(stop, self._connect(lost))
            if connections is not None:
                await self._serve(*connections, stop)
        self._log.info("stopped")

    def _http_queue(self, stop: asyncio.Event) -> AbstractAsyncContextManager[None]:
        settings = self._settings
        if settings.identify_queue_http_port is None:
            return nullcontext()
        return HttpQueue(settings, queue_of(settings), metrics=self._metrics, log=self._log).serve(stop)

    async def _connect(self, lost: "asyncio.Future[None]") -> tuple[Connection, Connection]:
        reach = partial(connect, self._settings, log=self._log, metrics=self._metrics, lost=lost)
        private = ("$", f"{self._subjects.prefix}.")
        returned = partial(self._event_queue.put, TrafficReturned())
        return await asyncio.gather(reach("store"), reach("traffic", private=private, returned=returned))

    async def _serve(self, store_connection: Connection, traffic: Connection, stop: asyncio.Event) -> None:
        settings, subjects, metrics, log = self._settings, self._subjects, self._metrics, self._log
        events = self._event_queue
        bucket = KvBucket(store_connection, subjects.kv_bucket, settings, log)
        store = LedgerStore(
            store_connection,
            bucket=bucket,
            prefix=subjects.prefix,
            fresh_start=settings.identify_fresh_start,
            clock=now_ns,
            metrics=metrics,
            log=log,
        )
        publisher = Publisher(traffic, subjects, events, metrics=metrics, recent=self._recent, log=log, clock=now_ns)
        refusals = Refusals(publisher, metrics)
        spans = self._start_tracing()
        intake = self._make_intake(traffic, refusals, None if spans is None else spans.arrived)
        service = self._make_service(traffic, publisher)
        watch = LedgerWatch(store, self._instance, events.try_put)
        probe = Probe(traffic, events, settings.identify_lease / PROBES_PER_LEASE, now_ns)
        transfer = QueueTransfer(
            traffic,
            subjects,
            self._instance,
            state=self._replica.schedule.state,
            event_queue=events,
            clock=now_ns,
            log=log,
        )
        runtime = self._make_runtime(store, publisher, watch, spans)
        for part in (publisher, intake, service):
            await part.open()
        commands = OperatorCommands(subjects, events, publisher=publisher, is_leading=self._is_leading)
        await commands.open(service)
        self._health.attach(runtime, store, probe, (store_connection, traffic))
        log.info("serving", prefix=subjects.prefix, instance=self._instance, compiled=IS_COMPILED)
        jobs = (
            watch.run(),
            refusals.run(),
            OverloadLog(metrics, now_ns, log).run(),
            self._check(bucket, store),
            self._make_event_stream(store_connection).run(),
            self._join(transfer, probe),
            self._limits.run(),
            self._leave(stop, runtime, store),
            self._note_leaders(),
            *(() if spans is None else (spans.run(),)),
        )
        async with _meanwhile(*jobs):
            await runtime.run()
        await traffic.leave()
        await store_connection.leave()
        if spans is not None:
            spans.close()

    def _start_tracing(self) -> "Tracing | None":
        find = self._replica.schedule.state.requests.get
        name = self._settings.identify_replica_name
        return tracing.start(os.environ, replica=name, find=find, clock=now_ns, log=self._log)

    def _make_runtime(
        self, store: LedgerStore, publisher: Publisher, watch: LedgerWatch, spans: "Tracing | None"
    ) -> Runtime:
        return Runtime(
            self._replica,
            self._event_queue,
            store=store if spans is None else spans.store(store),
            publisher=publisher if spans is None else spans.publisher(publisher),
            watch=watch,
            figures=self._limits,
            clock=now_ns,
            log=self._log,
        )

    def _make_intake(
        self, traffic: Connection, refusals: Refusals, trace: Callable[[str, bytes], None] | None
    ) -> Intake:
        return Intake(
            traffic,
            self._subjects,
            self._event_queue,
            refusals=refusals,
            is_leading=self._is_leading,
            metrics=self._metrics,
            clock=now_ns,
            find=self._replica.schedule.state.requests.get,
            trace=trace,
            busiest=self._busiest,
        )

    def _make_service(self, traffic: Connection, publisher: Publisher) -> Service:
        return Service(
            traffic,
            self._subjects,
            self._replica,
            publisher=publisher,
            limits=self._limits,
            busiest=self._busiest,
            is_leading=self._is_leading,
            clock=now_ns,
        )

    def _make_event_stream(self, store_connection: Connection) -> EventStream:
        view = self._replica.view
        return EventStream(
            store_connection, self._subjects, self._settings, has_ledger=lambda: view.ledger is not None, log=self._log
        )

    def _make_page_server(self) -> PageServer:
        find = partial(page.find, self._replica, now_ns, self._aliases)
        view = View(self._picture, find, self._recent, partial(page.events, self._aliases))
        return PageServer(view, self._settings.page_hosts, clock=now_ns, log=self._log)

    def _picture(self) -> page.Json:
        trouble, now_ms = self._health.readiness_error(), time_ns() // MS
        known = (self._replica, self._recent, self._busiest, now_ns(), now_ms)
        return page.picture(*known, limits=self._limits, version=VERSION, trouble=trouble, aliases=self._aliases)

    async def _note_leaders(self) -> None:
        while True:
            ledger = self._replica.view.ledger
            if ledger is not None:
                self._recent.observe_leader(ledger.leader, ledger.term, time_ns() // MS)
            await asyncio.sleep(LEADER_SEEN_EVERY_S)

    async def _join(self, transfer: QueueTransfer, probe: Probe) -> None:
        """Copy the queue first: before the first probe this replica is not ready and does not contest the lead."""
        await transfer.take()
        await transfer.open()
        await probe.run()

    async def _check(self, bucket: KvBucket, store: LedgerStore) -> None:
        state = self._replica.schedule.state

        def can_be_read() -> bool:
            return store.answered_at_ns is not None and store.unread is None

        await bucket.watch(lambda: state.max_concurrency, can_be_read)

    async def _leave(self, stop: asyncio.Event, runtime: Runtime, store: LedgerStore) -> None:
        await stop.wait()
        self._health.leave()
        self._event_queue.put(Stop())
        await asyncio.sleep(RELEASE_WITHIN_S)
        why = store.making.reason or store.writing.reason or "the ledger does not answer"
        self._log.warning("the lock is not released; a standby takes over when the lease has run out", why=why)
        runtime.give_up()

    def _listen_for_signals(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_sighup)

    def _is_leading(self) -> bool:
        return self._replica.is_leading(now_ns())

    def _on_sighup(self) -> None:
        if self._is_leading():
            self._limits.request_refresh("SIGHUP")

    def _read_gauges(self) -> None:
        known = status.status(self._replica, now_ns(), limits=self._limits, version=VERSION)
        self._metrics.look_at(self._replica, known, len(self._event_queue))

    def _say_what_is_unusual(self) -> None:
        settings, log = self._settings, self._log
        if isinstance(self._limits, StaticLimits):
            limits = settings.static_limits()
            log.warning(
                "no DISCORD_TOKEN: the limits are settings",
                max_concurrency=limits.max_concurrency,
                total=limits.total,
            )
            if settings.identify_session_reserve >= (limits.total or 0):
                log.warning(RESERVE_IS_ALL, reserve=settings.identify_session_reserve, total=limits.total)
        if settings.timing.window_ns < DISCORD_WINDOW_NS:
            log.warning("IDENTIFY_WINDOW is below Discord's 5 s: for tests only", window_s=settings.identify_window)
        if settings.identify_fresh_start:
            log.warning("IDENTIFY_FRESH_START: an empty store means that nothing was ever granted")
        for name in unknown_variables(os.environ):
            log.warning("an unknown variable is ignored", name=name)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where it is installed: a quarter more events a second."""
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        return None
    return uvloop.new_event_loop


def _say(troubles: BaseExceptionGroup[Exception]) -> None:
    for trouble in troubles.exceptions:
        match trouble:
            case ExceptionGroup():
                _say(trouble)
            case SettingsError():
                sys.stderr.writelines(f"{printable(line)}\n" for line in trouble.lines)
            case _:
                sys.stderr.write(f"{printable(trouble)}\n")


async def _raise_from(lost: "asyncio.Future[None]") -> None:
    await lost


async def _unless(stop: asyncio.Event, job: Coroutine[Any, Any, _Result]) -> _Result | None:
    """Return what the job returns, or None where ``stop`` comes first."""
    working, stopping = asyncio.create_task(job), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()


@asynccontextmanager
async def _meanwhile(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the jobs while the block runs; one that fails ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job) for job in jobs]
        yield
        for task in tasks:
            task.cancel()
