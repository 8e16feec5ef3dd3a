"""One websocket conversation, from HELLO to the close frame; it judges nothing and shares no state.

Frames are read and written by tasks of their own, so that neither latency nor a slow READY holds back a
heartbeat. What is ordered from outside (`hang_up`, `invalidate` …) queues up behind the frames on their way.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp import WSMsgType, web

from nats_identify.testing import client_frames, events, payloads
from nats_identify.testing.backend import Backend
from nats_identify.testing.client_frames import Fields, RefusedError
from nats_identify.testing.codes import AFTER_IDENTIFY, ENDS_SESSION, CloseCode, Op
from nats_identify.testing.delay_line import DelayLine
from nats_identify.testing.doors import Door, DoorState
from nats_identify.testing.encoding import Encoder
from nats_identify.testing.sessions import Session

HEARTBEATS_MISSED: Final = 2
"""Heartbeat intervals without a heartbeat after which a client is disconnected. Discord's figure is not documented."""

GOODBYE_MAX_S: Final = 10.0
"""A client that reads nothing is not waited for any longer when its connection closes."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What all connections of a gateway have in common.

    Attributes:
        heartbeat_interval_s: what HELLO asks for.
        guilds_per_shard: how many guilds READY announces.
    """

    heartbeat_interval_s: float
    guilds_per_shard: int


@dataclass(frozen=True, slots=True)
class _Close:
    """The last thing on a line: the close frame."""

    code: int


