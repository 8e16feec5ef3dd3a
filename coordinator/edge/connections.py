"""The two connections to NATS, kept for as long as the process lives. Message contents are handled elsewhere.

`store` commits the ledger and `traffic` carries requests and replies: one that is clogged must not hold up
the other. Neither buffers while it is disconnected: what is sent late is worse than what is not sent.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from nats import errors
from nats.aio.msg import Msg

from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.settings import Settings
from nats_identify.nats_connection import REFUSED_SUBSCRIPTION, NatsClient, open_connection
from nats_identify.nats_protocol import Handler

TROUBLE: Final = (
    errors.Error,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What a call to JetStream raises where no answer comes, or one that is not of JetStream: another client of the account
may answer on its subjects, with JSON of any shape, number or depth. It is no defect of this process, and never ends it.
"""

WARN_EVERY_S: Final = 10.0
"""The least time between two log lines of the same trouble."""

OLDEST_SERVER: Final = (2, 11)
"""Older servers acknowledge two winners of one compare-and-set in a cluster."""

ANSWER_BYTES_MAX: Final = 65_536
"""A larger answer to a request is not read: JetStream's to a publish has some hundred bytes."""

UNSENT_BYTES_MAX: Final = 8 * 1024 * 1024
"""With more than this on its way to the server, a connection takes no more."""

_NOT_IN_A_SUBJECT: Final = re.compile(r"\s")

_TIMEOUTS: Final[dict[str, Any]] = {
    "ping_interval": 2,
    "max_outstanding_pings": 2,
    "max_reconnect_attempts": -1,
    "reconnect_time_wait": 0.5,
    "pending_size": 0,  # nothing is buffered while disconnected
}


class CannotServeError(Exception):
    """This process cannot go on; the operator must act: the message names the action."""


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """A connection's name, and where its troubles are reported.

    Attributes:
        private: no reply is sent to a subject that begins like this: a requester could otherwise have us
            write where only we may, the ledger first of all.
    """

    name: str
    url: str
    private: tuple[bytes, ...]
    log: Log
    metrics: Metrics
    lost: "asyncio.Future[None]"
    returned: Callable[[], None] | None = None


