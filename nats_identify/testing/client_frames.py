"""Reads what a client sent, and names the close code for what makes no sense; it sends nothing."""

import json
from collections.abc import Mapping
from typing import Final

from nats_identify.testing.codes import CloseCode

PAYLOAD_BYTES_MAX: Final = 4096
"""Longer payloads are answered with close code 4002.

Source: https://discord.com/developers/docs/events/gateway#sending-events
"""

Fields = Mapping[str, object]


class RefusedError(Exception):
    """A client did something that ends its connection with ``code``."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(f"close code {code:d}")
        self.code = code


def parse(frame: str | bytes) -> tuple[int, object]:
    """Return opcode and data of a client's frame.

    Raises:
        RefusedError: it is too long, or no payload.
    """
    text = frame.encode() if isinstance(frame, str) else frame
    if len(text) > PAYLOAD_BYTES_MAX:
        raise RefusedError(CloseCode.DECODE_ERROR)
    try:
        payload = json.loads(text)
    except ValueError:
        raise RefusedError(CloseCode.DECODE_ERROR) from None  # the cause would quote the frame, token and all
    fields = mapping(payload)
    op = fields.get("op")
    if not isinstance(op, int):
        raise RefusedError(CloseCode.DECODE_ERROR)
    return op, fields.get("d")


def mapping(data: object) -> Fields:
    """Return data that must be a JSON object.

    Raises:
        RefusedError: it is not.
    """
    if not isinstance(data, dict):
        raise RefusedError(CloseCode.DECODE_ERROR)
    return data


def shard(identify: Fields) -> tuple[int, int]:
    """Return shard id and shard count of an IDENTIFY; a bot that names none is shard 0 of 1.

    Raises:
        RefusedError: there is no such shard.
    """
    match identify.get("shard", [0, 1]):
        case [int(shard_id), int(shard_count)] if 0 <= shard_id < shard_count:
            return shard_id, shard_count
        case _:
            raise RefusedError(CloseCode.INVALID_SHARD)
