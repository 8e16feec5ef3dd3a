"""The queue over HTTP: a request is answered when its shard may identify. It keeps no schedule.

Any replica serves it, as one more client of the queue on NATS: the leader grants, and no state of this replica is
touched.

- ``/?shard=N``, any method: as twilight's gateway-queue. Its clients take any response as permission to identify, so
  there is one: 200, at the turn. All else ends in a connection that is closed without a response, after a pause.
- ``POST /identify``: for clients that look at the status, such as Sandwich-Daemon: 200 at the turn, else 400, 401 or
  503.

What becomes of a grant: it is not known when the client sends IDENTIFY. As for a plain requester, it is assumed that
this happens within ``IDENTIFY_GRACE`` after the 200. The 200 is sent only if the grant is valid for all of that time,
and `identified` is reported at the end of it, the latest moment at which the client is assumed to send IDENTIFY. A
process that dies before that reports nothing: then the bucket is held for the full time.
"""

import asyncio
import hmac
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from coordinator.edge.http_server import CLOSE_WITHIN_S, address_of, site_at
from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.edge.silent_server import PAUSE_S, PAUSED_MAX, Answer, SilentServer, allow_connections
from coordinator.settings import Settings, SettingsError
from nats_identify.client.base_queue import BaseQueue
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.client.requester import Place
from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.printable import printable
from nats_identify.queue import SHARD_ID_MAX, Grant
from nats_identify.trouble import Trouble

CHECKED: Final = "/identify"
"""The path of clients that look at the status."""

REMEMBERED_NS: Final = 30 * NS_PER_S
"""A client that disconnects has its place again if it is back within this: Sandwich-Daemon comes back after 5 s."""

BACKLOG: Final = 512
"""Connections that are accepted in one turn of the loop at most."""

NAME_MAX: Final = 64
"""Characters of a client's name, in its request and in the log."""

DIGITS_MAX: Final = len(str(SHARD_ID_MAX))

_PROXY_HEADERS: Final = ("Via", "Forwarded", "X-Forwarded-For", "X-Real-IP")

_TOKEN: Final = "the HTTP queue closed requests with a wrong token; give the client IDENTIFY_QUEUE_HTTP_TOKEN as Bearer"  # noqa: S105  # a log line
_TROUBLES: Final = {
    "token": _TOKEN,
    "shard": "the HTTP queue closed requests without a shard's number; send ?shard=0, or leave it out for shard 0",
    "path": "the HTTP queue closed requests for a path that it has not; ask for /?shard=N, or POST /identify",
    "unreadable": "the HTTP queue closed requests that it cannot read; find the client, and shorten headers and body",
    "full": "the HTTP queue is full; raise IDENTIFY_QUEUE_HTTP_MAX_WAITING or the limit of open files, or find the "
    "client that asks too often",
    "replaced": "two connections ask for one shard, and the newer one has the place; name each process with &client=",
    "late": "grants came too late for the HTTP queue and were declined; look at the load of this process and of NATS",
    "proxy": "requests for /?shard= come through a proxy, and clients take its 502 or 504 as permission to identify; "
    "connect the client directly, or use POST /identify",
}
"""Why a request is not answered, as the metric has it, and what to do about it."""

Key = tuple[str, str, int]


@dataclass(slots=True, eq=False)
class _Waiting:
    """One connection that waits, and its place in the line."""

    place: Place
    acquire: "asyncio.Task[Grant]"


@dataclass(slots=True)
class _Asked:
    """What a request asks for; ``is_checked``: its client looks at the status."""

    remote: str
    is_checked: bool
    shard_id: int = 0
    client: str = ""
    refused: str = field(default="", kw_only=True)


