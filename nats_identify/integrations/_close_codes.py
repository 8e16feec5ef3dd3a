"""What Discord means by each close code, and what a person must change where no retry helps; it acts on none.

Source: https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes
"""

from typing import Final

NORMAL: Final = 1000
"""A server that closes with it has ended the session or was restarted; a new connection repairs either."""

_MEANINGS: Final = {
    1000: "normal closure",
    1001: "going away",
    1006: "cut off without a close frame",
    4000: "unknown error",
    4001: "unknown opcode",
    4002: "decode error",
    4003: "not authenticated",
    4004: "authentication failed",
    4005: "already authenticated",
    4007: "invalid sequence",
    4008: "rate limited",
    4009: "session timed out",
    4010: "invalid shard",
    4011: "sharding required",
    4012: "invalid API version",
    4013: "invalid intents",
    4014: "disallowed intents",
}

_CURES: Final = {
    4004: "Discord does not accept the bot's token: give the one of the developer portal, or reset it there",
    4010: (
        "shard_ids and shard_count do not fit: each id must be below the count, the same count in every process; "
        "Discord assigns large bots a number that the count must be a multiple of"
    ),
    4011: "the bot is in too many guilds for so few shards: raise shard_count (SHARD_COUNT)",
    4012: "Discord has retired the API version that the library uses: update the library",
    4013: "the bot asks for intents that do not exist: correct its `intents`, or update the library",
    4014: "enable the privileged intents on the bot's page of the developer portal, or take them out of its `intents`",
}


def named(code: int) -> str:
    """Return a close code with its meaning, such as ``4014 (disallowed intents)``."""
    meaning = _MEANINGS.get(code)
    return f"{code} ({meaning})" if meaning else f"{code}"


def cure(code: int) -> str:
    """Return what a person must change before this shard can come up; empty where a retry may help."""
    return _CURES.get(code, "")
