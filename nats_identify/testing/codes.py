"""The gateway's numbers: opcodes, close codes and what each allows next; it never acts on one.

Source: https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway
"""

from enum import IntEnum
from typing import Final


class Op(IntEnum):
    """Gateway opcodes; the ones that only a logged-in client sends are in `AFTER_IDENTIFY`."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    PRESENCE_UPDATE = 3
    VOICE_STATE_UPDATE = 4
    RESUME = 6
    RECONNECT = 7
    REQUEST_GUILD_MEMBERS = 8
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11
    REQUEST_SOUNDBOARD_SOUNDS = 31


AFTER_IDENTIFY: Final = frozenset(
    {Op.PRESENCE_UPDATE, Op.VOICE_STATE_UPDATE, Op.REQUEST_GUILD_MEMBERS, Op.REQUEST_SOUNDBOARD_SOUNDS}
)


class CloseCode(IntEnum):
    """Why a gateway connection ended: RFC 6455 below 4000, Discord's own from there."""

    NORMAL = 1000
    GOING_AWAY = 1001
    ABNORMAL = 1006  # no close frame came: never sent, only observed
    UNKNOWN_ERROR = 4000
    UNKNOWN_OPCODE = 4001
    DECODE_ERROR = 4002
    NOT_AUTHENTICATED = 4003
    AUTHENTICATION_FAILED = 4004
    ALREADY_AUTHENTICATED = 4005
    INVALID_SEQUENCE = 4007
    RATE_LIMITED = 4008
    SESSION_TIMED_OUT = 4009
    INVALID_SHARD = 4010
    SHARDING_REQUIRED = 4011
    INVALID_API_VERSION = 4012
    INVALID_INTENTS = 4013
    DISALLOWED_INTENTS = 4014


ENDS_SESSION: Final = frozenset({CloseCode.NORMAL, CloseCode.GOING_AWAY})
"""Sent by a client, these end its session; any other code leaves it resumable for minutes."""

NEEDS_IDENTIFY: Final = frozenset({CloseCode.INVALID_SEQUENCE, CloseCode.SESSION_TIMED_OUT})
"""Sent by the gateway, these ask for a new session: RESUME would be refused."""

FATAL: Final = frozenset(
    {
        CloseCode.AUTHENTICATION_FAILED,
        CloseCode.INVALID_SHARD,
        CloseCode.SHARDING_REQUIRED,
        CloseCode.INVALID_API_VERSION,
        CloseCode.INVALID_INTENTS,
        CloseCode.DISALLOWED_INTENTS,
    }
)
"""Sent by the gateway, these will be the answer every time: a person must change something first."""