class Connection(NatsClient):
    """A NATS client that sends no reply to a private subject, and serves handlers straight off the wire.

    Attributes:
        received: messages that were handled straight off the wire; it only grows.
    """

    def __init__(self, context: ConnectionContext) -> None:
        super().__init__(unreadable=self._drop)
        self._context = context
        self._warned_at: dict[str, float] = {}
        self._is_leaving = False
        self._first = 0  # how many of the messages that are not written yet go before all others
        self._answers = ""  # what the subjects of answers begin with
        self._asked: dict[bytes, asyncio.Future[tuple[bytes, bytes]]] = {}
        self._asked_count = 0
        self.received = 0

    @property
    def is_clustered(self) -> bool:
        """Whether the server is one of several."""
        return bool(self._server_info.get("cluster"))

    @property
    def can_send(self) -> bool:
        """Whether what is published now is sent now."""
        return self.is_connected and self.pending_data_size < UNSENT_BYTES_MAX

    def publish_now(
        self, to: str, payload: bytes, *, answer_to: str = "", header: bytes = b"", is_first: bool = False
    ) -> None:
        """Publish without a task to wait for: `publish` takes five times as long.

        All that is published in one turn of the loop is written at once, in the next one or by `write_out`. Call it
        only while `can_send`.

        Args:
            to: a subject.
            payload: the message.
            answer_to: a subject, or empty.
            header: a header block, or empty.
            is_first: it goes before all that is not, so far as that is not written yet.

        Raises:
            nats.errors.BadSubjectError: a subject would break the line.
            nats.errors.MaxPayloadError: the server does not take as much.
        """
        if not to or _NOT_IN_A_SUBJECT.search(to + answer_to):
            raise errors.BadSubjectError
        size = len(header) + len(payload)
        if size > self.max_payload:
            raise errors.MaxPayloadError
        line = f"HPUB {to} {answer_to} {len(header)} {size}" if header else f"PUB {to} {answer_to} {size}"
        message = b"%b\r\n%b%b\r\n" % (line.encode(), header, payload)
        pending = self._pending
        if not pending:
            self._first = 0
        if is_first:
            pending.insert(self._first, message)
            self._first += 1
        else:
            pending.append(message)
        self._pending_data_size += len(message)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    async def open(self) -> None:
        """Subscribe to the answers to `ask`."""
        self._answers = f"{self.new_inbox()}."
        await self.receive(f"{self._answers}*", Handler(self._take_answer, lambda *_: None, ANSWER_BYTES_MAX))

    def ask(
        self, to: str, payload: bytes, *, header: bytes = b"", within_s: float
    ) -> "asyncio.Future[tuple[bytes, bytes]]":
        """Send a request now; return the future header block and body of the first answer.

        `request` takes three times as long, on the way of each grant.

        Args:
            to: a subject.
            payload: the message.
            header: a header block, or empty.
            within_s: how long to wait.

        The future raises:
            nats.errors.OutboundBufferLimitError: nothing can be sent now.
            nats.errors.TimeoutError: there was no answer in time.
            nats.errors.BadSubjectError, nats.errors.MaxPayloadError: as of `publish_now`.
        """
        loop = asyncio.get_running_loop()
        self._asked_count += 1
        name = str(self._asked_count)
        answer: asyncio.Future[tuple[bytes, bytes]] = loop.create_future()
        self._asked[name.encode()] = answer
        timer = loop.call_later(within_s, _fail, answer, errors.TimeoutError())

        def forget(_: object) -> None:
            timer.cancel()
            del self._asked[name.encode()]

        answer.add_done_callback(forget)
        try:
            if not self.can_send:
                raise errors.OutboundBufferLimitError
            self.publish_now(to, payload, answer_to=self._answers + name, header=header)
        except errors.Error as error:
            _fail(answer, error)
        else:
            self.write_out()
        return answer

    async def request(self, *arguments: Any, **options: Any) -> Msg:  # noqa: ANN401  # nats-py's own
        """Do as nats-py does; but while there is no connection it would keep, for good, that it waits for an answer.

        Raises:
            nats.errors.OutboundBufferLimitError: there is no connection: nothing is buffered.
        """
        if not self.is_connected:
            raise errors.OutboundBufferLimitError
        return await super().request(*arguments, **options)

    def _take_answer(self, subject: bytes, _reply: bytes, header: bytes, body: bytes) -> None:
        answer = self._asked.get(subject.rpartition(b".")[2])
        if answer is not None and not answer.done():
            answer.set_result((header, body))

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        if not self._pending:
            self._first = 0
        await super()._send_command(cmd, priority)

    async def receive(self, subject: str, handler: Handler) -> None:
        """Subscribe, and have each message handled straight off the wire: no queue, no task, no limit to overrun.

        Args:
            subject: may have wildcards.
            handler: takes the messages; what it raises is logged.
        """
        private = self._context.private

        def take(subject: bytes, reply: bytes, header: bytes, body: bytes) -> None:
            self.received += 1
            try:
                handler.take(subject, b"" if reply.startswith(private) else reply, header, body)
            except Exception as error:  # whatever was sent: reading must go on
                self._could_not_handle(error)

        def pass_over(subject: bytes, reply: bytes, header_bytes: int, body_bytes: int) -> None:
            self.received += 1
            try:
                handler.pass_over(subject, b"" if reply.startswith(private) else reply, header_bytes, body_bytes)
            except Exception as error:  # as above
                self._could_not_handle(error)

        subscription = await self.subscribe(subject, cb=_never)
        sid = str(subscription._id).encode()  # noqa: SLF001  # nats-py's own parser needs it too
        self._ps.handlers[sid] = Handler(take, pass_over, handler.bytes_max)

    def _could_not_handle(self, error: Exception) -> None:
        self._context.metrics.drop("unreadable")
        self.warn_throttled("unreadable", f"a message could not be handled: {error!r}")

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if reply.startswith(self._context.private):
            reply = b""
        await super()._process_msg(sid, subject, reply, data, headers)

    def _drop(self, error: Exception) -> None:
        self._context.metrics.drop("unreadable")
        self._context.log.debug("a message that cannot be read was dropped", error=repr(error))

    async def on_error(self, error: Exception) -> None:
        """Count and log an error of the client library."""
        if isinstance(error, errors.SlowConsumerError):
            self._context.metrics.drop("slow_consumer")
        said = str(error) or type(error).__name__
        # The server says each refused subscription once, and they are few. A refused reply it says each time.
        is_deaf = REFUSED_SUBSCRIPTION in said.lower()
        self.warn_throttled(said if is_deaf else type(error).__name__, said)

    def warn_throttled(self, kind: str, said: str) -> None:
        """Log a trouble; of one kind, one about every ten seconds."""
        now = monotonic()
        if now - self._warned_at.get(kind, -WARN_EVERY_S) < WARN_EVERY_S:
            return
        self._warned_at[kind] = now
        context = self._context
        if self.is_connected:
            context.log.warning("trouble with NATS", connection=context.name, error=said)
        else:
            context.log.warning(
                "NATS is not reachable; trying on", connection=context.name, url=context.url, error=said
            )

    async def on_reconnected(self) -> None:
        """Log that the connection is back."""
        self._context.metrics.connected.labels(self._context.name).set(1)
        self._context.log.info("NATS is back", connection=self._context.name, url=self._context.url)
        if self._context.returned is not None:
            self._context.returned()
        await self.check_server()

    async def on_disconnected(self) -> None:
        """Log that the connection is lost; nats-py keeps reconnecting."""
        self._context.metrics.connected.labels(self._context.name).set(0)
        self._pending, self._pending_data_size = [], 0  # the next connection would send it, late
        if not self.is_closed:
            self._context.log.warning("NATS is gone; trying on", connection=self._context.name, url=self._context.url)

    async def on_closed(self) -> None:
        """Fail ``lost``: this connection will never come back."""
        if not self._is_leaving and not self._context.lost.done():
            reason = self.last_error or "closed by the server"
            message = f"NATS has closed the {self._context.name} connection for good ({reason}); see its log"
            self._context.lost.set_exception(CannotServeError(message))

    async def leave(self) -> None:
        """Send what is on its way, and close."""
        self._is_leaving = True
        await self.close()

    async def check_server(self) -> None:
        """Fail ``lost`` where the server is too old for a cluster's ledger; warn where it is too old for one later."""
        version = self.connected_server_version
        if (version.major, version.minor) >= OLDEST_SERVER:
            return
        name = f"nats-server {version.major}.{version.minor}.{version.patch}"
        oldest = ".".join(str(number) for number in OLDEST_SERVER)
        if not self.is_clustered:
            self._context.log.warning(f"{name} is older than {oldest}; update it before you run a cluster")
        elif not self._context.lost.done():
            message = f"{name} in a cluster can let two coordinators win; update it to {oldest} or newer"
            self._context.lost.set_exception(CannotServeError(message))


