"""hikari with a queue: its bot class, whose shards wait for their turn to identify; all else is the library's.

Change the class that you make::

    from nats_identify.integrations.hikari import GatewayBot

    bot = GatewayBot(token, queue="nats://127.0.0.1:4222")

What is replaced, and why:

- Each shard's ``_keep_alive``: the library's connects again by itself, goes to a resume host that is dead for ever,
  and ends the bot at an error of the queue. One connection is the library's own ``_connect``, with its heartbeats.
- The startup windows: they know this process alone. All shards are started together.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import FunctionType, SimpleNamespace
from typing import Any, Final, Self

from nats_identify.integrations._fleet import Fleet, refuse_unqueued
from nats_identify.integrations._library import Library
from nats_identify.integrations._live import ConnectionOverError, LiveConnection, ShardLoop
from nats_identify.integrations._versions import WrongLibraryError, require
from nats_identify.integrations._websocket import QueuedWebSocket, ResumingWebSocket
from nats_identify.queue import Progress, Queue

require("hikari", at_least=(2, 7), below=(2, 8), extra="hikari")

import aiohttp  # noqa: E402  # hikari brings it
import hikari  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # an extra, checked first
from hikari.api.shard import GatewayShard  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above
from hikari.events.shard_events import ShardEvent  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above
from hikari.impl.gateway_bot import GatewayBot as LibraryBot  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above
from hikari.impl.shard import GatewayShardImpl  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above
from hikari.internal.aio import first_completed  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above

__all__ = ["GatewayBot", "Queued", "ShardQueuedEvent"]

SHARDS_MAX: Final = 2**31
"""More shards than a bot can have: they fit into one startup window."""

CONNECTION: Final[ContextVar["Connection"]] = ContextVar("CONNECTION")
"""The connection that this task, or the one that made it, belongs to."""


class ShardQueuedEvent(ShardEvent):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """A shard's place in the queue has changed.

    Args:
        shard: the shard.
        app: the bot.
        progress: its place, and why it waits.
    """

    def __init__(self, shard: GatewayShard, app: hikari.GatewayBot, progress: Progress) -> None:
        self._shard = shard
        self._app = app
        self.progress = progress

    @property
    def app(self) -> hikari.GatewayBot:
        """The bot."""
        return self._app

    @property
    def shard(self) -> GatewayShard:
        """The shard."""
        return self._shard

    @property
    def shard_id(self) -> int:
        """The shard's id."""
        shard_id: int = self._shard.id
        return shard_id


