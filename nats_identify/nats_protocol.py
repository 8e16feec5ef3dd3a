"""Reads NATS messages off the wire as the server writes them: parted by single spaces. It leaves the rest to nats-py.

nats-py parts them by any white space. A vertical tab in a subject, which the server lets through, then stops
its reading until the pings give up, seconds later: one misbehaving client could silence every coordinator.

A subscription with a handler of its own is served right here, without a queue and a task for each message: what is
not worth an event is dropped in about two microseconds, and of a message that is too large no byte is kept. What is
not read yet waits at the server, and every other message waits behind it, until the server cuts the connection: reading
must be about as fast as a flood.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client
from nats.protocol.parser import Parser

SERVED_AT_ONCE: Final = 32_768
"""Bytes of messages that are served before the event loop turns: about 1 ms. The ledger's answers are read between."""

_END: Final = b"\r\n"
_MESSAGE: Final = b"MSG"
_MESSAGES: Final = frozenset({_MESSAGE, b"HMSG"})


@dataclass(frozen=True, slots=True)
class Handler:
    """What takes the messages of a subscription. Neither function waits or raises.

    Attributes:
        take: gets subject, reply subject, header block and body.
        pass_over: gets subject, reply subject, and the sizes in bytes of header block and body, of a message that is
            not kept because it is too large.
        bytes_max: the largest header block and body, together, that are kept.
    """

    take: Callable[[bytes, bytes, bytes, bytes], None]
    pass_over: Callable[[bytes, bytes, int, int], None]
    bytes_max: int


class StrictParser(Parser):
    """nats-py's parser, with messages read strictly.

    Attributes:
        handlers: what takes the messages of a subscription, by its id; messages of others go to nats-py.
    """

    nc: Client

    def __init__(self, nc: Client) -> None:
        super().__init__(nc)
        self.handlers: dict[bytes, Handler] = {}

    def reset(self) -> None:
        """Begin anew, with another connection."""
        super().reset()
        self._awaited = 0  # bytes of the first message in the buffer, as soon as they are known
        self._skipped = 0  # bytes that are still to come of a message that is not kept

    async def parse(self, data: bytes = b"") -> None:
        """Take in what arrived; hand on every message that is complete."""
        # What arrives proves more than a pong, which stands behind all that the server has to send: nats-py would give
        # up a connection that is in full use.
        self.nc._pings_outstanding = 0  # noqa: SLF001
        data = self.skip(data)
        buffer = self.buf
        buffer.extend(data)
        if len(buffer) < self._awaited:
            return
        self._awaited = 0
        if len(buffer) > len(data):
            data = bytes(buffer)
        buffer.clear()
        position = 0
        while True:
            position, words = self._serve(data, position)
            if words is None:
                break
            if words:
                position = await self._hand_on(data, position, words)
            else:
                await asyncio.sleep(0)
            if self.buf is not buffer:  # the connection is another by now
                return
        self.buf.extend(data[position:])

    def skip(self, data: bytes) -> bytes:
        """Return what arrived without the rest of a message that is not kept."""
        if not self._skipped:
            return data
        skipped = min(self._skipped, len(data))
        self._skipped -= skipped
        return data[skipped:]

    def _serve(self, data: bytes, position: int) -> tuple[int, list[bytes] | None]:
        """Serve the handlers; return where the first line begins that is not theirs, and its words.

        The words are None where that line, or its message, is not complete yet. They are empty where so much was served
        that the event loop must run its other tasks first.
        """
        handlers, find, size_of_all, turns_at = self.handlers, data.find, len(data), position + SERVED_AT_ONCE
        while (end := find(_END, position)) >= 0:
            if position > turns_at:
                return position, []
            words = data[position:end].split(b" ")
            verb = words[0]
            if verb not in _MESSAGES:
                return position, words
            start, size = end + len(_END), int(words[-1])
            stop = start + size
            handler = handlers.get(words[2])
            if handler is not None:
                is_plain = verb == _MESSAGE
                header_size = 0 if is_plain else int(words[-2])
                reply = words[3] if len(words) == (5 if is_plain else 6) else b""
                if size > handler.bytes_max:
                    handler.pass_over(words[1], reply, header_size, size - header_size)
                    position = min(stop + len(_END), size_of_all)
                    self._skipped = stop + len(_END) - position
                    continue
            if size_of_all < stop + len(_END):
                self._awaited = stop + len(_END) - position
                break
            if handler is None:
                return position, words
            middle = start + header_size
            handler.take(words[1], reply, data[start:middle], data[middle:stop])
            position = stop + len(_END)
        return position, None

    async def _hand_on(self, data: bytes, position: int, words: list[bytes]) -> int:
        """Hand the line, or message, that begins here to nats-py; return where it ends."""
        start = data.find(_END, position) + len(_END)
        match words:
            case [b"MSG", subject, sid, *reply, _]:
                header_size = 0
            case [b"HMSG", subject, sid, *reply, header, _]:
                header_size = int(header)
            case _:
                self.buf.extend(data[position:start])
                await super().parse()
                return start
        middle, stop = start + header_size, start + int(words[-1])
        reply_to = reply[0] if reply else b""
        await self.nc._process_msg(int(sid), subject, reply_to, data[middle:stop], data[start:middle])  # noqa: SLF001
        return stop + len(_END)
