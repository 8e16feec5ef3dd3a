"""Opens every connection to NATS: of the library, the command line and the coordinator. It uses no subject.

`NatsClient` is nats-py's client without the cases in which it sends a password in clear, waits for ever, ends its
attempts or its reading in silence, or raises because it is closed.
"""

import asyncio
import ssl
from collections import UserString
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, SupportsIndex, TypeVar
from urllib.parse import ParseResult

from nats import errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.protocol.command import sub_cmd

from nats_identify.nats_credentials import read_credentials
from nats_identify.nats_options import NatsOptions, NatsOptionsError
from nats_identify.nats_protocol import StrictParser

FLUSH_WITHIN_S: Final = 2
"""A server that does not confirm by then what was sent to it is not waited for when a connection is closed."""

CLOSE_WITHIN_S: Final = 4
"""The longest that `NatsClient.close` takes: a flush, and as much again for a websocket to end."""

READ_BYTES_MAX: Final = 262_144
"""What is read at once: as much as an event loop takes from a socket in one turn."""

REFUSED_SUBSCRIPTION: Final = "permissions violation for subscription"
"""In the server's words, in small letters, where this user may not subscribe: once for each subscription."""

SUBSCRIBE_AGAIN_S: Final = 30.0
"""A refused subscription is sent again after this: an operator who mends the permission ends no connection."""

ClientT = TypeVar("ClientT", bound="NatsClient")


async def open_connection(options: NatsOptions, client: ClientT, **behaviour: Any) -> ClientT:  # noqa: ANN401  # nats-py's own
    """Connect this client, and return it.

    Args:
        options: where NATS is; its files are checked again.
        client: a new one.
        behaviour: more options of `nats.connect`, such as callbacks and durations; those of ``options`` come first.

    Raises:
        nats.errors.Error: a file cannot be used, or nats-py gave up.
        OSError: there is no such server, if ``behaviour`` does not say to try on.
    """
    try:
        options.check()
    except NatsOptionsError as error:
        raise errors.Error(str(error)) from None
    client.asks_for_tls = options.wants_tls
    try:
        await client.connect(list(options.addresses.servers), **{**behaviour, **options.settings})
    except BaseException:  # a cancellation, too
        client.abort()
        raise
    return client


class _Reader(asyncio.StreamReader):
    """Drops the bytes that the parser is going to skip before they are copied: a flood of large messages is cheap."""

    def __init__(self, parser: StrictParser, limit: int) -> None:
        super().__init__(limit)
        self._parser = parser

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        if not self._buffer:  # type: ignore[attr-defined]  # else the parser has not seen all that came before
            data = self._parser.skip(bytes(data))  # bytes already: no copy
        if data:
            super().feed_data(data)


class _Transport(TcpTransport):
    """A TCP connection that writes and ends at once, and drops what is written after its end.

    A TLS connection to a server that hangs would otherwise wait half a minute for the server's farewell. asyncio
    drops what is written too late, uvloop raises a RuntimeError; `drain`, which follows, raises what nats-py handles.
    """

    def __init__(self, parser: StrictParser) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as nats-py has it
        self._parser = parser

    def __bool__(self) -> bool:
        return True  # nats-py would replace it

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        loop = asyncio.get_running_loop()
        reader = _Reader(self._parser, buffer_size)
        protocol = asyncio.StreamReaderProtocol(reader)
        connecting = loop.create_connection(lambda: protocol, uri.hostname, uri.port)  # type: ignore[arg-type]  # has both
        transport, _ = await asyncio.wait_for(connecting, connect_timeout)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._bare_io_reader, self._bare_io_writer = self._io_reader, self._io_writer = reader, writer

    async def read(self, buffer_size: int) -> bytes:
        assert self._io_reader is not None, "it is connected"  # noqa: S101  # as nats-py has it
        return await self._io_reader.read(max(buffer_size, READ_BYTES_MAX))

    def close(self) -> None:
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    async def wait_closed(self) -> None:
        if self._io_writer is not None:  # a cancellation here would be raised in all that wait for it later
            await asyncio.shield(self._io_writer.wait_closed())

    def write(self, payload: bytes) -> None:
        with suppress(RuntimeError):
            super().write(payload)  # type: ignore[no-untyped-call]  # as nats-py has it

    def writelines(self, payload: list[bytes]) -> None:
        with suppress(RuntimeError):
            super().writelines(payload)  # type: ignore[no-untyped-call]  # as above

    def write_at_once(self, payload: list[bytes]) -> bool:
        """Write, and return True; False where something waits to be written already, for which `drain` must wait."""
        if self._io_writer is None or self._io_writer.transport.get_write_buffer_size():
            return False
        self.writelines(payload)
        return True


