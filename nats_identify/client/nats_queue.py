"""The queue of many processes: the managed requester of the wire contract, over nats-py. It keeps no schedule.

While NATS or every coordinator is away its shards wait: no turn is granted, and nothing is raised into a bot.
"""

import asyncio
import contextlib
import logging
import random
import socket
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from nats_identify import wire
from nats_identify.client.absence import Absence
from nats_identify.client.base_queue import BaseQueue, Message, PendingAcquire
from nats_identify.client.outage import OutageLog, address_of, addresses_in
from nats_identify.client.requester import Received, Reconnected, SendAnswer, SendCancel, SendRequest
from nats_identify.clock import NS_PER_S, Clock, now_ns
from nats_identify.loops import Move, belongs_here, cancel, let_go
from nats_identify.nats_connection import CLOSE_WITHIN_S, FLUSH_WITHIN_S, NatsClient, open_connection
from nats_identify.nats_options import DEFAULT_URL, NatsOptions
from nats_identify.printable import printable

OUTBOX_MAX = 10_000
"""Messages that wait for the connection at most; then the oldest are dropped, and renewals replace them."""

LOOK_S = 1.0
"""Interval of the checks for a connection, and for a reply to each request."""

ANSWER_WITHIN_NS = 3 * NS_PER_S
"""A shard is notified when NATS is away, or its request unanswered, for this long: with the check, within 5 s."""

SILENCE_NS = 5 * NS_PER_S
"""Unanswered requests are logged after this; a standby takes over from a dead leader in less."""

REPLIES_MAX = 16_384
REPLIES_BYTES_MAX = 8 * 1024 * 1024
"""Replies, and bytes of replies, that wait to be handled at most; more are dropped, and renewals replace them.
A process with 4096 shards has 4096 replies after a reconnect, of about 300 bytes each."""

PROBE = "info"
"""The last token of a probe's reply subject; a request has its random id there."""

SUBJECT_SHOWN_MAX = 100
"""Characters of a wrong reply subject that are shown in the log."""

INFO_TIMEOUT_S = 1.0
"""How long to wait for the limits before requests are sent without them."""

logger = logging.getLogger("nats_identify")


