"""Turns gateway payloads into websocket frames, compressed or not; it never sends one.

A transport compression needs one class here and one line in `ENCODERS`; zstd-stream is not simulated yet.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol


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


class ZlibStream:
    """JSON through one deflate stream for the whole connection, flushed after each payload.

    Source: https://discord.com/developers/docs/events/gateway#transport-compression
    """

    def __init__(self) -> None:
        self._deflate = zlib.compressobj()
        self._json = PlainJson()

    def encode(self, payload: Mapping[str, object]) -> bytes:
        """Return the payload's part of the stream; it ends with 00 00 ff ff."""
        text = self._json.encode(payload).encode()
        return self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


ENCODERS: Final[Mapping[str | None, Callable[[], Encoder]]] = {None: PlainJson, "zlib-stream": ZlibStream}
"""By the ``compress`` of the url that a client connects to."""
