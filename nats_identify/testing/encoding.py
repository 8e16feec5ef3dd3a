"""Turns gateway payloads into websocket frames, compressed or not; it never sends one.

A transport compression needs one function here and one line in `ENCODERS`.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import zstandard


class Encoder(Protocol):
    """One connection's way to write frames; it may remember earlier ones."""

    def encode(self, payload: Mapping[str, object]) -> str | bytes:
        """Return the frame: text as str, binary as bytes."""
        ...


class PlainJson:
    """JSON as text frames."""

    def encode(self, payload: Mapping[str, object]) -> str:
        """Return the payload as JSON."""
        return json.dumps(payload, separators=(",", ":"))


class Compressor(Protocol):
    """What zlib's and zstandard's ``compressobj`` have in common."""

    def compress(self, data: bytes, /) -> bytes:
        """Take in data; return what has come out."""
        ...

    def flush(self, mode: int, /) -> bytes:
        """Return the rest of what was taken in."""
        ...


class CompressedStream:
    """JSON through one compressed stream for the whole connection, flushed after each payload.

    Source: https://discord.com/developers/docs/events/gateway#transport-compression
    """

    def __init__(self, compressor: Compressor, flush_mode: int) -> None:
        self._compressor = compressor
        self._flush_mode = flush_mode
        self._json = PlainJson()

    def encode(self, payload: Mapping[str, object]) -> bytes:
        """Return the payload's part of the stream; zlib's ends with 00 00 ff ff."""
        text = self._json.encode(payload).encode()
        return self._compressor.compress(text) + self._compressor.flush(self._flush_mode)


def zlib_stream() -> CompressedStream:
    """Return what most Python libraries ask for."""
    return CompressedStream(zlib.compressobj(), zlib.Z_SYNC_FLUSH)


def zstd_stream() -> CompressedStream:
    """Return what discord.py and hikari ask for where they find a zstd."""
    return CompressedStream(zstandard.ZstdCompressor().compressobj(), zstandard.COMPRESSOBJ_FLUSH_BLOCK)


ENCODERS: Final[Mapping[str | None, Callable[[], Encoder]]] = {
    None: PlainJson,
    "zlib-stream": zlib_stream,
    "zstd-stream": zstd_stream,
}
"""By the ``compress`` of the url that a client connects to."""
