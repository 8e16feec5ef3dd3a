"""Serves /livez, /readyz, /leader and /metrics. It judges nothing: each page shows what another part says."""

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.edge.seat import Seat
from coordinator.edge.vitals import Vitals
from coordinator.settings import SettingsError

CLOSE_WITHIN_S = 0.5


class Pages:
    """The four pages.

    Args:
        vitals: whether this process lives and is ready.
        seat: whether it leads.
        metrics: what is counted.
        read_gauges: called before the metrics are shown.
    """

    def __init__(self, vitals: Vitals, seat: Seat, metrics: Metrics, read_gauges: Callable[[], None]) -> None:
        self._vitals = vitals
        self._seat = seat
        self._metrics = metrics
        self._read_gauges = read_gauges

    @asynccontextmanager
    async def serve(self, host: str, port: int, log: Log) -> AsyncIterator[None]:
        """Serve them while the block runs.

        Raises:
            SettingsError: the address is not to be had.
        """
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/leader", self._leader)
        app.router.add_get("/metrics", self._metrics_page)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_WITHIN_S)
        await runner.setup()
        try:
            try:
                await _site(runner, host, port).start()
            except OSError as error:
                names = "IDENTIFY_HTTP_HOST, IDENTIFY_HTTP_PORT"
                line = f"{names}: {host} port {port} is not to be had ({error.strerror or error}); give another"
                raise SettingsError(line) from error
            log.info("HTTP is served", addresses=[_address(*name[:2]) for name in runner.addresses])
            yield
        finally:
            await runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return _answer(self._vitals.why_dead())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._vitals.why_unready())

    async def _leader(self, _request: web.Request) -> web.Response:
        return _answer(None if self._seat.is_leading else "not the leader")

    async def _metrics_page(self, _request: web.Request) -> web.Response:
        self._read_gauges()
        page = generate_latest(self._metrics.registry)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _site(runner: web.AppRunner, host: str, port: int) -> web.BaseSite:
    """Return what listens there. ``::`` is every address of both families, and where IPv6 is off every one of IPv4.

    Raises:
        OSError: the address is not to be had.
    """
    if host != "::":
        return web.TCPSite(runner, host, port)
    if not socket.has_dualstack_ipv6():
        return web.TCPSite(runner, "0.0.0.0", port)  # noqa: S104  # as asked
    try:  # asyncio alone would listen on `::` for IPv6 only
        listening = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:  # IPv6 is switched off for every interface
            raise
        return web.TCPSite(runner, "0.0.0.0", port)  # noqa: S104  # as asked
    return web.SockSite(runner, listening)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _answer(trouble: str | None) -> web.Response:
    return web.Response(text="ok\n") if trouble is None else web.Response(status=503, text=f"{trouble}\n")
