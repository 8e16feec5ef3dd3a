"""What answers the question for the figures as an attacker would: packed without end, with headers without end."""

import asyncio
import zlib
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import until

TOKEN = "MTAw.of-no-bot.at-all"  # noqa: S105  # opens nothing
UNPACKED_MB = 256
COST_MB_MAX = 48  # a bomb that is unpacked costs all of it


def bomb():
    """Return a gzip of JSON that has `UNPACKED_MB` of blanks."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packer.compress(b" " * (1 << 20)) for _ in range(UNPACKED_MB)] + [packer.flush()])


class Impostor:
    """A server that answers whatever is asked with these bytes, again and again if there is no end."""

    def __init__(self, head, body, *, is_endless=False):
        self.questions = []
        self._head, self._body, self._is_endless = head, body, is_endless

    async def handle(self, reader, writer):
        with suppress(OSError, asyncio.IncompleteReadError):
            self.questions.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self._head + self._body)
            await writer.drain()
            while self._is_endless:
                writer.write(self._body)
                await writer.drain()
        writer.close()


def peak_mb(process):
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
ANSWERS = {
    "a gzip bomb": (OK + b"Content-Encoding: gzip\r\n\r\n", bomb(), False),
    "a header of 64 KB": (OK, b"X: " + b"x" * 65_536 + b"\r\n\r\n{}", False),
    "headers without end": (OK, b"X: " + b"x" * 4_000 + b"\r\n", True),
    "a body without end": (OK + b"\r\n", b" " * 65_536, True),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_it_costs_little_and_is_no_answer(start_coordinator, answer):
    head, body, is_endless = ANSWERS[answer]
    impostor = Impostor(head, body, is_endless=is_endless)
    server = await asyncio.start_server(impostor.handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"
    process = await start_coordinator(DISCORD_TOKEN=TOKEN, DISCORD_API_URL=url)
    before = peak_mb(process)

    async def has_failed():
        return len(process.logged("no figures from Discord")) >= 2

    await until(has_failed, "it has asked twice, and says why it has no figures")
    assert peak_mb(process) - before < COST_MB_MAX
    assert (await process.page("/livez"))[0] == 200
    server.close()


async def test_nothing_packed_is_asked_for(start_coordinator):
    impostor = Impostor(OK + b"\r\n", b"{}")
    server = await asyncio.start_server(impostor.handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"
    await start_coordinator(DISCORD_TOKEN=TOKEN, DISCORD_API_URL=url)

    async def is_asked():
        return impostor.questions

    (question, *_) = await until(is_asked, "it asks")
    assert b"\r\nAccept-Encoding: identity\r\n" in question
    server.close()
