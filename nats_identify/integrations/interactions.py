"""interactions.py with a queue: its two clients, which wait for their turn to identify; all else is the library's.

Change the class that you make::

    from nats_identify.integrations.interactions import AutoShardedClient

    bot = AutoShardedClient(token=token, queue="nats://127.0.0.1:4222")

What is replaced, and why:

- How a shard is kept up: the library's reads nothing until IDENTIFY has left, connects again while it holds the lock
  of every send, and ends a shard in silence where that fails.
- ``astart``: the library's starts one shard each 5.1 s, or never gets to the second bucket.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from nats_identify.integrations._fleet import Fleet, refuse_unqueued
from nats_identify.integrations._library import Library
from nats_identify.integrations._live import ConnectionOverError, LiveConnection, ShardLoop
from nats_identify.integrations._versions import require
from nats_identify.integrations._websocket import QueuedWebSocket, ResumingWebSocket
from nats_identify.queue import Progress, Queue

require("discord-py-interactions", at_least=(5, 16), below=(5, 17), extra="interactions")

import aiohttp  # noqa: E402  # interactions.py brings it
import attrs  # noqa: E402  # as above
import interactions  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # an extra, checked first
from interactions.api.events import BaseEvent, Disconnect, ShardDisconnect  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above
from interactions.api.gateway.gateway import GatewayClient  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above
from interactions.api.gateway.state import ConnectionState  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above
from interactions.client.const import MISSING  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above
from interactions.client.errors import WebSocketClosed  # type: ignore[import-not-found, unused-ignore]  # noqa: E402  # as above

__all__ = ["AutoShardedClient", "Client", "Queued", "ShardQueued"]

END_MAX_S: Final = 1.0
"""Time for the tasks of a connection to end by themselves, before they are cancelled."""

CLOSE_MAX_S: Final = 5.0
"""Time for Discord to answer a close frame, as in hikari; the library waits for 30 s."""


@attrs.define(eq=False, order=False, hash=False, kw_only=False)
class ShardQueued(BaseEvent):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """A shard's place in the queue has changed.

    Attributes:
        shard_id: the shard.
        progress: its place, and why it waits.
    """

    shard_id: int
    progress: Progress


class Connection(LiveConnection, GatewayClient):  # type: ignore[misc, unused-ignore]  # as above
    """One connection of a shard. The library's is used again and again; this one ends, and the shard makes another."""

    lost_errors = (OSError, TimeoutError, aiohttp.ClientError)
    ws: Any

    def __init__(
        self, state: "QueuedState", session_id: str | None, sequence: int | None, resume_at: str | None
    ) -> None:
        GatewayClient.__init__(self, state, (state.shard_id, state.client.total_shards))
        LiveConnection.__init__(self, state.shard_id, session_id, sequence, resume_at)
        self._is_resuming = session_id is not None

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
        state: QueuedState = client.members[shard_id]
        address: str = gateway or await state.client.http.get_gateway()
        if "?" not in address:  # a host of READY
            address += f"?{(client.main_gateway or '').partition('?')[2]}"
        connection = cls(state, session, sequence, address if resume else None)
        state.gateway_url = address
        try:
            await connection.__aenter__()
        except WebSocketClosed as closed:
            raise connection.translated(closed) from None
        return connection

    @property
    def socket(self) -> aiohttp.ClientWebSocketResponse:
        """What `OwnWebSocket` looks for a close code at; no attribute while there is none."""
        socket: aiohttp.ClientWebSocketResponse | None = vars(self).get("ws")
        if socket is None:
            raise AttributeError("socket")
        return socket

    async def receive(self, force: bool = False) -> Any:  # noqa: ANN401  # the library's own
        """Receive a payload, as the library does, and note what it says of the session."""
        if force:  # the first one
            self._note_close()
        payload = await super().receive(force)
        if payload.get("op") is not MISSING:
            self.received(payload)
        return payload

    async def reconnect(self, *, resume: bool = False, code: int = 1012, url: str | None = None) -> None:
        """End this connection; the shard makes another."""
        del code, url
        if asyncio.current_task() is self._keep_alive:  # the heartbeats were not acknowledged
            self._stop()
            return
        raise ConnectionOverError(self.shard_id, resume=resume)

    async def send_as_json(self, data: Any) -> None:  # noqa: ANN401  # JSON
        """Send at once."""
        if data["op"] == self.IDENTIFY:
            await GatewayClient._identify(self)  # noqa: SLF001  # private to the library
        else:
            await self._resume_connection()

    def came_alive(self) -> None:
        """Let the bot send on this connection from here on."""
        self.state.gateway = self

    def close(self, code: int = 4000) -> "asyncio.Task[None]":
        """Close this connection, in a task; the library's own does not wait for it either."""
        self._stop()
        return asyncio.ensure_future(self._end(code))

    async def _identify(self) -> None:
        """Read from here on, and send RESUME or IDENTIFY."""
        self.live(self.run())
        await self.read_what_is_there()
        await self.send_as_json({"op": self.RESUME if self._is_resuming else self.IDENTIFY})

    def _stop(self) -> None:
        self._kill_bee_gees.set()
        self._close_gateway.set()

    async def _end(self, code: int) -> None:
        tasks = {task for task in (self._life, self._keep_alive) if task is not None}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=END_MAX_S)
            for task in late:
                task.cancel()
            await asyncio.sleep(0)  # the library's reader was cancelled, and has not ended yet
        socket, self.ws = self.ws, None
        if socket is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(socket.close(code=code), CLOSE_MAX_S)


