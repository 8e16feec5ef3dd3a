"""Reads NATS messages off the wire as the server writes them: parted by single spaces. It leaves the rest to nats-py.

nats-py parts them by any white space. A vertical tab in a subject, which the server lets through, then stops
its reading until the pings give up, seconds later: one misbehaving client could silence every coordinator.
"""

from nats.aio.client import Client
from nats.protocol.parser import Parser

_END = b"\r\n"


class Protocol(Parser):
    """nats-py's parser, with messages read strictly."""

    nc: Client

    async def parse(self, data: bytes = b"") -> None:
        """Take in what arrived; hand on every message that is complete."""
        self.buf.extend(data)
        while (end := self.buf.find(_END)) >= 0:
            start = end + len(_END)
            if not self.buf.startswith((b"MSG ", b"HMSG ")):
                rest = bytes(self.buf[start:])
                del self.buf[start:]
                await super().parse()
                self.buf.extend(rest)
                continue
            words = bytes(self.buf[:end]).split(b" ")
            size = int(words[-1])
            if len(self.buf) < start + size + len(_END):
                return
            body = bytes(self.buf[start : start + size])
            del self.buf[: start + size + len(_END)]
            await self._hand_on(words, body)

    async def _hand_on(self, words: list[bytes], body: bytes) -> None:
        match words:
            case [b"MSG", subject, sid, *reply, _]:
                header_size = 0
            case [b"HMSG", subject, sid, *reply, header, _]:
                header_size = int(header)
        reply_to = reply[0] if reply else b""
        await self.nc._process_msg(int(sid), subject, reply_to, body[header_size:], body[:header_size])  # noqa: SLF001