class HttpQueue:
    """Serves the queue over HTTP.

    Args:
        settings: with ``identify_queue_http_port``.
        queue: where the clients' shards wait; it is closed in the end.
        metrics: counts the ends of requests by their outcome.
        log: for addresses, and for each kind of trouble once in half a minute.

    Raises:
        SettingsError: the token cannot be read.
    """

    def __init__(self, settings: Settings, queue: BaseQueue, *, metrics: Metrics, log: Log) -> None:
        token = settings.http_queue_token()
        self._settings = settings
        self._queue = queue
        self._metrics = metrics
        self._log = log
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._grace_ns = settings.timing.grace_ns
        self._waiting: dict[Key, _Waiting] = {}
        self._left: OrderedDict[Key, tuple[Place, int]] = OrderedDict()
        self._used: set[asyncio.TimerHandle] = set()
        self._troubles = {name: Trouble() for name in _TROUBLES}
        self._closing: asyncio.Task[None] | None = None
        metrics.http_queue_waiting.set_function(lambda: len(self._waiting))

    @asynccontextmanager
    async def serve(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Serve while the block runs, or until ``stop``.

        Raises:
            SettingsError: the address is not to be had.
        """
        most = self._settings.identify_queue_http_max_waiting + PAUSED_MAX
        allowed = allow_connections(most)
        if allowed < most:
            self._log.warning("the limit of open files allows the HTTP queue fewer connections; raise it", most=allowed)
        server = SilentServer(
            self._respond,
            connections_max=allowed,
            unreadable=lambda: self._count("unreadable"),
            overrun=lambda: self._count("full"),
        )
        runner = web.ServerRunner(server, shutdown_timeout=CLOSE_WITHIN_S)
        await runner.setup()
        bridge = _Bridge(self._log)
        logging.getLogger("nats_identify").addHandler(bridge)
        try:
            await self._listen(runner)
            stopping = asyncio.create_task(self._close_after(stop, server, runner), name="HTTP queue stops")
            try:
                yield
            finally:
                stopping.cancel()
                await self._close(server, runner)
        finally:
            await runner.cleanup()
            logging.getLogger("nats_identify").removeHandler(bridge)

    async def _listen(self, runner: web.ServerRunner) -> None:
        host, port = self._settings.identify_queue_http_host, self._settings.identify_queue_http_port or 0
        try:
            await site_at(runner, host, port, backlog=BACKLOG).start()
        except OSError as error:
            names = "IDENTIFY_QUEUE_HTTP_HOST, IDENTIFY_QUEUE_HTTP_PORT"
            line = f"{names}: {host} port {port} is not to be had ({error.strerror or error}); give another"
            raise SettingsError(line) from error
        self._log.info("the queue is served over HTTP", addresses=[address_of(*name[:2]) for name in runner.addresses])

    async def _close_after(self, stop: asyncio.Event, server: SilentServer, runner: web.ServerRunner) -> None:
        await stop.wait()
        await self._close(server, runner)

    @property
    def _is_closed(self) -> bool:
        return self._closing is not None

    async def _close(self, server: SilentServer, runner: web.ServerRunner) -> None:
        """Close once; each caller waits for the end of it, and the cancellation of one does not stop it."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._end(server, runner), name="HTTP queue closes")
        await asyncio.shield(self._closing)

    async def _end(self, server: SilentServer, runner: web.ServerRunner) -> None:
        """Close every connection without a response, and withdraw every request."""
        server.abort()
        for timer in self._used:  # not reported: whether IDENTIFY was sent is not known, and the full hold counts
            timer.cancel()
        for site in list(runner.sites):
            await site.stop()
        await self._queue.close()

    # --- one request

    async def _respond(self, request: web.BaseRequest, body: bytes) -> Answer | None:
        asked = self._read(request, body)
        refused = asked.refused or ("full" if self._is_full() else "")
        if refused:
            self._count(refused, client=asked.remote)
            return _refusal(refused) if asked.is_checked else None
        self._troubles["full"].over(now_ns())
        key = (asked.remote, asked.client, asked.shard_id)
        grant = await self._granted(key)
        if grant is None or self._is_closed:
            return None
        transport = request.transport
        if transport is None or transport.is_closing():
            self._queue.decline(grant)
            return None
        self._use(grant)
        self._log.debug("granted over HTTP", shard_id=grant.shard_id, client=_name(key), waited_ms=grant.waited_ms)
        return Answer(200, f"shard {grant.shard_id} may identify now\n")

    def _read(self, request: web.BaseRequest, body: bytes) -> _Asked:
        """Return what is asked for, or why it is refused; nothing of its query, headers or body is logged."""
        path = request.path
        is_checked = request.method == "POST" and (path == CHECKED or path.startswith(f"{CHECKED}/"))
        remote = request.remote or ""
        if not is_checked and path != "/":
            return _Asked(remote, is_checked, refused="path")
        if not self._is_allowed(request):
            return _Asked(remote, is_checked, refused="token")
        if not is_checked and any(name in request.headers for name in _PROXY_HEADERS):
            self._note("proxy", client=remote)
        shard_id = _checked_shard(request, body) if is_checked else _shard(request.query.getall("shard", ["0"]))
        if shard_id is None:
            return _Asked(remote, is_checked, refused="shard")
        return _Asked(remote, is_checked, shard_id, request.query.get("client", "")[:NAME_MAX])

    def _is_allowed(self, request: web.BaseRequest) -> bool:
        if self._authorization is None:
            return True
        given = request.headers.get("Authorization", "").encode(errors="replace")
        return hmac.compare_digest(given, self._authorization)

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._settings.identify_queue_http_max_waiting

    async def _granted(self, key: Key) -> Grant | None:
        """Wait for a grant with enough time left; return None where a newer connection has taken the place.

        A client that disconnects gives its place back at once: the request is withdrawn, and what it had waited is
        remembered.
        """
        place, grant = self._place_for(key), None
        while grant is None or now_ns() + self._grace_ns > grant.use_by_ns:
            if grant is not None:
                self._count("late", client=_name(key))
            acquiring = self._queue.acquire(key[2], replaces=grant, place=place)
            acquire = asyncio.ensure_future(acquiring)
            self._waiting[key] = mine = _Waiting(place, acquire)
            try:
                await asyncio.wait({acquire})
            except asyncio.CancelledError:
                self._withdraw(acquire)
                self._remember(key, place)
                self._count("left")
                raise
            finally:
                if self._waiting.get(key) is mine:
                    del self._waiting[key]
            if acquire.cancelled():
                return None
            grant = acquire.result()
        return grant

    def _place_for(self, key: Key) -> Place:
        """Return the place of this client and shard: of a connection that waits, or that waited a moment ago."""
        older = self._waiting.get(key)
        if older is not None and older.acquire.cancel():
            self._count("replaced", client=_name(key))
            return older.place
        place, left_at_ns = self._left.pop(key, (None, 0))
        return Place() if place is None or now_ns() - left_at_ns > REMEMBERED_NS else place

    def _remember(self, key: Key, place: Place) -> None:
        self._left[key] = (place, now_ns())
        self._left.move_to_end(key)
        if len(self._left) > self._settings.identify_queue_http_max_waiting:
            self._left.popitem(last=False)

    def _withdraw(self, acquire: "asyncio.Task[Grant]") -> None:
        """Withdraw the request; a grant that has just come is declined, since nothing was sent with it."""
        if not acquire.cancel() and not acquire.cancelled() and acquire.exception() is None:
            self._queue.decline(acquire.result())

    # --- what becomes of a grant

    def _use(self, grant: Grant) -> None:
        """The 200 is sent now: report `identified` when the client has had its time."""
        self._metrics.http_queue.labels("granted").inc()

        def report() -> None:
            self._used.discard(timer)
            self._queue.identified(grant)

        timer = asyncio.get_running_loop().call_later(self._grace_ns / NS_PER_S, report)
        self._used.add(timer)

    # --- troubles

    def _count(self, outcome: str, **fields: str) -> None:
        self._metrics.http_queue.labels(outcome).inc()
        if outcome in _TROUBLES:
            self._note(outcome, **fields)

    def _note(self, trouble: str, **fields: str) -> None:
        if self._troubles[trouble].note(now_ns()) is not None:
            shown = {name: printable(text, NAME_MAX) for name, text in fields.items()}
            self._log.warning(_TROUBLES[trouble], **shown)


def queue_of(settings: Settings) -> NatsQueue:
    """Return the queue on NATS, over a connection of its own, which is opened for the first request.

    Raises:
        SettingsError: a file of the settings has become unusable.
    """
    options, name = settings.nats(), f"{settings.identify_replica_name} HTTP"
    servers, prefix = options.addresses.servers, settings.identify_prefix
    return NatsQueue.connect(servers, prefix=prefix, client=name, **options.settings)


class _Bridge(logging.Handler):
    """Passes what the queue's client logs on to this process's log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, "the HTTP queue's client: " + record.getMessage(), exc_info=record.exc_info)


def _shard(given: list[str]) -> int | None:
    """Return the shard, or None where this names none; ``given``: every ``shard`` of the query."""
    (text, *others) = given
    is_number = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX and not others
    return int(text) if is_number and int(text) <= SHARD_ID_MAX else None


def _checked_shard(request: web.BaseRequest, body: bytes) -> int | None:
    """Return the shard of ``/identify/N``, of the query, or of ``shard_id`` in the JSON that Sandwich-Daemon sends."""
    named = request.path.removeprefix(CHECKED).removeprefix("/")
    if named:
        return _shard([named])
    if "shard" in request.query:
        return _shard(request.query.getall("shard"))
    try:
        sent = json.loads(body)
        return _shard([str(sent["shard_id"])])
    except (ValueError, TypeError, LookupError, RecursionError):  # a UnicodeDecodeError is a ValueError
        return None


def _refusal(why: str) -> Answer:
    """Return the response to a client that looks at the status; Sandwich-Daemon reads X-Retry-After-Ms."""
    match why:
        case "token":
            return Answer(401, "wrong token\n", WWW_Authenticate="Bearer")
        case "shard":
            return Answer(400, 'no shard: POST /identify/3, or {"shard_id": 3} as the body\n')
        case _:
            retry_s = round(PAUSE_S)
            text = "the queue is full here; try again\n"
            return Answer(503, text, Retry_After=str(retry_s), X_Retry_After_Ms=str(retry_s * 1000))


def _name(key: Key) -> str:
    remote, client, _shard_id = key
    return f"{client} at {remote}" if client else remote