class QueuedState(ConnectionState):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """A shard that identifies in its turns."""

    _shard_task: Any

    @property
    def running(self) -> "asyncio.Task[None] | None":
        """What keeps it up."""
        task: asyncio.Task[None] | None = self._shard_task
        return task

    async def stop(self) -> None:
        """End this shard: its place, its turn and its connection."""
        if self._shard_task is not None:
            self._shard_task.cancel()
            await asyncio.wait({self._shard_task})
            self._shard_task = None
        self.gateway_started.clear()

    async def _ws_connect(self) -> None:
        """Keep this shard up, until it is cancelled."""
        fleet: Fleet = self.client.fleet
        fleet.main_gateway = self.gateway_url
        try:
            await ShardLoop(fleet, self.shard_id, self.clear_ready).run()
        except asyncio.CancelledError:
            if not fleet.is_leaving:
                raise
        finally:
            self._shard_ready.clear()
            is_alone = self.client.total_shards == 1
            self.client.dispatch(Disconnect() if is_alone else ShardDisconnect(self.shard_id))


LIBRARY: Final = Library(
    client=interactions.Client,
    auto_sharded=interactions.AutoShardedClient,
    websocket=type("QueuedConnection", (QueuedWebSocket, Connection), {}),
    resuming=type("ResumingConnection", (ResumingWebSocket, Connection), {}),
    shard=ShardLoop,
    resume_address="resume_at",
    reconnect_error=ConnectionOverError,
    closed_error=WebSocketClosed,
    event_item=None,
    event_type=None,
)
LIBRARY.websocket.library = LIBRARY.resuming.library = LIBRARY


class Queued:
    """Mix it in before any other client class of interactions.py.

    Args:
        queue: as in `QueuedClient`, of any other integration.
        close_code: as in `QueuedClient`.
        shard_count: another name for the library's ``total_shards``, so that `shard_options` fits.
        arguments, options: the library's own.

    Raises:
        TypeError: a class that derives from this one would identify without asking; or ``queue`` is no queue.
        ValueError: no queue is named, and the bot runs a part of its shards: those of other processes would identify
            at the same time.
    """

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401  # as of any class
        super().__init_subclass__(**options)
        refuse_unqueued(cls, queued=Queued, library_class=interactions.Client)

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401  # the library's own
        queue: Queue | str | Callable[[], Queue | str] | None = None,
        close_code: int = 1000,
        shard_count: int | None = None,
        **options: Any,  # noqa: ANN401  # the library's own
    ) -> None:
        if shard_count is not None:
            options["total_shards"] = shard_count
        self.fleet = Fleet(LIBRARY, self, queue=queue, close_code=close_code, on_progress=self._progressed)
        self.fleet.check(options.get("shard_ids"), options.get("total_shards"))
        super().__init__(*arguments, **options)
        if self._connection_state is not None:  # one shard
            alone = self._connection_state.shard_id
            self.fleet.check([alone], self.total_shards)
            self._connection_state = self._member(alone)

    @property
    def identify_queue(self) -> Queue:
        """What the shards ask."""
        return self.fleet.identify_queue

    async def login(self, token: str | None = None) -> None:
        """Log in as the library does."""
        self.fleet.check(None, None)  # not after it was stopped
        if self.http.connector is None:  # the library's has room for 45 connections, gateways and requests together
            self.http.connector = aiohttp.TCPConnector(limit=0)
        await super().login(token)  # type: ignore[misc]  # the library's
        if self._connection_state is None:
            shard_ids = [state.shard_id for state in self._connection_states]
            self.fleet.check(shard_ids, self.total_shards)
            self._connection_states = [self._member(shard_id) for shard_id in shard_ids]
        self.fleet.announce(self.fleet.members, self.total_shards)

    async def stop(self) -> None:
        """Give every place and turn back and close all connections, then stop as the library does."""
        tasks = [state.running for state in self.fleet.members.values()]
        await self.fleet.leave([task for task in tasks if task is not None])
        await super().stop()  # type: ignore[misc]  # the library's

    def _member(self, shard_id: int) -> QueuedState:
        state = QueuedState(self, self.intents, shard_id)
        self.fleet.members[shard_id] = state
        return state

    def _progressed(self, shard_id: int, progress: Progress) -> None:
        self.dispatch(ShardQueued(shard_id, progress))

    _connection_state: Any
    _connection_states: list[Any]
    http: Any
    total_shards: int
    intents: Any
    dispatch: Callable[[object], None]


class Client(Queued, interactions.Client):  # type: ignore[misc, unused-ignore]  # Any where not installed
    """`interactions.Client` with a queue: one shard, ``shard_id`` of ``total_shards``."""


class AutoShardedClient(Queued, interactions.AutoShardedClient):  # type: ignore[misc, unused-ignore]  # as above
    """`interactions.AutoShardedClient` with a queue."""

    async def astart(self, token: str | None = None) -> None:
        """Start all shards together, and run until they end."""
        await self.login(token)
        try:
            await asyncio.gather(*(state.start() for state in self._connection_states))
        finally:
            await self.stop()
