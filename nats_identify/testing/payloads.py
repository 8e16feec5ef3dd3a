"""The JSON that Discord sends to a bot that logs in; it holds no connection and no limit.

Only the fields that Python's gateway libraries read at login; every id is made up.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from nats_identify.testing.codes import Op

Payload = Mapping[str, object]

BOT_ID: Final = "100000000000000001"
OWNER_ID: Final = "100000000000000002"
API_VERSION: Final = 10
SNOWFLAKE_SHIFT: Final = 22
"""A guild belongs to shard ``(guild_id >> 22) % shard_count``.

Source: https://discord.com/developers/docs/events/gateway#sharding
"""


def control(op: Op, data: object = None) -> Payload:
    """Return a payload that is no dispatch."""
    return {"op": int(op), "d": data, "s": None, "t": None}


def dispatch(name: str, sequence: int, data: object) -> Payload:
    """Return an event of a session."""
    return {"op": int(Op.DISPATCH), "t": name, "s": sequence, "d": data}


def user() -> Payload:
    """Return the bot's own user, as ``GET /users/@me`` does."""
    return {
        **_person(BOT_ID, "simulated-bot"),
        "bot": True,
        "verified": True,
        "mfa_enabled": True,
        "email": None,
    }


def application() -> Payload:
    """Return the bot's application, as ``GET /oauth2/applications/@me`` does."""
    return {
        "id": BOT_ID,
        "name": "simulated-bot",
        "icon": None,
        "description": "",
        "summary": "",
        "rpc_origins": [],
        "bot_public": False,
        "bot_require_code_grant": False,
        "verify_key": "0" * 64,
        "owner": _person(OWNER_ID, "simulated-owner"),
        "team": None,
        "flags": 0,
        "redirect_uris": [],
        "interactions_endpoint_url": None,
        "role_connections_verification_url": None,
    }


def ready(session_id: str, resume_gateway_url: str, shard_id: int, shard_count: int, guild_ids: list[str]) -> Payload:
    """Return the data of READY."""
    return {
        "v": API_VERSION,
        "user": user(),
        "guilds": [{"id": guild_id, "unavailable": True} for guild_id in guild_ids],
        "session_id": session_id,
        "resume_gateway_url": resume_gateway_url,
        "shard": [shard_id, shard_count],
        "application": {"id": BOT_ID, "flags": 0},
        "private_channels": [],
        "relationships": [],
        "_trace": [],
    }


def guild_ids(shard_id: int, shard_count: int, count: int) -> Iterator[str]:
    """Yield ``count`` guild ids that belong to this shard."""
    for index in range(1, count + 1):
        yield str((index * shard_count + shard_id) << SNOWFLAKE_SHIFT)


def guild(guild_id: str) -> Payload:
    """Return the data of GUILD_CREATE: a guild with the bot in it and nothing else."""
    return {
        "id": guild_id,
        "name": f"guild {guild_id}",
        "icon": None,
        "splash": None,
        "discovery_splash": None,
        "owner_id": OWNER_ID,
        "afk_channel_id": None,
        "afk_timeout": 300,
        "verification_level": 0,
        "default_message_notifications": 0,
        "explicit_content_filter": 0,
        "roles": [_everyone(guild_id)],
        "emojis": [],
        "stickers": [],
        "features": [],
        "mfa_level": 0,
        "application_id": None,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "rules_channel_id": None,
        "vanity_url_code": None,
        "description": None,
        "banner": None,
        "premium_tier": 0,
        "premium_subscription_count": 0,
        "preferred_locale": "en-US",
        "public_updates_channel_id": None,
        "nsfw_level": 0,
        "premium_progress_bar_enabled": False,
        "safety_alerts_channel_id": None,
        "joined_at": "2020-01-01T00:00:00.000000+00:00",
        "large": False,
        "unavailable": False,
        "member_count": 1,
        "voice_states": [],
        "members": [_member()],
        "channels": [],
        "threads": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def _person(user_id: str, name: str) -> Payload:
    return {
        "id": user_id,
        "username": name,
        "discriminator": "0",
        "global_name": None,
        "avatar": None,
        "banner": None,
        "accent_color": None,
        "flags": 0,
        "public_flags": 0,
        "locale": "en-US",
    }


def _member() -> Payload:
    return {
        "user": user(),
        "nick": None,
        "avatar": None,
        "roles": [],
        "joined_at": "2020-01-01T00:00:00.000000+00:00",
        "premium_since": None,
        "deaf": False,
        "mute": False,
        "flags": 0,
        "pending": False,
        "communication_disabled_until": None,
    }


def _everyone(guild_id: str) -> Payload:
    """A guild's own role has the guild's id."""
    return {
        "id": guild_id,
        "name": "@everyone",
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "icon": None,
        "unicode_emoji": None,
        "position": 0,
        "permissions": "0",
        "managed": False,
        "mentionable": False,
        "flags": 0,
    }