class NatsClient(Client):
    """nats-py's client, made safe to use while NATS is away, stopped, or not what it should be, whatever is sent to it.

    Args:
        unreadable: called with the error for each message that cannot be read and was dropped; it raises nothing.
        subscribed_again: called when refused subscriptions have been sent again; it raises nothing.

    Attributes:
        asks_for_tls: a server without TLS is sent nothing, above all no password.
    """

    def __init__(
        self,
        *,
        unreadable: Callable[[Exception], None] | None = None,
        subscribed_again: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._ps: StrictParser = StrictParser(self)
        self._unreadable = unreadable
        self._subscribed_again = subscribed_again
        self._subscribe_timer: asyncio.TimerHandle | None = None
        self.asks_for_tls = False
        self._is_greeted = False

    async def close(self) -> None:
        """Send what is on its way, and close, within `CLOSE_WITHIN_S`. It raises nothing but a cancellation."""
        with suppress(errors.Error, OSError):  # TimeoutError is an OSError
            async with asyncio.timeout(CLOSE_WITHIN_S):
                try:
                    if self.is_connected:
                        await self.flush(timeout=FLUSH_WITHIN_S)
                finally:
                    self.abort()  # nothing that follows waits for the server
                    await super().close()

    def abort(self) -> None:
        """Drop what is on its way, and the TCP connection; nats-py is not notified."""
        self._pending = []
        self._pending_data_size = 0
        if self._subscribe_timer is not None:
            self._subscribe_timer.cancel()
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]  # as above

    def write_out(self) -> None:
        """Write what is published before the event loop runs other tasks: a turn of it sooner than nats-py.

        Where the socket is full nats-py writes it, which waits until there is room.
        """
        if not (self._pending and self.is_connected and isinstance(self._transport, _Transport)):
            return
        if self._transport.write_at_once(self._pending):
            self._pending, self._pending_data_size = [], 0

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Drop a message that cannot be read.

        nats-py would end its reading, silently and until its pings give up, at a subject that is not UTF-8 or a header
        block that is none. Every client that may publish to this one could send such a message.
        """
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except (ValueError, LookupError, errors.Error) as error:
            if self._unreadable is not None:
                self._unreadable(error)

    async def _process_err(self, err_msg: str) -> None:
        await super()._process_err(err_msg)
        if REFUSED_SUBSCRIPTION in err_msg.lower() and self._subscribe_timer is None:
            loop = asyncio.get_running_loop()
            self._subscribe_timer = loop.call_later(SUBSCRIBE_AGAIN_S, self._subscribe_again)

    def _subscribe_again(self) -> None:
        """Send every subscription again: the server leaves those as they are that it has, by their number."""
        self._subscribe_timer = None
        if not self.is_connected:
            return  # a reconnect sends them all
        for sub in self._subs.values():
            command = sub_cmd(sub._subject, sub._queue or "", sub._id)  # noqa: SLF001  # as nats-py sends it
            self._pending.append(command)
            self._pending_data_size += len(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
        if self._subscribed_again is not None:
            self._subscribed_again()

    async def _connect_to_server(self, s: Srv) -> None:
        if self._transport is None and s.uri.scheme in {"nats", "tls"}:
            self._transport = _Transport(self._ps)
        with _cancellable():
            await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        self._is_greeted = False
        try:
            with _cancellable():
                await super()._process_connect_init()
        except (errors.Error, OSError) as error:
            if self._is_greeted:
                raise
            raise errors.Error(self._why_not_greeted(error)) from error
        except Exception as error:  # nats-py would end its attempts for good, in silence
            message = f"the server's greeting cannot be used ({type(error).__name__})"
            raise errors.Error(message) from error

    def _why_not_greeted(self, error: Exception) -> str:
        said = str(error) or type(error).__name__
        if isinstance(error, ssl.SSLCertVerificationError):
            return said
        if self.options["tls_handshake_first"]:
            return (
                f"no TLS handshake before INFO ({said}); is it for a server with handshake_first? "
                "If not, unset NATS_TLS_HANDSHAKE_FIRST (tls_handshake_first)"
            )
        return (
            f"the server sends no INFO ({said}); if it wants TLS first (handshake_first), "
            "set NATS_TLS_HANDSHAKE_FIRST=1 (tls_handshake_first=True)"
        )

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection:
            self._is_greeted = True
            if self.asks_for_tls and not self._is_encrypted():
                if info.get("tls_available"):
                    info["tls_required"] = True  # nats-py goes by this alone
                if not info.get("tls_required"):
                    message = "the server offers no TLS, and the URL or an option asks for it"
                    raise errors.Error(message)
        await super()._process_info(info, initial_connection)

    def _is_encrypted(self) -> bool:
        scheme = "" if self._current_server is None else self._current_server.uri.scheme
        return scheme == "wss" or bool(self.options["tls_handshake_first"])

    def _connect_command(self) -> bytes:
        try:
            return super()._connect_command()
        except errors.Error:
            raise
        except Exception as error:  # of a key; its text may hold a part of it
            message = f"the credentials cannot be used ({type(error).__name__})"
            raise errors.Error(message) from None

    def _read_creds_user_jwt(self, creds: str | UserString | Path) -> bytearray:
        """Read the JWT; nats-py's own never ends where there is none."""
        return bytearray(_credentials(creds)[0])

    def _read_creds_user_nkey(self, creds: str | UserString | Path) -> bytearray:
        return bytearray(_credentials(creds)[1])

    # What follows lets a cancellation through: without it the task that is cancelled never ends.

    async def request(self, *arguments: Any, **options: Any) -> Msg:  # noqa: ANN401  # nats-py's own
        """Do as nats-py does."""
        with _cancellable():
            return await super().request(*arguments, **options)

    async def flush(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # nats-py's own
        """Do as nats-py does."""
        with _cancellable():
            await super().flush(*arguments, **options)

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: ANN401  # nats-py's signature
        with _cancellable():
            return await super()._flush_pending(force_flush)


@contextmanager
def _cancellable() -> Iterator[None]:
    """Raise a cancellation that was dropped in the block: by nats-py, or by `asyncio.wait_for` before Python 3.12."""
    task = asyncio.current_task()
    asked_before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > asked_before:
            raise asyncio.CancelledError


def _credentials(source: str | UserString | Path) -> tuple[bytes, bytes]:
    try:
        return read_credentials(source)
    except ValueError as error:
        message = f"the credentials file {error}"
        raise errors.Error(message) from None
