"""The queue of many processes: the managed requester of the wire contract, over nats-py. It keeps no schedule.

While NATS or every coordinator is away its shards wait: nothing passes, and nothing is raised into a bot.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from nats_identify import attempt as words
from nats_identify import wire
from nats_identify.attempt import SendAnswer, SendCancel, SendRequest
from nats_identify.clock import Clock, now_ns
from nats_identify.driver import AttemptQueue, Entry, Message
from nats_identify.nats_connection import CLOSE_WITHIN_S, FLUSH_WITHIN_S, NatsClient, open_connection
from nats_identify.nats_options import DEFAULT_URL, NatsOptions

OUTBOX_MOST = 10_000
"""So many messages wait for the connection; beyond it the oldest are dropped, and renewals make up for them."""

LOOK_S = 1.0
"""How often to look whether a connection that belongs to the bot has come back; our own says so itself."""

INFO_TIMEOUT_S = 1.0
"""How long to wait for the limits before asking without them."""

logger = logging.getLogger("nats_identify")


class NatsQueue(AttemptQueue):
    """One queue for the shards of a bot in all its processes, kept by coordinators on NATS.

    Over a connection of the bot's own::

        queue = NatsQueue(connection)

    or with a connection of its own, which it keeps alive for good::

        async with NatsQueue.connect("nats://127.0.0.1:4222") as queue:
            async with queue.turn(shard_id):
                ...

    Args:
        connection: a nats-py client. It stays the bot's: it is not closed here.
        prefix: the bot's subjects, ``IDENTIFY_PREFIX`` of its coordinators.
        client: a name for people, such as the pod; the host's by default.
        clock: nanoseconds that only grow; tests bring their own.

    Raises:
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
        super().__init__(client=(client or socket.gethostname())[:128], clock=clock)
        self._subjects = wire.Subjects(prefix)
        self._connection = connection
        self._options: NatsOptions | None = None  # of a connection of our own
        self._outbox: deque[tuple[str, bytes, str]] = deque(maxlen=OUTBOX_MOST)
        self._inbox = ""
        self._subscribed_to: Client | None = None
        self._reconnects = 0
        self._is_answered = True

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
        """Withdraw every asking, end every wait, and close the connection if it is ours."""
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

    async def info(self, *, timeout_s: float = INFO_TIMEOUT_S) -> wire.Info | None:
        """The limits as a coordinator knows them, or None where none answers."""
        connection = self._connection
        if connection is None or not connection.is_connected:
            return None
        try:
            reply = await connection.request(self._subjects.info, b"", timeout=timeout_s)
            return wire.Info.model_validate_json(reply.data)
        except (nats.errors.Error, TimeoutError, ValidationError):
            return None

    async def _start(self) -> Self:
        self._keep_running()
        return self

    # --- the one loop

    def _post(self, entry: Entry, message: Message) -> None:
        match message:
            case SendRequest() if self._connection is None or not self._connection.is_connected:
                return  # an old request must not arrive long after; the next renewal follows the reconnect
            case SendRequest(bucket, request):
                payload = request.model_dump_json(exclude_none=True).encode()
                self._outbox.append((self._subjects.request(bucket), payload, entry.attempt.request_id))
            case SendCancel(bucket, request_id):
                payload = wire.Cancelled(request_id=request_id).model_dump_json().encode()
                self._outbox.append((self._subjects.cancel(bucket), payload, ""))
            case SendAnswer(to, outcome):
                self._outbox.append((to, wire.Answered(outcome=outcome).model_dump_json().encode(), ""))
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                connection = await self._connected()
                self._tick()
                await self._publish_outbox(connection)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                logger.warning("NATS: %s; the shards wait", type(error).__name__)
                await asyncio.sleep(LOOK_S)  # the connection is broken: there is nothing else to wait for
                continue
            if not self._outbox or not connection.is_connected:
                await self._sleep(most_s=LOOK_S)

    async def _connected(self) -> Client:
        """Return the connection, with our inbox on it; renew everything after a reconnect."""
        connection = self._connection
        if self._options is not None and (connection is None or connection.is_closed):
            connection = self._connection = await self._open(self._options)
        if connection is None or connection.is_closed:
            raise nats.errors.ConnectionClosedError
        reconnects = connection.stats["reconnects"]
        if connection is not self._subscribed_to:
            self._inbox = connection.new_inbox()
            await connection.subscribe(f"{self._inbox}.*", cb=self._on_reply)
            info = await self.info()
            if info is not None and info.max_concurrency is not None:
                self._adopt(info.max_concurrency)
            self._subscribed_to = connection
        elif reconnects == self._reconnects:
            return connection
        self._reconnects = reconnects
        for entry in list(self._entries.values()):
            self._drive(entry, words.Reconnected())
        return connection

    async def _open(self, options: NatsOptions) -> NatsClient:
        return await open_connection(
            options,
            NatsClient(),
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
            subject, payload, inbox = self._outbox.popleft()
            await connection.publish(subject, payload, reply=f"{self._inbox}.{inbox}" if inbox else "")

    # --- what NATS calls

    async def _on_reply(self, message: Msg) -> None:
        if message.headers and message.headers.get("Status"):
            if self._is_answered:
                logger.warning("nobody listens on %s: is a coordinator running?", self._subjects.requests)
            self._is_answered = False
            entry = self._entries.get(message.subject.rpartition(".")[2])
            if entry is not None:
                self._progressed(entry, words.Tell(None, None, "no_answer", near=False))
            return
        try:
            reply = wire.decode_reply(message.data)
        except ValidationError:
            logger.debug("a reply that is none of this contract was ignored")
            return
        self._is_answered = True
        self._received(message.subject.rpartition(".")[2], words.Received(reply, message.reply))
        self._wake.set()

    async def _on_reconnected(self) -> None:
        self._wake.set()

    async def _on_error(self, error: Exception) -> None:
        logger.warning("NATS: %s: %s; the shards wait", type(error).__name__, error)
