"""A client's connection to a gateway, HELLO to close, with its heartbeat; it never identifies by itself."""

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Final, Self

import aiohttp

from nats_identify.testing.codes import CloseCode, Op

HELLO_WITHIN_S: Final = 30.0
"""A connection without HELLO after this is given up."""

CLOSE_WITHIN_S: Final = 1.0
"""Time for the gateway to answer a close frame."""

UNREAD_MAX: Final = 1000
"""Frames that wait to be received; beyond it the socket is not read, which slows the gateway down."""


class LinkLostError(Exception):
    """The connection ended, or never came to be; ``code`` is the close code, 1006 where there was none."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the gateway connection ended with close code {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of the gateway: opcode, data, and for a dispatch the event's name."""

    op: int
    data: object
    name: str | None


class Link:
    """A connection after HELLO; its heartbeat runs until it is lost or closed.

    Attributes:
        lost: set when the connection has ended; ``code`` is then its close code.
        sequence: the number of the latest dispatch, None before the first.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, heartbeat_interval_s: float) -> None:
        """Prefer `open`, which connects and waits for HELLO."""
        self.lost = asyncio.Event()
        self.code: int = CloseCode.ABNORMAL
        self.sequence: int | None = None
        self._socket = socket
        self._heartbeat_interval_s = heartbeat_interval_s
        self._acknowledged = True
        self._unread: asyncio.Queue[Frame | None] = asyncio.Queue(UNREAD_MAX)
        self._tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._beat())]

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str) -> Self:
        """Connect and wait for HELLO.

        Raises:
            LinkLostError: it did not come to that.
        """
        query = {"v": "10", "encoding": "json"}
        timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_WITHIN_S)
        socket = None
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                socket = await http.ws_connect(url, params=query, timeout=timeout, max_msg_size=0)
                return cls(socket, await _heartbeat_interval_s(socket))
        except BaseException as error:
            if socket is not None:
                await socket.close(code=CloseCode.UNKNOWN_ERROR)
            if isinstance(error, (aiohttp.ClientError, TimeoutError)):
                raise LinkLostError(CloseCode.ABNORMAL) from error
            raise

    async def send(self, op: Op, data: object) -> None:
        """Send one payload.

        Raises:
            LinkLostError: the connection is gone; whether the payload arrived is not known.
        """
        try:
            await self._socket.send_json({"op": int(op), "d": data})
        except ConnectionError as error:
            raise LinkLostError(self.code) from error

    async def receive(self) -> Frame:
        """Wait for the next frame that is not about the heartbeat.

        Raises:
            LinkLostError: the connection ended, and all its frames were received.
        """
        frame = None if self.lost.is_set() and self._unread.empty() else await self._unread.get()
        if frame is None:
            raise LinkLostError(self.code)
        return frame

    async def close(self, code: int) -> None:
        """Close, with a short wait for the gateway's answer."""
        try:
            await self._socket.close(code=code)  # while it is still read: a cancelled read would cut it
        finally:
            for task in self._tasks:
                task.cancel()
            self.lost.set()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await self._take(json.loads(message.data))
        finally:
            self.code = self._socket.close_code or CloseCode.ABNORMAL
            self.lost.set()
        await self._unread.put(None)

    async def _take(self, payload: dict[str, object]) -> None:
        op, sequence, name = payload.get("op"), payload.get("s"), payload.get("t")
        if isinstance(sequence, int):
            self.sequence = sequence
        match op:
            case Op.HEARTBEAT_ACK:
                self._acknowledged = True
            case Op.HEARTBEAT:
                await self.send(Op.HEARTBEAT, self.sequence)
            case int():
                await self._unread.put(Frame(op, payload.get("d"), name if isinstance(name, str) else None))

    async def _beat(self) -> None:
        """Beat, first after a random part of the interval: a fleet must not beat as one, says Discord.

        Source: https://discord.com/developers/docs/events/gateway#sending-heartbeats
        """
        await asyncio.sleep(self._heartbeat_interval_s * random.random())  # noqa: S311  # not a secret
        while self._acknowledged:
            self._acknowledged = False
            try:
                await self.send(Op.HEARTBEAT, self.sequence)
            except LinkLostError:
                return  # the reader reports it
            await asyncio.sleep(self._heartbeat_interval_s)
        await self._socket.close(code=CloseCode.UNKNOWN_ERROR)  # a zombie, but resumable


async def _heartbeat_interval_s(socket: aiohttp.ClientWebSocketResponse) -> float:
    """Wait for HELLO."""
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise LinkLostError(socket.close_code or CloseCode.ABNORMAL)
    payload = json.loads(message.data)
    return float(payload["d"]["heartbeat_interval"]) / 1000
