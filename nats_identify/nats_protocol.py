"""Reads NATS messages off the wire as the server writes them: parted by single spaces. It leaves the rest to nats-py.

nats-py parts them by any white space. A vertical tab in a subject, which the server lets through, then stops
its reading until the pings give up, seconds later: one misbehaving client could silence every coordinator.

A subscription with a handler of its own is served right here, without a queue and a task for each message: what is
not worth an event is dropped at a few microseconds, so that a flood does not hold up the shards.
"""

from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.protocol.parser import Parser

_END: Final = b"\r\n"
_MESSAGES: Final = (b"MSG ", b"HMSG ")

Handler = Callable[[bytes, bytes, bytes, bytes], None]
"""Takes subject, reply subject, header block and body; it neither waits nor raises."""


class Protocol(Parser):
    """nats-py's parser, with messages read strictly.

    Attributes:
        handlers: what takes the messages of a subscription, by its id; messages of others go to nats-py.
    """

    nc: Client

    def __init__(self, nc: Client) -> None:
        super().__init__(nc)
        self.handlers: dict[bytes, Handler] = {}

    async def parse(self, data: bytes = b"") -> None:
        """Take in what arrived; hand on every message that is complete."""
        self.buf.extend(data)
        while (line := self._handle()) is not None:
            start = len(line) + len(_END)
            if not line.startswith(_MESSAGES):
                rest = bytes(self.buf[start:])
                del self.buf[start:]
                await super().parse()
                self.buf.extend(rest)
                continue
            words = line.split(b" ")
            size = int(words[-1])
            body = bytes(self.buf[start : start + size])
            del self.buf[: start + size + len(_END)]
            await self._hand_on(words, body)

    def _handle(self) -> bytes | None:
        """Serve the handlers; return the first complete line that is not theirs, which the buffer then begins with."""
        buffer, position = self.buf, 0
        line = None
        while (end := buffer.find(_END, position)) >= 0:
            words = bytes(buffer[position:end]).split(b" ")
            start = end + len(_END)
            if words[0] not in {b"MSG", b"HMSG"}:
                line = bytes(buffer[position:end])
                break
            stop = start + int(words[-1])
            if len(buffer) < stop + len(_END):
                break
            handler = self.handlers.get(words[2])
            if handler is None:
                line = bytes(buffer[position:end])
                break
            is_plain = words[0] == b"MSG"
            middle = start if is_plain else start + int(words[-2])
            reply = words[3] if len(words) == (5 if is_plain else 6) else b""
            handler(words[1], reply, bytes(buffer[start:middle]), bytes(buffer[middle:stop]))
            position = stop + len(_END)
        del buffer[:position]
        return line

    async def _hand_on(self, words: list[bytes], body: bytes) -> None:
        match words:
            case [b"MSG", subject, sid, *reply, _]:
                header_size = 0
            case [b"HMSG", subject, sid, *reply, header, _]:
                header_size = int(header)
        reply_to = reply[0] if reply else b""
        await self.nc._process_msg(int(sid), subject, reply_to, body[header_size:], body[:header_size])  # noqa: SLF001
