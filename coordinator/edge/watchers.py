"""Shares one picture each second among all that watch the page, as server-sent events. It knows nothing of HTTP.

While no page is open nothing is computed. A picture is made once for all watchers; one that reads slowly gets the
newest picture when it can, and never two that have waited for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from time import perf_counter
from typing import Any, Final

from pydantic_core import to_json

from coordinator.edge.log import Log
from coordinator.edge.recent import Recent, RecordedEvent

WATCHERS_MAX: Final = 16
"""Pages that are open at a time: a picture of 30 kB each second for each of them is half a megabyte."""

PERIOD_S: Final = 1.0

REST_FACTOR: Final = 30
"""After a picture that took long, the next one waits for this multiple of it: about 3 % of a core is spent at most."""

REST_MAX_S: Final = 5.0
"""The longest time between two pictures; the page takes a longer silence for a lost connection."""

RETRY_MS: Final = 2000
"""After a lost connection the browser waits for this time."""

ShowEvents = Callable[[list[RecordedEvent]], list[dict[str, Any]]]


class TooManyWatchersError(Exception):
    """`WATCHERS_MAX` pages are open already."""


class _Made:
    """One picture, and the events up to it; what is encoded once serves all watchers that stand at the same event."""

    def __init__(self, picture: bytes, recent: Recent, show: ShowEvents) -> None:
        self.newest = recent.newest
        self._picture = picture
        self._recent = recent
        self._show = show
        self._encoded: dict[int, bytes] = {}

    def message(self, after: int) -> bytes:
        """Return it for a watcher that has the events up to this number; -1: it has none yet."""
        message = self._encoded.get(after)
        if message is None:
            fresh = [event for event in self._recent.after(max(after, 0)) if event.number <= self.newest]
            body = to_json({"is_first": after < 0, "list": self._show(fresh)})
            message = self._encoded[after] = b"event: events\ndata: " + body + b"\n\n" + self._picture
        return message


class Watchers:
    """All that watch the page of this process.

    Args:
        make: returns the picture.
        recent: its events go with the picture.
        show: returns events as the page reads them.
        log: for a picture that cannot be made.
    """

    def __init__(self, make: Callable[[], dict[str, Any]], recent: Recent, show: ShowEvents, log: Log) -> None:
        self._make = make
        self._show = show
        self._recent = recent
        self._log = log
        self._count = 0
        self._last: _Made | None = None
        self._next: asyncio.Future[_Made | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.made_count = 0

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events: first all that is known, then each second what is new.

        It ends when this process ends, or when the picture cannot be made.

        Raises:
            TooManyWatchersError: too many watch already.
        """
        if self._count >= WATCHERS_MAX:
            raise TooManyWatchersError
        self._count += 1
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            after, made = -1, self._last or await self._next_made()
            while made is not None:
                yield made.message(after)
                after = made.newest
                made = await self._next_made()
        finally:
            self._count -= 1

    def close(self) -> None:
        """End all: this process is about to end."""
        if self._task is not None:
            self._task.cancel()
        self._announce(None)

    def _next_made(self) -> "asyncio.Future[_Made | None]":
        """Return the next picture, once it is made; a watcher that was away meanwhile has missed some."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._make_while_watched())
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._next)

    async def _make_while_watched(self) -> None:
        while self._count:
            began_s = perf_counter()
            try:
                made = _Made(b"event: picture\ndata: " + to_json(self._make()) + b"\n\n", self._recent, self._show)
            except Exception:  # a fault of ours: the watchers end, and the page says that the connection is lost
                self._log.exception("a page cannot be shown", page="/")
                self._announce(None)
                return
            self.made_count += 1
            self._last = made
            self._announce(made)
            took_s = perf_counter() - began_s
            await asyncio.sleep(min(max(PERIOD_S, REST_FACTOR * took_s), REST_MAX_S))
            self._last = None  # what is older is not shown

    def _announce(self, made: _Made | None) -> None:
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(made)
