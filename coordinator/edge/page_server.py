"""Serves the page at /: its files, its live part and its search. It shows what `page` makes, and changes nothing.

The page is read-only. A browser on the operator's own machine must not hand it to another site: so a host name that
some site could point at this address is refused, and so is a request that another site's page sends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import web
from pydantic_core import to_json

from coordinator.edge.allowance import Allowance
from coordinator.edge.log import Log
from coordinator.edge.recent import Recent
from coordinator.edge.watchers import WATCHERS_MAX, ShowEvents, TooManyWatchersError, Watchers
from nats_identify.clock import Clock
from nats_identify.operator_wire import StatusQuery
from nats_identify.wire import INT_MAX

WRITE_WITHIN_S: Final = 5.0
"""A watcher that has not read the last picture by then is dropped; its page connects again."""

WATCH_WITHIN_S: Final = 3600.0
"""One connection of a watcher lasts for this time at most; its page connects again."""

SEARCHES_PER_SECOND: Final = 20
"""Of all pages together, for a shard: each reads one bucket's queue."""

CLIENT_SEARCHES_PER_SECOND: Final = 2
"""The same for a client: each reads the whole queue, 0.1 s of work where 100,000 wait."""

FOUND_MAX: Final = 20
"""Requests that one search shows."""

CLIENT_MAX: Final = 128
"""Characters of a client's name, as in a request."""

STREAM: Final = "/page/stream"
FIND: Final = "/page/find"

_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows.

    Attributes:
        picture: makes the picture.
        find: finds the requests and grants of a shard or a client.
        recent: the events. ``show``: returns events as the page reads them.
    """

    picture: Callable[[], dict[str, Any]]
    find: Callable[[StatusQuery], Awaitable[dict[str, Any]]]
    recent: Recent
    show: ShowEvents


class PageServer:
    """The page of one process.

    Args:
        view: what it shows.
        hosts: names by which it may be asked for, besides addresses and names without a dot.
        clock: nanoseconds that only grow.
        log: for a page that cannot be shown.
    """

    def __init__(self, view: View, hosts: Collection[str], *, clock: Clock, log: Log) -> None:
        self._view = view
        self._hosts = {host.lower() for host in hosts}
        self._searches_left = Allowance(SEARCHES_PER_SECOND, SEARCHES_PER_SECOND, clock)
        self._client_searches_left = Allowance(CLIENT_SEARCHES_PER_SECOND, CLIENT_SEARCHES_PER_SECOND, clock)
        folder = files("coordinator") / "page"
        self._files = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._edition = blake2b(b"".join(body for body, _ in self._files.values()), digest_size=8).hexdigest()
        self.watchers = Watchers(self._picture, view.recent, view.show, log)

    def serves(self, path: str) -> bool:
        """Whether this path is one of the page."""
        return path in self._files or path in {STREAM, FIND}

    async def answer(
        self, request: web.BaseRequest, keep: Callable[[web.BaseRequest, float], None]
    ) -> web.StreamResponse:
        """Answer a request for one of these paths.

        Args:
            request: asks for it.
            keep: gives the connection of a request a number of seconds.
        """
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        if request.path == STREAM:
            return await self._stream(request, keep)
        if request.path == FIND:
            return await self._find(request)
        body, kind = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=HEADERS)

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Return why this request is not answered, or None where it is."""
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, text="GET alone\n", headers={**HEADERS, "Allow": "GET, HEAD"})
        if not self._is_ours(request.headers.get("Host", "")):
            text = "ask by an address, by localhost, or by a name that IDENTIFY_PAGE_HOSTS lists\n"
            return web.Response(status=421, text=text, headers=HEADERS)
        if request.path != "/" and request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
            return web.Response(status=403, text="the page of another site may not read this\n", headers=HEADERS)
        return None

    async def _stream(
        self, request: web.BaseRequest, keep: Callable[[web.BaseRequest, float], None]
    ) -> web.StreamResponse:
        """Send the live part until the watcher leaves, reads too slowly, or has had its time."""
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"})
        response.force_close()
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        events = self.watchers.follow()
        try:
            message = await anext(events)
        except TooManyWatchersError:
            text = f"{WATCHERS_MAX} pages are open already; close one\n"
            return web.Response(status=503, text=text, headers=HEADERS)
        keep(request, WATCH_WITHIN_S)
        try:
            await response.prepare(request)
            while True:
                async with asyncio.timeout(WRITE_WITHIN_S):
                    await response.write(message)
                message = await anext(events)
        except (OSError, StopAsyncIteration):  # a TimeoutError is one of the former: a slow reader
            if request.transport is not None:
                request.transport.abort()
        finally:
            await events.aclose()
        return response

    def _is_ours(self, host: str) -> bool:
        """Whether no site of the internet can be meant by this Host header."""
        name = host.lower()
        if not name.endswith("]"):  # an IPv6 address without a port
            front, colon, port = name.rpartition(":")
            name = front if colon and port.isdecimal() else name
        if "." not in name and ":" not in name:
            return name != ""
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return name.rstrip(".") in self._hosts or name.rstrip(".").endswith(".localhost")
        return True

    def _picture(self) -> dict[str, Any]:
        return {"edition": self._edition, **self._view.picture()}

    async def _find(self, request: web.BaseRequest) -> web.Response:
        shard, client = request.query.get("shard_id", ""), request.query.get("client", "")
        if shard.isascii() and shard.isdecimal() and len(shard) < len(str(INT_MAX)) and not client:
            query = StatusQuery(shard_id=int(shard), limit=FOUND_MAX)
        elif client and len(client) <= CLIENT_MAX and not shard:
            query = StatusQuery(client=client, limit=FOUND_MAX)
        else:
            text = f"give one: shard_id, a number, or client, {CLIENT_MAX} characters at most\n"
            return web.Response(status=400, text=text, headers=HEADERS)
        left = self._searches_left if query.client is None else self._client_searches_left
        if not left.take():
            text = "too many searches in this second; try again\n"
            return web.Response(status=429, text=text, headers={**HEADERS, "Retry-After": "1"})
        body = to_json(await self._view.find(query))
        return web.Response(body=body, content_type="application/json", charset="utf-8", headers=HEADERS)