class NatsQueue(BaseQueue):
    """One queue for the shards of a bot in all its processes, kept by coordinators on NATS.

    Over a connection of the bot's own::

        queue = NatsQueue(connection)

    or with a connection of its own, which it keeps alive for good, and opens anew in another event loop or process::

        async with NatsQueue.connect("nats://127.0.0.1:4222") as queue:
            async with queue.turn(shard_id):
                ...

    Args:
        connection: a nats-py client. It stays the bot's, and is not closed here. It reads as nats-py does: a message
            with an invalid header block stops its reading until its pings time out. `connect` has no such weakness.
        prefix: the bot's subjects, ``IDENTIFY_PREFIX`` of its coordinators.
        client: a name for people, such as the pod; the host's by default.
        clock: nanoseconds that only grow; tests bring their own.

    Raises:
        TypeError: the connection is none.
        ValueError: the prefix is no NATS subject.
    """

    def __init__(
        self,
        connection: Client | None,
        *,
        prefix: str = "identify",
        client: str | None = None,
        clock: Clock = now_ns,
    ) -> None:
        if connection is not None and not isinstance(connection, Client):
            message = f"{type(connection).__name__} is no NATS connection; for a URL there is NatsQueue.connect(url)"
            raise TypeError(message)
        super().__init__(client=wire.client_name(client or socket.gethostname()), clock=clock)
        self._subjects = wire.Subjects(prefix)
        self._connection = connection
        self._options: NatsOptions | None = None  # of a connection of our own
        self._outbox: deque[tuple[str, bytes, str, dict[str, str] | None]] = deque(maxlen=OUTBOX_MAX)
        self._inbox = ""
        self._subscribed_to: Client | None = None
        self._opening: asyncio.Task[Client] | None = None
        self._reconnects = 0
        self._is_deaf = False  # the inbox was refused, and nothing has arrived since it was subscribed to again
        self._log = OutageLog(self._subjects.requests)
        self._absence = Absence(random.random)

    @classmethod
    def connect(
        cls,
        servers: str | Sequence[str] = DEFAULT_URL,
        *,
        prefix: str = "identify",
        client: str | None = None,
        **options: Any,  # noqa: ANN401  # they are nats-py's own
    ) -> Self:
        """Return a queue with a connection of its own; use it with ``async with``, or ``await`` it and `close` it.

        It does not wait for NATS: the shards do. What can never work is refused here.

        Args:
            servers: a URL, several separated by commas as in ``NATS_URL``, or a sequence of them. Credentials in
                them are percent-decoded.
            prefix: as above.
            client: as above.
            options: those of `nats.connect`, such as ``user_credentials``, ``nkeys_seed``, ``tls``,
                ``tls_handshake_first`` or ``inbox_prefix``.

        Raises:
            NatsOptionsError: a `ValueError`; an address, a file or a combination of options can never work.
            TypeError: `nats.connect` has no such option.
        """
        queue = cls(None, prefix=prefix, client=client)
        queue._options = NatsOptions.of(servers, **options)
        return queue

    def __await__(self) -> Generator[Any, None, Self]:
        return self._start().__await__()

    async def __aenter__(self) -> Self:
        return await self._start()

    async def close(self) -> None:
        """Withdraw every request, end every wait, and close the connection if it is the queue's own."""
        await super().close()
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        # A bot's own client under uvloop raises a RuntimeError where it has lost its connection.
        with contextlib.suppress(nats.errors.Error, OSError, RuntimeError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._publish_outbox(connection)
                if self._options is None and connection.is_connected:
                    await connection.flush(timeout=FLUSH_WITHIN_S)
        if self._options is not None:
            await connection.close()

    @property
    def description(self) -> str:
        """What it is, for people: where it asks and with which prefix, without what opens the server."""
        connection = self._connection
        connected = connection.connected_url.netloc if connection is not None and connection.connected_url else ""
        servers = [connected] if self._options is None else list(self._options.addresses.servers)
        at = addresses_in(servers) or "a connection of the bot's own"
        return f"a NatsQueue at {printable(at)} with the prefix {self._subjects.prefix}"

    async def info(self, *, timeout_s: float = INFO_TIMEOUT_S) -> wire.Info | None:
        """The limits as a coordinator knows them, or None where none answers.

        Raises:
            QueueClosedError: the queue was closed.
            RuntimeError: the queue is in use in another event loop, which runs.
        """
        self._enter()
        connection = self._connection
        if connection is None or not connection.is_connected:
            return None
        return await self._ask_info(connection, timeout_s)

    async def _ask_info(self, connection: Client, timeout_s: float) -> wire.Info | None:
        try:
            reply = await connection.request(self._subjects.info, b"", timeout=timeout_s)
            return wire.Info.model_validate_json(reply.data)
        except (nats.errors.Error, TimeoutError, ValidationError):  # unknown limits: requests are answered with them
            return None

    async def _start(self) -> Self:
        self._enter()
        self._keep_running()
        return self

    # --- one event loop after the other

    @property
    def _is_ours(self) -> bool:
        """Whether the connection is the queue's own, and not the bot's."""
        return self._options is not None

    def _enter(self) -> None:
        borrowed = None if self._is_ours or self._is_closed else self._connection
        if borrowed is not None and not belongs_here(borrowed):
            message = (
                "the NATS connection of this queue belongs to another event loop, or to a parent process: make one "
                "here and a NatsQueue with it, or use NatsQueue.connect, which opens its own where it is used"
            )
            raise RuntimeError(message)
        super()._enter()

    def _begin_anew(self, move: Move) -> None:
        cancel(self._opening, move)
        self._end_opening(may_cancel=False)
        connection, self._subscribed_to = self._connection, None
        if connection is not None and (self._is_ours or not belongs_here(connection)):
            self._connection = None
            if self._is_ours:
                let_go(connection, move)
        super()._begin_anew(move)
        if move is Move.FORKED:
            self._outbox.clear()  # the parent sends it itself
        lasting = [sent for sent in self._outbox if not sent[2]]  # all but requests, which name the former inbox
        self._outbox = deque(lasting, OUTBOX_MAX)

    # --- the one loop

    def _send(self, pending: PendingAcquire, message: Message) -> None:
        match message:
            case SendRequest() if self._connection is None or not self._connection.is_connected:
                return  # an old request must not arrive long after; the next renewal follows the reconnect
            case SendRequest(bucket, request):
                payload = request.model_dump_json(exclude_none=True).encode()
                headers = None if pending.trace is None else pending.trace.headers
                self._outbox.append((self._subjects.request(bucket), payload, pending.requester.request_id, headers))
            case SendCancel(bucket, request_id):
                payload = wire.Cancelled(request_id=request_id).model_dump_json().encode()
                self._outbox.append((self._subjects.cancel(bucket), payload, "", None))
            case SendAnswer(to, outcome):
                self._outbox.append((to, wire.Answered(outcome=outcome).model_dump_json().encode(), "", None))
        self._wake.set()

    async def _run(self) -> None:
        try:
            while True:
                await self._go_on()
        finally:
            if self._runner is asyncio.current_task():  # else the queue works in another event loop by now
                self._end_opening()

    async def _go_on(self) -> None:
        """One round of the loop: connect, tick, publish, wait."""
        connection = None
        try:
            connection = await self._connected()
            self._tick()
            if connection is not None:
                await self._publish_outbox(connection)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            self._log.error(error)
            self._look(is_connected=False)
            await asyncio.sleep(LOOK_S)  # the connection is broken: there is nothing else to wait for
            return
        is_connected = connection is not None and connection.is_connected
        self._look(is_connected=is_connected)
        if not self._outbox or not is_connected:
            await self._sleep(max_s=LOOK_S)

    async def _connected(self) -> Client | None:
        """Return the connection, with our inbox on it, or None while it is opened; after a reconnect, renew all."""
        connection = self._connection
        if self._options is not None and (connection is None or connection.is_closed):
            connection = await self._opened(self._options)
            if connection is None:
                return None
        if connection is None or connection.is_closed:
            message = "the bot's own connection is closed for good: make a new one, and a NatsQueue with it"
            raise nats.errors.Error(message)
        reconnects = connection.stats["reconnects"]
        if connection is not self._subscribed_to:
            self._inbox = connection.new_inbox()
            await connection.subscribe(
                f"{self._inbox}.*",
                cb=self._on_reply,
                pending_msgs_limit=REPLIES_MAX,
                pending_bytes_limit=REPLIES_BYTES_MAX,
            )
            info = await self._ask_info(connection, INFO_TIMEOUT_S) if connection.is_connected else None
            if info is not None and info.max_concurrency is not None:
                self._adopt(info.max_concurrency)
            self._subscribed_to = connection
        elif reconnects == self._reconnects:
            return connection
        self._reconnects = reconnects
        self._renew_all()
        return connection

    def _renew_all(self) -> None:
        """Let every request renew, spread over seconds: what was sent before may be lost."""
        now_ns, all_pending = self._clock(), list(self._pending.values())
        unplaced = (pending.requester.unplaced_since_ns for pending in all_pending)
        waited_ns = max((now_ns - since_ns for since_ns in unplaced if since_ns is not None), default=0)
        reconnected = Reconnected(random.random(), waited_ns)  # noqa: S311  # jitter
        for pending in all_pending:
            pending.unanswered_since_ns = None  # it counts from the renewal that follows
            self._step(pending, reconnected)

    async def _opened(self, options: NatsOptions) -> Client | None:
        """Return a connection of our own once it is open; meanwhile the loop goes on each second."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(options), name="NatsQueue connects")
        await asyncio.wait({self._opening}, timeout=LOOK_S)
        if not self._opening.done():
            return None
        opening, self._opening = self._opening, None
        self._connection = opening.result()
        return self._connection

    def _end_opening(self, *, may_cancel: bool = True) -> None:
        """Give up an opening; a connection that it has made is kept, to be closed."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        if not opening.done():
            if may_cancel:
                opening.cancel()
        elif not opening.cancelled() and opening.exception() is None:
            self._connection = opening.result()

    def _look(self, *, is_connected: bool) -> None:
        """Log what is wrong, or over, and notify the shards that wait."""
        now_ns, where = self._clock(), self._where()
        lasts_ns = self._log.connection(is_connected, where, now_ns)
        if not is_connected:
            self._report_silence(0 if lasts_ns >= ANSWER_WITHIN_NS else ANSWER_WITHIN_NS)
            return
        if self._absence.is_due(now_ns):
            self._outbox.append((self._subjects.info, b"", PROBE, None))
        unanswered_ns = min(self._report_silence(ANSWER_WITHIN_NS), lasts_ns)
        if unanswered_ns >= SILENCE_NS:
            self._log.no_coordinator(where, now_ns)

    def _where(self) -> str:
        """The address of NATS, without any secret."""
        if self._connection is not None:
            return address_of(self._connection)
        return addresses_in(list(self._options.addresses.servers) if self._options else [])

    async def _open(self, options: NatsOptions) -> NatsClient:
        return await open_connection(
            options,
            NatsClient(unreadable=self._drop, subscribed_again=self._on_subscribed_again),
            name=f"nats-identify {self._client}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,
            connect_timeout=2,
            ping_interval=10,
            error_cb=self._on_error,
            reconnected_cb=self._on_reconnected,
        )

    async def _publish_outbox(self, connection: Client) -> None:
        """Send what is due; answers and cancels wait for the connection."""
        while self._outbox and connection.is_connected:
            subject, payload, inbox, headers = self._outbox.popleft()
            if headers is not None and not connection._server_info.get("headers"):  # noqa: SLF001  # no public look
                headers = None  # the server would close the connection
            await connection.publish(subject, payload, f"{self._inbox}.{inbox}" if inbox else "", headers)

    # --- what NATS calls

    async def _on_reply(self, message: Msg) -> None:
        request_id = message.subject.rpartition(".")[2]
        if self._is_deaf:
            self._is_deaf = False
            self._renew_all()  # what was answered meanwhile did not arrive
        if message.headers and message.headers.get("Status"):
            self._absence.no_responders(self._clock())
            self._log.no_coordinator(self._where(), self._clock(), is_absent=True)
            pending = self._pending.get(request_id)
            if pending is not None:
                self._no_answer(pending)
            return
        if request_id == PROBE:
            if self._absence.probe_answered():
                self._renew_all()
            return
        try:
            reply = self._read(message)
        except ValueError as error:
            self._drop(error)
            return
        self._log.coordinator_answers(self._clock())
        if self._absence.request_answered():
            self._renew_all()
        self._received(request_id, Received(reply, message.reply))
        self._wake.set()

    def _read(self, message: Msg) -> wire.Granted | wire.Queued | wire.Refused:
        """Return the reply.

        The answer to a grant goes to the grant's reply subject. One that is not its confirm subject is not used: a
        shard would publish to any subject that the sender chooses, such as JetStream's API.

        Raises:
            ValueError: it is none that can be used.
        """
        if len(message.data) > wire.REPLY_BYTES_MAX:
            why = f"it has {len(message.data)} bytes; a reply has {wire.REPLY_BYTES_MAX} at most"
            raise ValueError(why)
        reply = wire.decode_reply(message.data)
        if isinstance(reply, wire.Granted) and message.reply != self._subjects.confirm(reply.bucket, reply.grant_id):
            why = f"a grant whose answer is to go to {message.reply[:SUBJECT_SHOWN_MAX]!r}"
            raise ValueError(why)
        return reply

    def _drop(self, why: Exception) -> None:
        self._log.unusable_reply(why, self._where(), self._clock())

    def _on_subscribed_again(self) -> None:
        """Probe: the answer shows that the inbox is open."""
        self._is_deaf = True
        self._outbox.append((self._subjects.info, b"", PROBE, None))
        self._wake.set()

    async def _on_reconnected(self) -> None:
        self._wake.set()

    async def _on_error(self, error: Exception) -> None:
        is_lost = isinstance(error, OSError | nats.errors.UnexpectedEOF | nats.errors.StaleConnectionError)
        if self._connection is not None and self._connection.is_connected and not is_lost:
            self._log.error_while_connected(error, self._where(), self._clock())
            return
        self._log.error(error)
        self._wake.set()