def _fail(answer: "asyncio.Future[tuple[bytes, bytes]]", error: errors.Error) -> None:
    if not answer.done():
        answer.set_exception(error)


async def _never(message: Msg) -> None:
    raise AssertionError(message)  # the parser hands every message to the handler


async def connect(
    settings: Settings,
    name: str,
    *,
    private: tuple[str, ...] = (),
    returned: Callable[[], None] | None = None,
    log: Log,
    metrics: Metrics,
    lost: "asyncio.Future[None]",
) -> Connection:
    """Return a connection, once there is one; until then, keep trying and log it.

    Args:
        settings: the server's URL and our credentials.
        name: what the connection carries, for people.
        private: no reply is sent to subjects that begin like this.
        returned: called whenever the connection was lost, and is there again.
        log: gets the troubles.
        metrics: counts what is dropped.
        lost: gets the reason why this process cannot go on.

    Raises:
        CannotServeError: a file of the settings has become unusable since they were read.
        SettingsError: so have the certificates.
    """
    options = settings.nats()
    guarded = tuple(beginning.encode() for beginning in private)
    connection = Connection(ConnectionContext(name, options.shown, guarded, log, metrics, lost, returned))
    opening = open_connection(
        options,
        connection,
        name=f"identify-coordinator {settings.identify_replica_name} {name}",
        error_cb=connection.on_error,
        closed_cb=connection.on_closed,
        reconnected_cb=connection.on_reconnected,
        disconnected_cb=connection.on_disconnected,
        **_TIMEOUTS,
    )
    try:
        await opening
    except errors.Error as error:
        raise CannotServeError(str(error)) from error
    metrics.connected.labels(name).set(1)
    await connection.open()
    await connection.check_server()
    return connection
