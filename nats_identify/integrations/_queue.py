"""Makes of a bot's ``queue=`` the queue that its shards ask, and refuses what would break the limit."""

import inspect
from collections.abc import Callable, Collection, Iterable
from itertools import pairwise
from typing import Any, Final

from nats_identify.client.environment import queue_from_environment
from nats_identify.client.local_queue import LocalQueue
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.queue import Grant, OnProgress, Queue

METHODS: Final = ("acquire", "identified", "decline")
"""What makes an object a queue."""

GIVE: Final = "give the URL of a NATS server, a queue such as LocalQueue(), or a function that returns one"


class OtherQueue(Queue):
    """A queue that does not derive from `Queue`, with what it leaves out.

    Args:
        queue: it has ``acquire``, ``identified`` and ``decline``.
    """

    def __init__(self, queue: Any) -> None:  # noqa: ANN401  # it has no type of ours
        self._queue = queue

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,
    ) -> Grant:
        """Wait as it does."""
        granted: Grant = await self._queue.acquire(
            shard_id, priority=priority, on_progress=on_progress, replaces=replaces
        )
        return granted

    def identified(self, grant: Grant) -> None:
        """Pass it on."""
        self._queue.identified(grant)

    def decline(self, grant: Grant) -> None:
        """Pass it on."""
        self._queue.decline(grant)

    def ready(self, grant: Grant) -> None:
        """Pass it on, if it is wanted."""
        getattr(self._queue, "ready", _ignore)(grant)

    def rejected(self, grant: Grant) -> None:
        """Pass it on, if it is wanted."""
        getattr(self._queue, "rejected", _ignore)(grant)

    async def close(self) -> None:
        """Do nothing: the queue stays its owner's."""


class ChosenQueue:
    """The queue of one bot.

    Args:
        wanted: the bot's ``queue``: a queue, the address of NATS, a function that returns one of both, or None.

    Attributes:
        queue: what the shards ask.
        is_ours: whether it was made for the bot, and is closed with it.

    Raises:
        TypeError: it is none of these.
        ValueError: it is no address.
    """

    def __init__(self, wanted: object) -> None:
        made: object = wanted
        if wanted is None:
            made = LocalQueue()
        elif isinstance(wanted, type) or (callable(wanted) and not _is_queue(wanted)):
            made = _made_by(wanted)
        self.is_ours = made is not wanted or isinstance(made, str)
        if isinstance(made, str):
            made = _at(made)
        if not _is_queue(made) or isinstance(made, type):
            message = f"queue={_what(wanted)} is no queue: {GIVE}"
            raise TypeError(message)
        self._made: Any = made
        self.queue: Queue = made if isinstance(made, Queue) and hasattr(made, "turn") else OtherQueue(made)
        self._is_named = wanted is not None and not (wanted is queue_from_environment and isinstance(made, LocalQueue))

    def check(self, shard_ids: Collection[int] | None, shard_count: int | None) -> None:
        """Return if this queue may be asked by these shards alone.

        Raises:
            ValueError: no queue was named, and other processes run the other shards.
        """
        if self._is_named or not shard_ids or shard_count is None or len(set(shard_ids)) >= shard_count:
            return
        message = (
            f"no queue is named, and this process runs only shards {ranges(shard_ids)} of {shard_count}: those of "
            'other processes would identify at the same time. Give all of them the same queue="nats://…" (or '
            "NATS_URL, with queue_from_environment); queue=LocalQueue() only if no other process ever identifies"
        )
        raise ValueError(message)

    def describe(self) -> str:
        """Return what it is and where, for people; without what opens it."""
        found = getattr(self._made, "description", None)
        return found if isinstance(found, str) else f"a {type(self._made).__name__}"

    async def close(self) -> None:
        """Close it, if it was made for the bot."""
        close = getattr(self._made, "close", None)
        if self.is_ours and callable(close):
            closing = close()
            if inspect.isawaitable(closing):
                await closing


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers for people: ``0-2, 5``."""
    ordered = sorted(set(numbers))
    starts = [b for a, b in pairwise([-2, *ordered]) if b != a + 1]
    ends = [a for a, b in pairwise([*ordered, ordered[-1] + 2] if ordered else []) if b != a + 1]
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _made_by(function: Callable[[], object]) -> object:
    """Call a bot's function; what is asynchronous cannot be awaited while a bot is made."""
    made = None if inspect.iscoroutinefunction(function) else function()
    if inspect.iscoroutine(made):
        made.close()
        made = None
    elif made is not None:
        return made
    message = (
        f"queue={_what(function)} returns no queue at once: call (and await) it yourself, and give what it returns"
    )
    raise TypeError(message)


def _at(addresses: str) -> NatsQueue:
    servers = [server.strip() for server in addresses.split(",") if server.strip()]
    if not servers:
        message = "queue is an empty address: give the URL of a NATS server, such as nats://127.0.0.1:4222"
        raise ValueError(message)
    return NatsQueue.connect(servers)


def _is_queue(thing: object) -> bool:
    return all(callable(getattr(thing, name, None)) for name in METHODS)


def _what(wanted: object) -> str:
    """Name a thing without printing it: it may hold a secret."""
    name = getattr(wanted, "__name__", None)
    kind = type(wanted).__name__
    if isinstance(wanted, bool | int | float):
        return f"{wanted!r}"
    return f"{name} (a {kind})" if isinstance(name, str) else f"a {kind}"


def _ignore(_grant: Grant) -> None: ...
