"""Serves /livez, /readyz, /leader, /metrics and the page at /. It judges nothing: each shows the state of another part.

One request for each connection, and a connection has an end: half requests can neither use up the descriptors of the
process nor keep a probe from its answer. The few connections that watch the page last longer, and are counted apart.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from coordinator.edge.health import Health
from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.edge.page_server import PageServer
from coordinator.settings import SettingsError

CLOSE_WITHIN_S: Final = 0.5

CONNECTIONS_MAX: Final = 64
"""More at a time, and the oldest is closed. Probes and scrapers need a few; a process may have 256 descriptors."""

CONNECTION_WITHIN_S: Final = 5.0
"""From the first byte to the end of the answer. Kubernetes' probes wait for 1 s to 3 s, Prometheus for 10 s."""

BACKLOG: Final = 16
"""Accepted in one turn of the loop at most: fewer than `CONNECTIONS_MAX`, so that a probe among them is answered."""

KEPT_BUFFER: Final = 64 * 1024
"""Bytes that the kernel keeps for a connection that watches the page; by itself it keeps megabytes for a slow one."""

WARN_EVERY_S: Final = 60.0

SILENT: Final = logging.Logger("coordinator.http", logging.CRITICAL + 1)
"""aiohttp logs a traceback for each request that it cannot read."""


class BoundedServer(web.Server):
    """An HTTP server that keeps at most `CONNECTIONS_MAX` connections, each for `CONNECTION_WITHIN_S` at most.

    Args:
        handler: answers a request.
        log: for the number of closed connections, once a minute at most.
    """

    def __init__(self, handler: Callable[[web.BaseRequest], Any], log: Log) -> None:
        super().__init__(handler, access_log=None, logger=SILENT, lingering_time=0, auto_decompress=False)
        self._log = log
        self._open: dict[web.RequestHandler, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}
        self._kept: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._dropped = 0
        self._warned_at_s = -WARN_EVERY_S

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, and close the oldest where there are too many."""
        super().connection_made(handler, transport)
        timer = asyncio.get_running_loop().call_later(CONNECTION_WITHIN_S, transport.abort)
        self._open[handler] = (transport, timer)
        if len(self._open) > CONNECTIONS_MAX:
            oldest = next(iter(self._open))  # the one that has had the longest time to send its request
            self._forget(oldest).abort()
            self._warn()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Take note of the end of a connection."""
        if handler in self._open:
            self._forget(handler)
        elif handler in self._kept:
            self._kept.pop(handler).cancel()
        super().connection_lost(handler, exc)

    def keep(self, request: web.BaseRequest, within_s: float) -> None:
        """Let the connection of this request last for this time, and count it apart; the caller bounds their number."""
        handler = request.protocol
        if handler in self._open:  # else it is closed already
            transport = self._forget(handler)
            if (connected := transport.get_extra_info("socket")) is not None:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KEPT_BUFFER)
            self._kept[handler] = asyncio.get_running_loop().call_later(within_s, transport.abort)

    def _forget(self, handler: web.RequestHandler) -> asyncio.Transport:
        transport, timer = self._open.pop(handler)
        timer.cancel()
        return transport

    def _warn(self) -> None:
        self._dropped += 1
        now = monotonic()
        if now - self._warned_at_s >= WARN_EVERY_S:
            self._log.warning(
                "HTTP connections were closed before their request was complete; find the client that opens them",
                most=CONNECTIONS_MAX,
                closed=self._dropped,
            )
            self._warned_at_s, self._dropped = now, 0


class HttpServer:
    """The four pages for machines, and the one for people.

    Args:
        health: whether this process lives and is ready.
        is_leading: whether it leads.
        metrics: what is counted.
        read_gauges: called before the metrics are shown.
        page: the page at /.
    """

    def __init__(
        self,
        health: Health,
        is_leading: Callable[[], bool],
        metrics: Metrics,
        read_gauges: Callable[[], None],
        page: PageServer,
    ) -> None:
        self._health = health
        self._is_leading = is_leading
        self._metrics = metrics
        self._read_gauges = read_gauges
        self._page = page
        self._pages: dict[str, Callable[[], web.Response]] = {
            "/livez": lambda: _answer(health.liveness_error()),
            "/readyz": lambda: _answer(health.readiness_error()),
            "/leader": lambda: _answer(None if is_leading() else "not the leader"),
            "/metrics": self._metrics_page,
        }

    @asynccontextmanager
    async def serve(self, host: str, port: int, log: Log) -> AsyncIterator[None]:
        """Serve them while the block runs.

        Raises:
            SettingsError: the address is not to be had.
        """

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            try:
                if self._page.serves(request.path):
                    response = await self._page.answer(request, server.keep)
                else:
                    response = self._respond(request)
            except Exception:  # a fault of ours; aiohttp's own log is silent
                log.exception("a page cannot be shown", page=request.path)
                response = web.Response(status=500, text="see the log\n")
            response.force_close()
            return response

        server = BoundedServer(handle, log)
        runner = web.ServerRunner(server, shutdown_timeout=CLOSE_WITHIN_S)
        await runner.setup()
        try:
            try:
                await site_at(runner, host, port).start()
            except OSError as error:
                names = "IDENTIFY_HTTP_HOST, IDENTIFY_HTTP_PORT"
                line = f"{names}: {host} port {port} is not to be had ({error.strerror or error}); give another"
                raise SettingsError(line) from error
            log.info("HTTP is served", addresses=[address_of(*name[:2]) for name in runner.addresses])
            yield
        finally:
            self._page.watchers.close()
            await runner.cleanup()

    def _respond(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.get(request.path)
        if page is None:
            return web.Response(status=404, text=f"there are /, {', '.join(self._pages)}\n")
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, text="GET alone\n", headers={"Allow": "GET, HEAD"})
        return page()

    def _metrics_page(self) -> web.Response:
        self._read_gauges()
        page = generate_latest(self._metrics.registry)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})


def site_at(runner: web.BaseRunner, host: str, port: int, *, backlog: int = BACKLOG) -> web.BaseSite:
    """Return what listens there. ``::`` is every address of both families, and where IPv6 is off every one of IPv4.

    Raises:
        OSError: the address is not to be had.
    """
    if host != "::":
        return web.TCPSite(runner, host, port, backlog=backlog)
    if not socket.has_dualstack_ipv6():
        return web.TCPSite(runner, "0.0.0.0", port, backlog=backlog)  # noqa: S104  # as asked
    try:  # asyncio alone would listen on `::` for IPv6 only
        listening = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:  # IPv6 is switched off for every interface
            raise
        return web.TCPSite(runner, "0.0.0.0", port, backlog=backlog)  # noqa: S104  # as asked
    return web.SockSite(runner, listening, backlog=backlog)


def address_of(host: str, port: int) -> str:
    """Return it as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _answer(trouble: str | None) -> web.Response:
    return web.Response(text="ok\n") if trouble is None else web.Response(status=503, text=f"{trouble}\n")
