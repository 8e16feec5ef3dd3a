"""A library's sharded client that asks a queue before each IDENTIFY; nothing in the library itself is changed.

What is overridden, and why:

- ``launch_shards`` launches all shards together and returns: the libraries launch one after the other, and replace
  no shard that has lost its connection until the last one is up.
- Shards are replaced in tasks of their own: the libraries' loop replaces one after the other, so that a shard that
  waits for its turn would hold up the others, even those that only want to RESUME.
- Nothing limits the wait for a turn: the libraries cancel a shard after 60 s, at its launch after 180 s.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from nats_identify.integrations._identify import Identifier
from nats_identify.integrations._library import Library
from nats_identify.integrations._outage import Outage
from nats_identify.integrations._queue import ChosenQueue, ranges
from nats_identify.integrations._shard import QueuedShard
from nats_identify.integrations._websocket import IdentifyAttempt, QueuedWebSocket, ResumingWebSocket
from nats_identify.queue import Progress, Queue

if TYPE_CHECKING:
    from nats_identify.integrations._library import EventItem, LibraryClient, LibraryWebSocket
else:
    LibraryClient = object  # a front adds the library's own class


logger = logging.getLogger("nats_identify")


def adapt(package: Any, *, resume_address: str | None = None) -> Library:  # noqa: ANN401  # a module; what it holds is known only where it is installed
    """Return what the integration needs of a library of the family: all have the same modules.

    Args:
        package: the library.
        resume_address: as `Library.resume_address`.
    """
    gateway, shard = package.gateway, package.shard
    library = Library(
        client=package.Client,
        auto_sharded=package.AutoShardedClient,
        websocket=type("QueuedWebSocket", (QueuedWebSocket, gateway.DiscordWebSocket), {}),
        resuming=type("ResumingWebSocket", (ResumingWebSocket, gateway.DiscordWebSocket), {}),
        shard=type("QueuedShard", (QueuedShard, shard.Shard), {}),
        resume_address=resume_address,
        reconnect_error=gateway.ReconnectWebSocket,
        closed_error=package.ConnectionClosed,
        event_item=shard.EventItem,
        event_type=shard.EventType,
    )
    library.websocket.library = library.resuming.library = library.shard.library = library
    return library


class QueuedClient(LibraryClient):
    """Mixed in before a library's ``AutoShardedClient``, or a bot class that is one.

    Args:
        queue: where each IDENTIFY asks. The URL of a NATS server, or several with commas between them, stands for a
            `NatsQueue` there; None for a `LocalQueue`, for a bot in one process; a function for what it returns, such
            as `queue_from_environment`. All these are closed with the bot; a queue object, which is anything with
            ``acquire``, ``identified`` and ``decline``, stays its owner's.
        close_code: what `close` ends the sessions with. Discord ends one that is closed with 1000 for good; any other
            code, such as 4000, leaves it resumable for minutes, and the bot seen as online while its pod is replaced.
        arguments, options: the library's own.

    Raises:
        TypeError: a class that derives from this one would identify without asking; or ``queue`` is no queue.
        ValueError: no queue is named, and the bot runs a part of its shards: those of other processes would identify
            at the same time.
    """

    library: Library

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401  # as of any class
        super().__init_subclass__(**options)
        bases = cls.__mro__
        if not hasattr(cls, "library") or cls.library.client not in bases:
            return  # a mixin itself
        sharded = cls.library.auto_sharded
        if sharded not in bases or bases.index(sharded) < bases.index(QueuedClient):
            message = (
                f"{cls.__name__} would identify without asking the queue: "
                "put the queued class first, and a sharded class of the library after it"
            )
            raise TypeError(message)

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401  # the library's own
        queue: Queue | str | Callable[[], Queue | str] | None = None,
        close_code: int = 1000,
        **options: Any,  # noqa: ANN401  # the library's own
    ) -> None:
        self._chosen_queue = ChosenQueue(queue)
        self._chosen_queue.check(options.get("shard_ids"), options.get("shard_count"))
        self.identify_queue = self._chosen_queue.queue
        self.close_code = close_code
        self.main_gateway: object = None
        self._outages: dict[int, Outage] = {}
        self._identifier = Identifier(self.library, self, self.identify_queue, self.outage_of)
        self._joining: set[asyncio.Task[None]] = set()
        self._is_leaving = False
        super().__init__(*arguments, **options)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Do nothing: the libraries' own sleeps 5 s. A bot may override it; the queue does not depend on it."""

    async def launch_shards(self, **options: Any) -> None:  # noqa: ANN401  # the library's own
        """Begin to launch all shards, and return; ``on_ready`` comes when all are up, as ever."""
        self._chosen_queue.check(self.shard_ids, self.shard_count)  # a bot may have set them since
        await super().launch_shards(**options)  # it calls `launch_shard` for each, which waits for nothing
        running = f"shards {ranges(self.shard_ids or range(self.shard_count or 1))} of {self.shard_count}"
        logger.info("%s ask %s", running, self._chosen_queue.describe())
        all_launched = getattr(self._connection, "shards_launched", None)  # discord.py has none
        if all_launched is not None:
            all_launched.clear()  # the library has just set it; no task has run since
            self._keep(_set_after(all_launched, frozenset(self._joining)))

    async def launch_shard(self, gateway: object, shard_id: int, *, initial: bool = False) -> None:
        """Begin to launch one shard, and return."""
        self.main_gateway = gateway  # a shard that comes back goes there too, even while the lookup fails
        self._keep(self._launch(gateway, shard_id))

    async def identify_shard(self, shard_id: int, *, gateway: object = None, priority: int = 0) -> QueuedWebSocket:
        """Connect a shard and send its IDENTIFY in its turn; return the connection."""
        on_progress = partial(self._progressed, shard_id)
        gateway = gateway or self.main_gateway
        return await self._identifier.identify(shard_id, gateway, priority=priority, on_progress=on_progress)

    async def close(self) -> None:
        """Give every place and turn back, then close as the library does."""
        self._is_leaving = True
        joining = self._joining - {asyncio.current_task()}
        for task in joining:
            task.cancel()
        if joining:
            await asyncio.wait(joining)
        await self._identifier.close()
        await self._chosen_queue.close()  # before the library's: that lets `start` return, and the loop end
        await super().close()

    def outage_of(self, shard_id: int) -> Outage:
        """Return the log of this shard's connection."""
        return self._outages.setdefault(shard_id, Outage(shard_id))

    def abandon(self, attempt: IdentifyAttempt) -> None:
        """End a connection that will not be used."""
        self._identifier.abandon(attempt)

    def say_final(self, shard_id: int, closed: Exception, websocket: "LibraryWebSocket | None") -> None:
        """Log that Discord wants no more of this shard, and what a person must change."""
        self._identifier.say_final(shard_id, closed, websocket)

    # --- inside

    async def _launch(self, gateway: object, shard_id: int) -> None:
        websocket = await self.identify_shard(shard_id, gateway=gateway)
        shard = self.library.shard(websocket, self, self._happened)
        self._shards[shard_id] = shard
        shard.launch()

    def _happened(self, item: "EventItem") -> None:
        """Handle a shard's event: replace it in a task of its own, and leave the rest to the library's loop."""
        shard, error, kinds = item.shard, item.error, self.library.event_type
        if isinstance(error, self.library.reconnect_error):
            # nextcord and py-cord call it `terminate`, and end the bot, if it comes up while they resume.
            self._keep(shard.reidentify(error))
        elif item.type == kinds.reconnect:
            # They would throw the session away, although RESUME is free and needs no turn.
            self._keep(shard.reidentify(self.library.reconnect_error(shard.id, resume=True)))
        else:
            self._events.put_nowait(item)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this in a task of its own; what it raises ends the bot, as an error of a shard does in the library."""
        if self._is_leaving:
            work.close()
            return
        task = asyncio.ensure_future(work)
        self._joining.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._joining.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._events.put_nowait(self.library.event_item(self.library.event_type.terminate, None, error))

    def _progressed(self, shard_id: int, progress: Progress) -> None:
        self.dispatch("shard_queued", shard_id, progress)

    @property
    def _shards(self) -> dict[int, QueuedShard]:
        shards: dict[int, QueuedShard] = vars(self)["_AutoShardedClient__shards"]  # private to the library
        return shards

    @property
    def _events(self) -> "asyncio.Queue[EventItem]":
        events: asyncio.Queue[EventItem] = vars(self)["_AutoShardedClient__queue"]  # as above
        return events


class OneShard(QueuedClient):
    """Mixed in before a queued client with many shards, to make one with a single shard of it.

    The libraries' ``Client`` gives up its shard's wait after 60 s, and crashes if that was its first.

    Args:
        shard_id: which shard; 0 by default.
        shard_count: of how many; 1 by default.
        arguments, options: the library's own, and ``queue``.
    """

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401  # the library's own
        shard_id: int | None = None,
        shard_count: int | None = None,
        **options: Any,  # noqa: ANN401  # the library's own
    ) -> None:
        super().__init__(*arguments, shard_ids=[shard_id or 0], shard_count=shard_count or 1, **options)
        self.shard_id = shard_id


async def _set_after(all_launched: asyncio.Event, launching: frozenset[asyncio.Task[None]]) -> None:
    if launching:
        await asyncio.wait(launching)
    all_launched.set()
