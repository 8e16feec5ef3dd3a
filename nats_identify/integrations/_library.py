"""What discord.py and its family have in common: every part of a library that is touched, and nothing else.

The classes here are never made at run time, nor inherited from but by `_live`: they are the types of what the libraries
bring, so that the rest can be checked without any of them installed. Names with an underscore are private to
the libraries; they are the same in all versions that the fronts let in.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self


class ReconnectError(Exception):
    """``gateway.ReconnectWebSocket``: the connection is over, and what to send on the next one."""

    resume: bool

    def __init__(self, shard_id: int, *, resume: bool = True) -> None: ...


class KeepAlive(Protocol):
    """``gateway.KeepAliveHandler``: the thread that sends the heartbeats of one websocket."""

    def stop(self) -> None:
        """End the heartbeats."""
        ...


class LibraryWebSocket:
    """``gateway.DiscordWebSocket``: one connection.

    ``from_client`` connects, waits for HELLO, and sends IDENTIFY or RESUME.
    """

    IDENTIFY: int
    RESUME: int
    session_id: str | None
    sequence: int | None
    _dispatch: Callable[..., None]
    _keep_alive: KeepAlive | None

    def __init__(self, socket: object, *, loop: asyncio.AbstractEventLoop) -> None: ...

    @classmethod
    async def from_client(cls, client: object, *, gateway: object = None, shard_id: int) -> Self:
        raise NotImplementedError

    async def poll_event(self) -> None: ...

    async def send_as_json(self, data: Any) -> None: ...  # noqa: ANN401  # JSON

    async def close(self, code: int = 4000) -> None: ...


class LibraryShard:
    """``shard.Shard``: one shard of an ``AutoShardedClient`` that has sent its first IDENTIFY.

    Its worker reads the websocket, and notifies the client by ``queue_put`` when that must be replaced.
    """

    ws: LibraryWebSocket
    _client: Any
    _reconnect: bool
    _queue_put: "Callable[[EventItem], None]"
    _dispatch: Callable[..., None]

    def __init__(self, ws: LibraryWebSocket, client: object, queue_put: "Callable[[EventItem], None]") -> None: ...

    @property
    def id(self) -> int:
        raise NotImplementedError

    def launch(self) -> None: ...

    def _cancel_task(self) -> None: ...

    async def reidentify(self, exc: ReconnectError) -> None: ...

    async def reconnect(self) -> None: ...

    async def _handle_disconnect(self, e: Exception) -> None: ...


class LibraryClient:
    """``AutoShardedClient``: the bot. ``connect`` launches the shards, then takes their events from a queue."""

    _connection: Any
    shard_ids: Sequence[int] | None
    shard_count: int | None

    def __init__(self, *arguments: Any, **options: Any) -> None: ...  # noqa: ANN401  # the library's own

    async def launch_shards(self, **options: Any) -> None: ...  # noqa: ANN401  # as above

    async def launch_shard(self, gateway: object, shard_id: int, *, initial: bool = False) -> None: ...

    def dispatch(self, event: str, /, *arguments: object) -> None: ...

    def is_closed(self) -> bool:
        raise NotImplementedError

    async def close(self) -> None: ...


class EventItem(Protocol):
    """``shard.EventItem``: an event from a shard to its client."""

    type: int
    shard: Any
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Library:
    """One of the libraries, as an integration uses it.

    Attributes:
        client: its ``Client``, the base of all its bots; ``auto_sharded`` the one with many shards.
        websocket, shard: its classes, made to wait for turns; ``resuming`` its websocket, made for RESUME.
        resume_address: where its websocket keeps the host that READY named for RESUME; None where its shards do not go
            there, but to the gateway.
        reconnect_error: its ``ReconnectWebSocket``.
        closed_error: its ``ConnectionClosed``, of a code after which it does not come back.
        event_item, event_type: its ``EventItem`` and the numbers of ``EventType``.
    """

    client: type
    auto_sharded: type
    websocket: Any
    resuming: Any
    shard: Any
    resume_address: str | None
    reconnect_error: type[ReconnectError]
    closed_error: type[Exception]
    event_item: Any
    event_type: Any
