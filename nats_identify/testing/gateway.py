"""The simulated Discord gateway: one server on loopback, and the orders a test gives it; it never judges.

Run it as a process of its own with ``python -m nats_identify.testing``.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.testing.backend import Backend
from nats_identify.testing.codes import CloseCode
from nats_identify.testing.connection import Connection, ConnectionOptions
from nats_identify.testing.control_api import Order, order_route
from nats_identify.testing.delays import Delays, Range
from nats_identify.testing.doors import Doors, DoorState
from nats_identify.testing.encoding import ENCODERS
from nats_identify.testing.judge import Day, Judge
from nats_identify.testing.record import Record, Report
from nats_identify.testing.rest import ErrorResponse, Rest
from nats_identify.testing.watch import Watch

HEARTBEAT_INTERVAL_S: Final = 41.25
"""What Discord's HELLO asks for. Source: https://discord.com/developers/docs/events/gateway#hello-event"""

STOP_MAX_S: Final = 2.0
"""Time for clients to answer the close frame when the gateway stops."""


class SimulatedGateway:
    """A Discord that judges IDENTIFYs strictly and keeps a record, for tests and demos.

    For example::

        async with SimulatedGateway(max_concurrency=2, frame_latency_s=(0.02, 0.06)) as gateway:
            await start_my_bot(gateway.rest_url)
            await gateway.until(lambda report: report.ready == 4)
        assert gateway.record.report().violations == 0

    Args:
        max_concurrency: IDENTIFYs per window, one for each bucket.
        total: IDENTIFYs per day.
        remaining: how many of them are left; all, if None.
        reset_after_s: how long a day lasts; it begins with its first IDENTIFY.
        shards: the shard count that it recommends.
        window_s: how far apart two IDENTIFYs of one bucket must arrive.
        connect_delay_s: before a websocket is accepted: (lowest, highest), as all delays.
        hello_delay_s: between that and HELLO.
        frame_latency_s: one way, of every frame in either direction; frames never overtake each other.
        ready_delay_s: between IDENTIFY and READY.
        heartbeat_interval_s: what HELLO asks for. A client silent for two of them is closed.
        guilds_per_shard: guilds that READY announces and GUILD_CREATE then brings.
        resume_host: READY names a host of its own for RESUME, which begins like this; the gateway itself if None.
        seed: the same seed draws the same delays.
        token: the only one that is let in, on both sides; any is if None. It is never shown again.
        host: where to listen.
        port: as above; 0 takes a free one.

    Raises:
        ValueError: a figure that Discord would never send, or a delay that cannot be.
    """

    def __init__(
        self,
        max_concurrency: int = 1,
        total: int = 1000,
        *,
        remaining: int | None = None,
        reset_after_s: float = 24 * 60 * 60,
        shards: int = 1,
        window_s: float = 5.0,
        connect_delay_s: Range = (0.0, 0.0),
        hello_delay_s: Range = (0.0, 0.0),
        frame_latency_s: Range = (0.0, 0.0),
        ready_delay_s: Range = (0.0, 0.0),
        heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S,
        guilds_per_shard: int = 0,
        resume_host: DoorState | None = None,
        seed: int = 0,
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        delays = Delays(
            seed,
            connect_delay_s=connect_delay_s,
            hello_delay_s=hello_delay_s,
            frame_latency_s=frame_latency_s,
            ready_delay_s=ready_delay_s,
        )
        day = Day(now_ns(), total=total, remaining=remaining, length_ns=_ns(reset_after_s))
        judge = Judge(day, window_ns=_ns(window_s))
        self._backend = Backend(judge, delays, max_concurrency=max_concurrency, shards=shards, token=token)
        self._rest = Rest(self._backend)
        self._watch = Watch(self._backend.record)
        self._options = ConnectionOptions(heartbeat_interval_s, guilds_per_shard)
        self._host, self._port = host, port
        self._doors = Doors(resume_host, host)
        self._connections: dict[int, Connection] = {}
        self._connections_so_far = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("a gateway runs once; make another SimulatedGateway")
        app = web.Application()
        app.add_routes([web.get("/", self._accept), *self._rest.routes(), *self._watch.routes()])
        app.add_routes([order_route(self._orders())])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_MAX_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]
        self._backend.ws_url = self._backend.resume_url = f"ws://{self._host}:{self._port}"
        await self._doors.start(self._runner)
        if self._doors.resume_host is not None:
            self._backend.resume_url = self._doors.resume_host.ws_url
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rest.close()
        self._watch.close()
        self._doors.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_MAX_S):
                for connection in tuple(self._connections.values()):
                    await connection.hang_up(CloseCode.GOING_AWAY)
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def ws_url(self) -> str:
        """Where the websocket side listens, as in ``/gateway/bot``."""
        if not self._backend.ws_url:
            raise RuntimeError("the gateway has no url before `async with` has started it")
        return self._backend.ws_url

    @property
    def resume_url(self) -> str:
        """What READY names for RESUME: the gateway itself, or its resume host."""
        return self._backend.resume_url

    @property
    def http_url(self) -> str:
        """Where ``/report`` and ``/events`` are."""
        return self.ws_url.replace("ws", "http", 1)

    @property
    def rest_url(self) -> str:
        """Discord's API, e.g. ``http://127.0.0.1:40001/api/v10``."""
        return f"{self.http_url}/api/v10"

    @property
    def record(self) -> Record:
        """Everything that happened."""
        return self._backend.record

    async def until(self, condition: Callable[[Report], bool], *, within_s: float = 120.0) -> Report:
        """Wait for a condition on the report, and return the report that meets it.

        Raises:
            TimeoutError: it was not met; the message holds the report.
        """
        changed = asyncio.Event()
        stop_listening = self.record.listen(lambda _event: changed.set())
        try:
            async with asyncio.timeout(within_s):
                while not condition(report := self.record.report()):
                    changed.clear()
                    await changed.wait()
                return report
        except TimeoutError:
            message = f"not met within {within_s} s; so far: {self.record.report()}"
            raise TimeoutError(message) from None
        finally:
            stop_listening()

    def misbehave(self, *script: ErrorResponse, lookup: bool = False) -> None:
        """Answer the next requests for ``/gateway/bot`` like this, one each, and then properly again.

        With ``lookup`` those for ``/gateway``, where bots look up the gateway's address.
        """
        self._rest.misbehave(*script, lookup=lookup)

    def set_gateway(self, state: str) -> None:
        """Treat clients that connect to the gateway from now on like this; a `DoorState`. REST stays as it is.

        Raises:
            ValueError: there is no such state.
        """
        self._doors.gateway.state = DoorState(state)

    async def set_resume_host(self, state: str) -> None:
        """Treat clients that connect to the resume host from now on like this; a `DoorState`.

        Raises:
            ValueError: there is no such state.
            LookupError: READY names no resume host of its own.
        """
        await self._doors.set_resume_host(state)

    def set_limits(
        self,
        *,
        max_concurrency: int | None = None,
        total: int | None = None,
        remaining: int | None = None,
        reset_after_s: float | None = None,
        shards: int | None = None,
    ) -> None:
        """Put other limits in force for IDENTIFYs that arrive from now on; what is None stays.

        Raises:
            ValueError: a figure that Discord would never send; nothing was changed.
        """
        self._backend.set_limits(
            max_concurrency=max_concurrency,
            total=total,
            remaining=remaining,
            reset_after_ns=None if reset_after_s is None else _ns(reset_after_s),
            shards=shards,
        )

    def reset_day(self) -> None:
        """Begin a new day, with all its IDENTIFYs left."""
        self._backend.reset_day()

    async def drop(self, shard_id: int | None, *, resumable: bool = True, code: int = CloseCode.UNKNOWN_ERROR) -> None:
        """Close the connections of a shard; those that have no session (yet), if ``shard_id`` is None.

        Args:
            shard_id: whose connections.
            resumable: whether their sessions survive.
            code: the close code; 1006 cuts the connection without a close frame.

        Raises:
            LookupError: there are none; wait for what should be there first.
        """
        for connection in self._connections_of(shard_id):
            if not resumable:
                connection.forget_session()
            await connection.hang_up(code)

    async def invalidate(self, shard_id: int, *, resumable: bool = False) -> None:
        """Send Invalid Session (op 9) to a shard; unless resumable, its sessions end.

        Raises:
            LookupError: the shard has no session here.
        """
        for connection in self._connections_of(shard_id):
            await connection.invalidate(resumable=resumable)

    async def reconnect(self, shard_id: int) -> None:
        """Ask a shard to reconnect and resume (op 7).

        Raises:
            LookupError: the shard has no session here.
        """
        for connection in self._connections_of(shard_id):
            await connection.reconnect()

    async def dispatch(self, shard_id: int, name: str, data: object) -> None:
        """Send any other event to a shard.

        Raises:
            LookupError: the shard has no session here.
        """
        for connection in self._connections_of(shard_id):
            await connection.dispatch(name, data)

    def _connections_of(self, shard_id: int | None) -> list[Connection]:
        found = [
            connection
            for connection in self._connections.values()
            if (None if connection.session is None else connection.session.shard_id) == shard_id
        ]
        if not found:
            whose = "without a session" if shard_id is None else f"of shard {shard_id} with a session"
            message = f"there is no connection {whose}; await it first, e.g. with `until`"
            raise LookupError(message)
        return found

    def _orders(self) -> dict[str, Order]:
        return {
            "set_limits": self.set_limits,
            "reset_day": self.reset_day,
            "drop": self.drop,
            "invalidate": self.invalidate,
            "reconnect": self.reconnect,
            "set_gateway": self.set_gateway,
            "set_resume_host": self.set_resume_host,
            "misbehave": lambda **how: self.misbehave(ErrorResponse(**how)),
        }

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        make_encoder = ENCODERS.get(request.query.get("compress"))
        if make_encoder is None or request.query.get("encoding", "json") != "json":
            known = ", ".join(name for name in ENCODERS if name is not None)
            raise web.HTTPBadRequest(text=f"simulated are encoding=json and compress={known} or none")
        await asyncio.sleep(self._backend.delays.connect_delay_s())
        door = self._doors.of(request)
        if not await door.admit(request) or request.transport is None:
            return web.Response(status=400)  # the client has disconnected: this response is not read
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self._connections_so_far += 1
        number = self._connections_so_far
        connection = Connection(number, socket, request.transport, make_encoder(), self._backend, self._options, door)
        self._connections[number] = connection
        try:
            await connection.serve()
        finally:
            del self._connections[number]
        return socket


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
