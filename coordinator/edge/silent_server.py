"""An HTTP server that sends nothing by itself: a response leaves only if it is an `Answer`. It keeps no queue.

Clients of twilight's gateway-queue take any response as permission to identify, whatever its status. So aiohttp's own
400, 408 and 500 must not leave: such a connection is closed without a response, after a pause.
"""

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from coordinator.edge.http_server import SILENT

REQUEST_WITHIN_S: Final = 10.0
"""From the connection to the end of the request; it is closed after that."""

PAUSE_S: Final = 5.0
"""Before a connection is closed without a response: a twilight client connects again at once, Sandwich-Daemon after
5 s (`StandardIdentifyLimit`)."""

PAUSED_MAX: Final = 256
"""Connections that are kept open for the pause; the others are closed at once."""

BODY_BYTES_MAX: Final = 16 * 1024
"""A request's body, such as Sandwich-Daemon's JSON of 300 bytes. What is not read would hide a client's disconnect."""

HEADER_BYTES_MAX: Final = 4096
HEADERS_MAX: Final = 64
"""The longest header or request line, and the most headers."""

KEEPALIVE_S: Final = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""A client that is gone without a word is noticed within 30 s, and no NAT forgets a connection that waits for hours.
Nothing may be sent in HTTP for this: the head of a response is a response."""

DESCRIPTORS_KEPT: Final = 128
"""File descriptors left for NATS, Discord, the health pages and the log."""

Handler = Callable[[web.BaseRequest, bytes], Awaitable["Answer | None"]]


class Answer(web.Response):
    """A response that was meant; any other is not sent."""

    def __init__(self, status: int, text: str = "", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(status=status, text=text, headers=named)
        self.force_close()


class _Connection(web.RequestHandler):
    __slots__ = ()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse | None, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an `Answer`. Close the connection without anything else: every response of aiohttp passes here.

        Raises:
            ConnectionError: aiohttp closes the connection.
        """
        if isinstance(resp, Answer):
            return await super().finish_response(request, resp, start_time)
        if isinstance(self._manager, SilentServer):
            await self._manager.pause(is_meant=resp is None)
        raise ConnectionError


class SilentServer(web.Server):
    """Accepts connections, one request each, and closes what its handler does not answer.

    A handler is cancelled when its client disconnects.

    Args:
        handler: returns the `Answer`, or None to close without one; it gets the request's body too.
        connections_max: more are closed at once.
        unreadable: called for a request that is none, or that aiohttp wanted to answer by itself.
        overrun: called for a connection beyond ``connections_max``.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        connections_max: int,
        unreadable: Callable[[], None],
        overrun: Callable[[], None],
    ) -> None:
        super().__init__(
            self._whole,
            handler_cancellation=True,
            access_log=None,
            logger=SILENT,
            lingering_time=0,
            auto_decompress=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )
        self._answer = handler
        self._connections_max = connections_max
        self._overrun = overrun
        self._unreadable = unreadable
        self._open: dict[web.RequestHandler, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}
        self._paused = 0
        self._is_closed = False

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, or close it."""
        super().connection_made(handler, transport)
        is_full = len(self._open) >= self._connections_max
        if self._is_closed or is_full:
            transport.abort()
            if not self._is_closed:
                self._overrun()
            return
        _probe_peer(transport)
        timer = asyncio.get_running_loop().call_later(REQUEST_WITHIN_S, transport.abort)
        self._open[handler] = (transport, timer)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Take note of the end of a connection."""
        if handler in self._open:
            self._open.pop(handler)[1].cancel()
        super().connection_lost(handler, exc)

    def abort(self) -> None:
        """Close every connection without a response, and each new one."""
        self._is_closed = True
        for transport, _timer in self._open.values():
            transport.abort()

    async def pause(self, *, is_meant: bool) -> None:
        """Wait before a connection is closed without a response; ``is_meant``: by the handler."""
        if not is_meant:
            self._unreadable()
        if self._paused < PAUSED_MAX:
            self._paused += 1
            try:
                await asyncio.sleep(PAUSE_S)
            finally:
                self._paused -= 1

    async def _whole(self, request: web.BaseRequest) -> Any:  # noqa: ANN401  # aiohttp wants a response; see `_Connection`
        body = bytearray()
        async for part in request.content.iter_any():
            body += part
            if len(body) > BODY_BYTES_MAX:
                self._unreadable()
                return None
        if (known := self._open.get(request.protocol)) is not None:
            known[1].cancel()
        return await self._answer(request, bytes(body))


def allow_connections(wanted: int) -> int:
    """Raise this process's soft limit of file descriptors as far as that is needed; return what it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - DESCRIPTORS_KEPT))


def _probe_peer(transport: asyncio.Transport) -> None:
    connected = transport.get_extra_info("socket")
    for name, value in KEEPALIVE_S:
        if (option := getattr(socket, name, None)) is not None:  # not everywhere
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