class Connection(LiveConnection):
    """One connection of a shard, which the shard's own ``_connect`` makes."""

    lost_errors = (
        OSError,
        TimeoutError,
        aiohttp.ClientError,
        hikari.GatewayConnectionError,
        hikari.GatewayTransportError,
    )
    _keep_alive = None  # heartbeats end with the tasks

    def __init__(
        self, shard: "QueuedGatewayShard", session_id: str | None, sequence: int | None, resume_at: str | None
    ) -> None:
        super().__init__(shard.id, session_id, sequence, resume_at)
        self._shard = shard
        self._sent = asyncio.Event()
        self._is_announced = False
        self._is_closed = False
        self.tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def from_client(
        cls,
        client: Fleet,
        *,
        gateway: str | None = None,
        shard_id: int,
        resume: bool = False,
        session: str | None = None,
        sequence: int | None = None,
    ) -> Self:
        """Connect, wait for HELLO, and send RESUME or, when its turn has come, IDENTIFY."""
        shard: QueuedGatewayShard = client.members[shard_id]
        address = gateway or await client.bot.rest.fetch_gateway_url()
        connection = cls(shard, session, sequence, address if resume else None)
        shard.begin(connection, address)
        life = connection.live(connection._run())
        sent = asyncio.ensure_future(connection._sent.wait())
        try:
            await asyncio.wait({life, sent}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sent.cancel()
        if not connection._sent.is_set():
            raise connection.why_over(life)
        return connection

    async def send_as_json(self, data: Any) -> None:  # noqa: ANN401  # JSON
        """Send at once."""
        await GatewayShardImpl._send_json(self._shard, data)  # noqa: SLF001  # private to the library
        self._sent.set()

    def close(self, code: int = 4000) -> "asyncio.Task[None]":
        """Take this connection off its shard at once, since the next one may begin; close it in a task."""
        self._is_closed = True
        tasks = {task for task in (self._life, *self.tasks) if task is not None}
        for task in tasks:
            task.cancel()
        return asyncio.ensure_future(self._end(tasks, self._shard.let_go(self), code))

    def track(self) -> None:
        """Keep the library's task that this is called in, to cancel it with the connection."""
        task = asyncio.current_task()
        if task is None or self._is_closed:
            raise asyncio.CancelledError
        self.tasks.add(task)
        self.ends_with(task)

    async def _run(self) -> None:
        CONNECTION.set(self)
        tasks = await self._shard._connect()  # noqa: SLF001  # private to the library
        if not tasks:
            return  # the gateway sent RECONNECT instead of HELLO
        if self._shard.is_connected:
            self._is_announced = True
            await self._shard.announce("connected")
        await first_completed(*tasks)

    async def _end(self, tasks: set["asyncio.Task[Any]"], transport: Any, code: int) -> None:  # noqa: ANN401  # private to the library
        if tasks:
            await asyncio.wait(tasks)
        if transport is not None:
            await transport.send_close(code=code, message=b"")
        if self._is_announced:
            self._is_announced = False
            await self._shard.announce("disconnected")


class QueuedGatewayShard(GatewayShardImpl):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """A shard that identifies in its turns."""

    _loads: Any
    _ws: Any

    def __init__(self, fleet: Fleet, **options: Any) -> None:  # noqa: ANN401  # the library's own
        super().__init__(**options)
        self._fleet = fleet
        self._decode = self._loads
        self._loads = self._noting
        self._connection: Connection | None = None
        self.running: asyncio.Task[None] | None = None
        fleet.members[self.id] = self

    def begin(self, connection: Connection, address: str) -> None:
        """Make ready for the library's ``_connect``.

        Args:
            connection: what is made.
            address: where to.
        """
        self._connection = connection
        self._session_id, self._seq = connection.session_id, connection.sequence
        self._resume_gateway_url = address  # it goes there first, if it is to resume or not
        self._handshake_event.clear()

    def let_go(self, connection: Connection) -> Any:  # noqa: ANN401  # private to the library
        """Return the transport of this connection, if the shard has it still; it has none from here on."""
        if self._connection is not connection:
            return None
        transport, self._ws, self._connection = self._ws, None, None
        return transport

    async def announce(self, event: str) -> None:
        """Dispatch ``ShardConnectedEvent`` or ``ShardDisconnectedEvent``, as the library's ``_keep_alive`` does."""
        made = getattr(self._event_factory, f"deserialize_{event}_event")(self)
        await self._event_manager.dispatch(made, return_tasks=True)

    async def _keep_alive(self) -> None:
        """Keep this shard up, until it is cancelled."""
        self.running = asyncio.current_task()
        try:
            await ShardLoop(self._fleet, self.id, _nothing).run()
        except asyncio.CancelledError:
            return  # as the library's
        except Exception as error:
            self._fleet.bot.shard_failed(error)
            raise

    async def _send_json(self, data: Any, *, priority: bool = False) -> None:  # noqa: ANN401  # JSON
        """Send at once; IDENTIFY and RESUME by the connection, which knows the turn."""
        if data["op"] in {Connection.IDENTIFY, Connection.RESUME}:
            connection = CONNECTION.get()
            await connection.read_what_is_there()
            await connection.send_as_json(data)
        else:
            await super()._send_json(data, priority=priority)

    async def _heartbeat(self, heartbeat_interval: float) -> None:
        CONNECTION.get().track()
        await super()._heartbeat(heartbeat_interval)

    async def _poll_events(self) -> None:
        CONNECTION.get().track()
        await super()._poll_events()

    def _noting(self, raw: bytes | str) -> Any:  # noqa: ANN401  # JSON
        payload = self._decode(raw)
        CONNECTION.get().received(payload)
        return payload


LIBRARY: Final = Library(
    client=LibraryBot,
    auto_sharded=LibraryBot,
    websocket=type("QueuedConnection", (QueuedWebSocket, Connection), {}),
    resuming=type("ResumingConnection", (ResumingWebSocket, Connection), {}),
    shard=ShardLoop,
    resume_address="resume_at",
    reconnect_error=ConnectionOverError,
    closed_error=hikari.GatewayServerClosedConnectionError,
    event_item=None,
    event_type=None,
)
LIBRARY.websocket.library = LIBRARY.resuming.library = LIBRARY


class LeavingError(Exception):
    """The bot was closed while it started."""


class Queued:
    """Mix it in before any other bot class that derives from hikari's ``GatewayBot``.

    Args:
        queue: as in `QueuedClient`, of any other integration.
        close_code: what closing ends the sessions with. Discord ends one that is closed with 1000, or with 1001 as the
            library does, for good; any other code, such as 4000, leaves it resumable for minutes.
        arguments, options: the library's own.

    Raises:
        TypeError: a class that derives from this one would identify without asking; or ``queue`` is no queue.
        ValueError: ``queue`` is no address.
    """

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401  # as of any class
        super().__init_subclass__(**options)
        refuse_unqueued(cls, queued=Queued, library_class=LibraryBot)

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401  # the library's own
        queue: Queue | str | Callable[[], Queue | str] | None = None,
        close_code: int = 1000,
        **options: Any,  # noqa: ANN401  # the library's own
    ) -> None:
        self._fleet = Fleet(LIBRARY, self, queue=queue, close_code=close_code, on_progress=self._progressed)
        self._failed: asyncio.Future[None] | None = None
        self._shard_ids: Sequence[int] | None = None
        super().__init__(*arguments, **options)

    @property
    def identify_queue(self) -> Queue:
        """What the shards ask."""
        return self._fleet.identify_queue

    async def start(
        self,
        *,
        shard_ids: Sequence[int] | None = None,
        shard_count: int | None = None,
        **options: Any,  # noqa: ANN401  # the library's own
    ) -> None:
        """Start all shards together, and return when they are up, as the library does.

        Args:
            shard_ids: which shards; all of them by default.
            shard_count: of how many; what Discord advises by default.
            options: the library's own. ``ignore_session_start_limit`` and ``startup_window_delay`` have no effect: the
                queue knows both.

        Raises:
            ValueError: no queue is named, and the bot runs a part of its shards: those of other processes would
                identify at the same time.
        """
        self._fleet.check(shard_ids, shard_count)
        self._failed, self._shard_ids = asyncio.get_running_loop().create_future(), shard_ids
        rest = self._rest
        self._rest = _OneWindow(rest, self)  # for the one call that says how long a startup window is
        try:
            await super().start(  # type: ignore[misc]  # the library's
                **{**options, "shard_ids": shard_ids, "shard_count": shard_count, "ignore_session_start_limit": True}
            )
        except LeavingError:
            return
        finally:
            self._rest = rest

    async def close(self) -> None:
        """Give every place and turn back, then close as the library does."""
        if self._closing_event is not None and not self._closing_event.is_set():
            shards = self._fleet.members.values()
            # Those that are up are closed by the library: listeners of `StoppingEvent` may still need them.
            await self._fleet.leave([shard.running for shard in shards if shard.running and not shard.is_connected])
        await super().close()  # type: ignore[misc]  # the library's

    def shard_failed(self, error: Exception) -> None:
        """End the start of all other shards: one has ended for good."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()  # retrieved: once all are up, `join` raises it

    async def _start_one_shard(self, *, shard_id: int, shard_count: int, url: str, **options: Any) -> None:  # noqa: ANN401  # the library's own
        assert self._failed is not None  # noqa: S101  # `start` has made it
        if self._fleet.main_gateway is None:
            self._fleet.announce(self._shard_ids or range(shard_count), shard_count)
        self._fleet.main_gateway = url
        options |= {"shard_id": shard_id, "shard_count": shard_count, "url": url}
        starting = asyncio.ensure_future(_start_one_shard(self, self._fleet, options))
        try:
            await asyncio.wait({starting, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            starting.result()
        except RuntimeError:  # "was closed before it could start"
            if self._fleet.is_leaving:
                raise LeavingError from None
            raise
        finally:
            starting.cancel()

    def _progressed(self, shard_id: int, progress: Progress) -> None:
        self.dispatch(ShardQueuedEvent(self._fleet.members[shard_id], self, progress))

    _rest: Any
    _closing_event: asyncio.Event | None
    dispatch: Callable[[object], None]


class GatewayBot(Queued, LibraryBot):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """`hikari.GatewayBot` with a queue."""


class _OneWindow:
    """The bot's REST client while it starts, until it has said how many shards a startup window has: any number.

    Args:
        rest: the library's.
        bot: gets it back.
    """

    def __init__(self, rest: Any, bot: Any) -> None:  # noqa: ANN401  # the library's own
        self._rest = rest
        self._bot = bot

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever it has
        return getattr(self._rest, name)

    async def fetch_gateway_bot_info(self) -> Any:  # noqa: ANN401  # the library's own
        self._bot._rest = self._rest  # noqa: SLF001  # private to the library
        info = await self._rest.fetch_gateway_bot_info()
        info.session_start_limit.max_concurrency = SHARDS_MAX
        return info


def _start_one_shard(bot: Any, fleet: Fleet, options: dict[str, Any]) -> Any:  # noqa: ANN401  # the library's own
    """Start one shard as the library does, but one of ours: its class has no other way in."""

    def make(**its: Any) -> QueuedGatewayShard:  # noqa: ANN401  # as above
        return QueuedGatewayShard(fleet, **its)

    names = {**THEIRS.__globals__, "shard_impl": SimpleNamespace(GatewayShardImpl=make)}
    ours = FunctionType(THEIRS.__code__, names, THEIRS.__name__, THEIRS.__defaults__, THEIRS.__closure__)
    ours.__kwdefaults__ = THEIRS.__kwdefaults__
    return ours(bot, **options)


def _nothing() -> None: ...


THEIRS: Final = LibraryBot._start_one_shard  # noqa: SLF001  # private to the library
if not {"shard_impl", "GatewayShardImpl"} <= set(THEIRS.__code__.co_names):
    raise WrongLibraryError("this hikari makes its shards in another way: install one that was tried")
