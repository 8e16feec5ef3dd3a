"""GET /gateway/bot over a raw socket: a body in pieces is read to its end, and never beyond its bound."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from nats_identify.discord.session_limit import (
    BODY_BYTES_MAX,
    DiscordUnavailableError,
    RateLimitedError,
    SessionLimit,
    TokenRefusedError,
    fetch_session_limit,
)

BODY = json.dumps(
    {
        "url": "wss://gateway.example",
        "shards": 64,
        "session_start_limit": {"total": 1000, "remaining": 990, "reset_after": 0, "max_concurrency": 16},
    }
).encode()


@asynccontextmanager
async def answering(*pieces: bytes, holds_open: bool = False):
    """Serve these pieces, each in a segment of its own, to everybody who connects; yields the address.

    ``holds_open``: the connection stays open after the last one.
    """
    done = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # the client reads between two pieces
        if holds_open:
            await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v10"
        done.set()


def head(status="200 OK", *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, "", ""]).encode()


def sized(body=BODY):
    return head("200 OK", f"Content-Length: {len(body)}")


def by_bytes(body: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in body]


def chunks(body: bytes) -> list[bytes]:
    return [*(b"1\r\n%b\r\n" % piece for piece in by_bytes(body)), b"0\r\n\r\n"]


async def fetched(address: str) -> SessionLimit:
    async with aiohttp.ClientSession() as session:
        return await fetch_session_limit(session, "hunter2", api_url=address)


@pytest.mark.parametrize(
    "pieces",
    [
        [sized(), *by_bytes(BODY)],
        [head("200 OK", "Transfer-Encoding: chunked"), *chunks(BODY)],
        [head("200 OK", "Connection: close"), *by_bytes(BODY)],
        [sized() + BODY[:40], BODY[40:]],
        [sized(BODY + b" " * (BODY_BYTES_MAX - len(BODY))), BODY, b" " * (BODY_BYTES_MAX - len(BODY))],
    ],
    ids=["byte by byte", "a chunk for each byte", "without a length", "cut in two", "as large as it may be"],
)
async def test_an_answer_in_pieces_is_read_to_its_end(pieces):
    async with answering(*pieces) as address:
        assert await fetched(address) == SessionLimit(64, 16, 1000, 990, 0)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([sized(BODY + b" " * BODY_BYTES_MAX), BODY, b" " * BODY_BYTES_MAX], "larger than 65536 bytes"),
        ([head("200 OK", "Connection: close"), BODY, *[b" " * 65_536] * 64], "larger than 65536 bytes"),
        ([sized(), BODY[:-1]], "cut short"),
        ([head("200 OK", "Transfer-Encoding: chunked"), *chunks(BODY)[:-1]], "cut short"),
        ([head("200 OK", "Connection: close"), BODY[:-1]], "makes no sense"),
    ],
    ids=["too large", "endless", "cut short", "cut short in chunks", "cut short without a length"],
)
async def test_an_answer_that_is_too_large_or_cut_short_is_said(pieces, said):
    async with answering(*pieces) as address:
        with pytest.raises(DiscordUnavailableError, match=said) as caught:
            await fetched(address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error", "body"),
    [
        ("429 Too Many Requests", RateLimitedError, [b" " * BODY_BYTES_MAX, b" "]),
        ("429 Too Many Requests", RateLimitedError, [b"{"]),
        ("401 Unauthorized", TokenRefusedError, [b"{"]),
    ],
    ids=["429, too large", "429, cut short", "401, cut short"],
)
async def test_a_status_counts_whatever_its_body_is(status, error, body):
    length = f"Content-Length: {2 * BODY_BYTES_MAX}"
    async with answering(head(status, length, "Retry-After: 30"), *body) as address:
        with pytest.raises(error) as caught:
            await fetched(address)
    assert getattr(caught.value, "retry_after_s", 30) == 30


async def test_a_body_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr("nats_identify.discord.session_limit.ANSWER_WITHIN_S", 0.2)
    async with answering(sized(), BODY[:-1], holds_open=True) as address:
        with pytest.raises(DiscordUnavailableError, match="TimeoutError"):
            await fetched(address)


@pytest.fixture
def proxy_environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch.setenv


async def test_discord_is_asked_through_the_proxy_that_the_environment_names(proxy_environment):
    async with answering(sized(), BODY) as proxy:
        proxy_environment("HTTP_PROXY", proxy.removesuffix("/api/v10").replace("//", "//user:hunter3@"))
        assert (await fetched("http://discord.invalid/api/v10")).shards == 64
        proxy_environment("NO_PROXY", "discord.invalid")
        with pytest.raises(DiscordUnavailableError, match=r"no answer from http://discord\.invalid"):
            await fetched("http://discord.invalid/api/v10")


async def test_no_proxy_is_asked_for_an_address_of_this_machine(proxy_environment):
    proxy_environment("HTTP_PROXY", "http://127.0.0.1:1")
    async with answering(sized(), BODY) as address:
        assert (await fetched(address)).shards == 64
        assert (await fetched(address.replace("127.0.0.1", "localhost"))).shards == 64


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("http://user:hunter3@127.0.0.1:1", "through the proxy .no connection."),
        ("user:hunter3@127.0.0.1:1", "through the proxy .no connection."),
        ("socks5://user:hunter3@127.0.0.1:1", "HTTPS_PROXY is not the address of an HTTP proxy"),
        ("http://user:hunter3@:port", "HTTPS_PROXY is not the address of an HTTP proxy"),
    ],
)
async def test_trouble_with_the_proxy_is_said_without_its_password(proxy_environment, caplog, proxy, said):
    proxy_environment("HTTPS_PROXY", proxy)
    with pytest.raises(DiscordUnavailableError, match=said) as caught:
        await fetched("https://discord.invalid/api/v10")
    assert "hunter" not in str(caught.value) + caplog.text


async def test_a_proxy_that_refuses_us_is_said(proxy_environment):
    async with answering(head("407 Proxy Authentication Required", "Content-Length: 0")) as proxy:
        proxy_environment("HTTPS_PROXY", proxy.removesuffix("/api/v10").replace("//", "//user:hunter3@"))
        with pytest.raises(DiscordUnavailableError, match=r"through the proxy \(HTTP 407\)") as caught:
            await fetched("https://discord.invalid/api/v10")
    assert "hunter" not in str(caught.value)


async def test_a_netrc_does_not_replace_the_token(proxy_environment, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    proxy_environment("NETRC", str(netrc))
    async with answering(sized(), BODY) as address:
        assert (await fetched(address)).shards == 64


async def test_a_password_in_the_api_s_address_is_not_repeated():
    with pytest.raises(DiscordUnavailableError) as caught:
        await fetched("http://user:hunter3@127.0.0.1:1/api/v10")
    assert "hunter" not in str(caught.value)