class Connection:
    """One client at the simulated gateway."""

    def __init__(
        self,
        number: int,
        socket: web.WebSocketResponse,
        transport: asyncio.BaseTransport | None,
        encoder: Encoder,
        backend: Backend,
        options: ConnectionOptions,
        door: Door,
    ) -> None:
        self.number = number
        self.session: Session | None = None
        self._socket = socket
        self._transport = transport
        self._encoder = encoder
        self._backend = backend
        self._options = options
        self._door_name, self._fault = door.name, door.state  # a door that changes concerns later clients
        self._incoming: DelayLine[str | bytes | _Close] = DelayLine(backend.delays.frame_latency_s)
        self._outgoing: DelayLine[payloads.Payload | _Close] = DelayLine(backend.delays.frame_latency_s)
        self._timeout = asyncio.timeout(None)
        self._shard_id: int | None = None
        self._our_code: int | None = None
        self._client_code: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Talk until either side hangs up."""
        self._backend.record.add(events.Connected(self._backend.clock(), self.number, self._door_name))
        writing = self._in_background(self._write())
        self._in_background(self._read())
        self._in_background(self._greet())
        try:
            code = await self._converse()
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_MAX_S):
                    await self.hang_up(code)
                    await writing
        finally:
            for task in self._tasks:
                task.cancel()
            self._leave()

    async def hang_up(self, code: int) -> None:
        """Close after the frames already on their way; 1006 cuts the connection. The first code counts."""
        if self._our_code is None:
            self._our_code = code
            await self._outgoing.put(_Close(code))

    async def reconnect(self) -> None:
        """Ask the client to reconnect and resume (op 7)."""
        await self._outgoing.put(payloads.control(Op.RECONNECT))

    async def invalidate(self, *, resumable: bool) -> None:
        """Send Invalid Session (op 9); unless resumable, the session ends here."""
        if not resumable:
            self.forget_session()
        await self._outgoing.put(payloads.control(Op.INVALID_SESSION, resumable))

    async def dispatch(self, name: str, data: object) -> None:
        """Send an event of the session; without a session, nothing."""
        if self.session is not None:
            self.session.sequence += 1
            await self._outgoing.put(payloads.dispatch(name, self.session.sequence, data))

    def forget_session(self) -> None:
        """End the session, so that it cannot be resumed; the connection may log in afresh."""
        if self.session is not None and self.session.connection == self.number:
            self._backend.sessions.forget(self.session)
        self.session = None

    async def _read(self) -> None:
        while (message := await self._socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            await self._incoming.put(message.data)
        # The frame's own code: the socket's is 1006 where a client does not wait for the answer to its frame.
        code = message.data if message.type is WSMsgType.CLOSE else self._socket.close_code
        await self._incoming.put(_Close(code or CloseCode.ABNORMAL))

    async def _write(self) -> None:
        with suppress(ConnectionError):  # the client is gone: the reader notices, and ends the conversation
            while not isinstance(frame := await self._outgoing.get(), _Close):
                encoded = self._encoder.encode(frame)
                if isinstance(encoded, str):
                    await self._socket.send_str(encoded)
                else:
                    await self._socket.send_bytes(encoded)
            if frame.code != CloseCode.ABNORMAL:
                await self._socket.close(code=frame.code)
            elif isinstance(self._transport, asyncio.WriteTransport):
                self._transport.abort()

    async def _converse(self) -> int:
        """Handle frames until the end. Return the code to close with."""
        try:
            async with self._timeout:
                while not isinstance(frame := await self._incoming.get(), _Close):
                    await self._handle(frame)
        except RefusedError as refused:
            return refused.code
        except TimeoutError:
            missed = events.HeartbeatMissed(self._backend.clock(), self.number, self._shard_id)
            self._backend.record.add(missed)
            self.forget_session()
            return CloseCode.SESSION_TIMED_OUT
        if self._our_code is None:
            self._client_code = frame.code
        return frame.code

    async def _greet(self) -> None:
        if self._fault is DoorState.NO_HELLO:
            return
        await asyncio.sleep(self._backend.delays.hello_delay_s())
        if self._our_code is None:
            interval_ms = round(self._options.heartbeat_interval_s * 1000)
            await self._outgoing.put(payloads.control(Op.HELLO, {"heartbeat_interval": interval_ms}))
            self._extend_timeout()
            if self._fault is DoorState.HANGS_UP:
                await self.hang_up(CloseCode.UNKNOWN_ERROR)

    async def _handle(self, frame: str | bytes) -> None:
        op, data = client_frames.parse(frame)
        if self._fault is DoorState.NO_HELLO:
            return
        match op:
            case Op.HEARTBEAT:
                self._extend_timeout()
                await self._outgoing.put(payloads.control(Op.HEARTBEAT_ACK))
            case Op.IDENTIFY | Op.RESUME if self._fault is not DoorState.OPEN:
                return  # no answer
            case Op.IDENTIFY:
                await self._identify(client_frames.mapping(data))
            case Op.RESUME:
                await self._resume(client_frames.mapping(data))
            case _ if op not in AFTER_IDENTIFY:
                raise RefusedError(CloseCode.UNKNOWN_OPCODE)
            case _ if self.session is None:
                raise RefusedError(CloseCode.NOT_AUTHENTICATED)

    def _extend_timeout(self) -> None:
        timeout_s = HEARTBEATS_MISSED * self._options.heartbeat_interval_s
        self._timeout.reschedule(asyncio.get_running_loop().time() + timeout_s)

    def _check_login(self, data: Fields) -> None:
        if self.session is not None:
            raise RefusedError(CloseCode.ALREADY_AUTHENTICATED)
        if not self._backend.knows(data.get("token")):
            raise RefusedError(CloseCode.AUTHENTICATION_FAILED)

    async def _identify(self, data: Fields) -> None:
        """Have it judged this moment; what earns a close code is not judged, it starts no session."""
        self._check_login(data)
        self._shard_id, shard_count = client_frames.shard(data)
        self.session = self._backend.identify(self.number, self._shard_id, shard_count)
        if self.session is None:
            await self.invalidate(resumable=False)
        else:
            self._in_background(self._welcome(self.session))

    async def _welcome(self, session: Session) -> None:
        await asyncio.sleep(self._backend.delays.ready_delay_s())
        if self.session is not session:
            return  # it was invalidated meanwhile
        shard = session.shard_id, session.shard_count
        guild_ids = list(payloads.guild_ids(*shard, self._options.guilds_per_shard))
        ready = payloads.ready(session.session_id, self._backend.resume_url, *shard, guild_ids)
        self._backend.record.add(events.BecameReady(self._backend.clock(), self.number, session.shard_id))
        await self.dispatch("READY", ready)
        for guild_id in guild_ids:
            await self.dispatch("GUILD_CREATE", payloads.guild(guild_id))

    async def _resume(self, data: Fields) -> None:
        """Take the session over. Nothing is replayed: a session has no events while it has no connection."""
        self._check_login(data)
        session = self._backend.sessions.find(data.get("session_id"))
        sequence = data.get("seq")
        if session is not None and (not isinstance(sequence, int) or sequence > session.sequence):
            raise RefusedError(CloseCode.INVALID_SEQUENCE)
        self._shard_id = None if session is None else session.shard_id
        self._backend.record.add(
            events.Resumed(self._backend.clock(), self.number, self._shard_id, accepted=session is not None)
        )
        if session is None:
            await self.invalidate(resumable=False)
            return
        session.connection = self.number
        self.session = session
        await self.dispatch("RESUMED", {"_trace": []})

    def _leave(self) -> None:
        by_gateway = self._client_code is None
        code = self._our_code if self._client_code is None else self._client_code
        left = events.Disconnected(
            at_ns=self._backend.clock(),
            connection=self.number,
            shard_id=self._shard_id,
            close_code=int(CloseCode.ABNORMAL if code is None else code),
            by_gateway=by_gateway,
        )
        self._backend.record.add(left)
        if self._client_code in ENDS_SESSION:
            self.forget_session()

    def _in_background(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
