"""What every plain client keeps: one request, one reply. Each rule plays one case; none has a clock."""

from typing import Final

from nats_identify.reason import Reason
from nats_identify.testing.client_kit.harness import QUIET_S, RENEW_WITHIN_S, ClientHarness
from nats_identify.testing.client_kit.record import EndSeen, RequestSeen
from nats_identify.testing.client_kit.rule import client_rule

AWAY_S: Final = 8.0
RETRY_MS: Final = 4_000


@client_rule(
    reason="a coordinator answers only a request that it can read, and a managed one is expected to renew",
    advice="send one NATS request on <prefix>.request.<bucket>, without managed, with timeout_ms below its time limit",
)
async def it_asks_with_one_request(kit: ClientHarness) -> None:
    """The shard asks once, and not again while its request waits."""
    request = await kit.first_request()
    if request.body.managed:
        kit.broken('its request has "managed": true; a plain client does not renew')
    since = kit.now
    await kit.quiet(2 * QUIET_S)
    again = kit.record.find(RequestSeen, lambda seen: seen.shard_id == request.shard_id, since)
    if again is not None:
        kit.broken("it asked again before its first request had a reply")


@client_rule(
    reason="one grant is one IDENTIFY; the confirm starts the window, and without it that is counted by trust",
    advice="identify once within use_within_ms of the receipt, and respond to the grant's message with an empty one",
)
async def a_grant_is_used_once_and_confirmed(kit: ClientHarness) -> None:
    """A grant comes; one IDENTIFY and its confirm follow. After that a plain client may end."""
    request = await kit.first_request()
    kit.record.may_end = True
    await kit.finish(request)
    await kit.quiet()


@client_rule(
    reason="the day's limit is spent: an IDENTIFY now ends every session of the bot and resets its token",
    advice="read `status`; after a refusal do not identify, and ask no sooner than after retry_after_ms, with a new id",
)
async def a_refusal_is_no_grant(kit: ClientHarness) -> None:
    """`session_limit` comes with four seconds. The client may end, or ask again after them."""
    request = await kit.first_request()
    kit.record.may_end = True
    kit.record.situation = "its request was refused with `session_limit`"
    await kit.coordinator.refuse(request, Reason.SESSION_LIMIT, retry_after_ms=RETRY_MS)
    await kit.quiet(RETRY_MS / 1000 / 2)
    if kit.record.find(EndSeen, lambda _: True) is not None:
        return
    kit.record.may_end = False
    request = await kit.refuse_until_waited(request, Reason.SESSION_LIMIT, RETRY_MS, anew=True, retry_after_ms=RETRY_MS)
    kit.record.may_end = True
    await kit.finish(request)


@client_rule(
    reason="where a failed request is permission, all shards of a bot identify at once when the queue is away",
    advice="identify only after a reply whose `status` is granted; a time limit, an error and Status: 503 are none",
)
async def no_reply_is_no_grant(kit: ClientHarness) -> None:
    """No reply comes, then no coordinator is connected, then NATS is away: no shard identifies."""
    await kit.first_request()
    kit.record.may_end = True
    kit.record.situation = "there was no reply"
    await kit.quiet(AWAY_S / 2)
    kit.record.situation = "no coordinator was connected"
    await kit.coordinator.unsubscribe()
    await kit.quiet(AWAY_S / 2)
    kit.record.situation = "NATS was away"
    kit.proxy.is_away = True
    await kit.proxy.cut()
    await kit.quiet(AWAY_S)


@client_rule(
    reason="with no coordinator connected NATS itself answers, with an empty message; an empty message is no grant",
    advice="look at the header Status before the payload; where it is 503, wait and ask again",
)
async def a_503_is_no_grant(kit: ClientHarness) -> None:
    """The reply is empty and has the header Status: 503. The client may end, or ask again."""
    request = await kit.first_request()
    kit.record.may_end = True
    kit.record.situation = "its reply was NATS's own 503"
    since = kit.now
    await kit.coordinator.send(request.reply_to, b"", headers={"Status": "503"})
    await kit.quiet(2 * QUIET_S)
    if kit.record.find(EndSeen, lambda _: True) is not None:
        return
    again = await kit.next_request(request, since=since, within_s=RENEW_WITHIN_S)
    await kit.finish(again)


PLAIN_RULES: Final = (
    it_asks_with_one_request,
    a_grant_is_used_once_and_confirmed,
    a_refusal_is_no_grant,
    no_reply_is_no_grant,
    a_503_is_no_grant,
)
"""Every rule of a plain client."""
