"""The health pages of a coordinator under half requests, long headers and foreign methods."""

import asyncio
import resource
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.processes import WITHIN_S, until

HALF = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "
DESCRIPTORS = 256
KEPT_MAX = 64
HELD = 400  # more than the process has descriptors


@pytest.fixture
async def address(start_coordinator):
    process = await start_coordinator()
    resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    host, _, port = process.logged("HTTP is served")[-1]["addresses"][0].rpartition(":")
    return process, host, int(port)


class HalfRequest:
    """A connection whose request never ends; `closed` is done when the other side has closed it."""

    def __init__(self, reader, writer):
        self.writer = writer
        self.closed = asyncio.create_task(self._until_closed(reader))

    async def _until_closed(self, reader):
        try:
            while await reader.read(1024):
                pass
        except OSError:
            pass  # it was reset


@asynccontextmanager
async def half_requests(host, port, count):
    """Hold so many half requests during the block."""
    async with AsyncExitStack() as stack:
        held = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, port)
            stack.callback(writer.close)
            writer.write(HALF)
            held.append(HalfRequest(reader, writer))
            stack.callback(held[-1].closed.cancel)
        yield held


async def asked(host, port, text):
    """Send a request, and return all that comes back."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(text)
        async with asyncio.timeout(WITHIN_S):
            return await reader.read()
    finally:
        writer.close()


async def test_livez_answers_while_half_requests_are_held(address):
    """The oldest half requests are closed; before, they used up the descriptors, and /livez was reset."""
    process, host, port = address
    async with half_requests(host, port, HELD) as held:
        assert (await process.page("/livez"))[0] == 200

        async def is_bounded():
            return sum(not half.closed.done() for half in held) <= KEPT_MAX

        await until(is_bounded, "the oldest are closed")
        assert held[0].closed.done()
        for page in ("/livez", "/readyz", "/metrics"):
            assert (await process.page(page))[0] == 200
    (warning,) = process.logged(
        "HTTP connections were closed before their request was complete; find the client that opens them"
    )
    assert warning["most"] == KEPT_MAX


async def test_a_half_request_has_an_end(address):
    _, host, port = address
    async with half_requests(host, port, 1) as (half,):
        await asyncio.wait_for(half.closed, WITHIN_S)


async def test_a_connection_carries_one_request(address):
    """A kept connection would count against the bound for nothing."""
    _, host, port = address
    answer = await asked(host, port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()


async def test_a_header_of_100_kb_is_refused_without_a_traceback(address):
    process, host, port = address
    answer = await asked(host, port, b"GET /livez HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")
    assert answer.split()[1] == b"400"
    assert (await process.page("/livez"))[0] == 200
    assert "Traceback" not in process.log


@pytest.mark.parametrize(("line", "status"), [(b"POST /livez", b"405"), (b"GET /x", b"404"), (b"HEAD /livez", b"200")])
async def test_other_requests_are_answered(address, line, status):
    _, host, port = address
    answer = await asked(host, port, line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert answer.split()[1] == status
