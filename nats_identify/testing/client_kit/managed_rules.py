"""What every managed client keeps: each rule plays one case with a client that was just started. It has no clock.

They follow "What a managed client must do" of docs/protocol.md, in its order.
"""

from typing import Final

from nats_identify.clock import NS_PER_MS, NS_PER_S, now_ns
from nats_identify.reason import Reason
from nats_identify.schedule.model import Outcome
from nats_identify.testing.client_kit.harness import QUIET_S, RENEW_WITHIN_S, TRIES, ClientHarness
from nats_identify.testing.client_kit.record import NO_GRANT, RequestSeen
from nats_identify.testing.client_kit.rule import client_rule

LONG_MS: Final = 60_000
"""The longest pace of the contract: a client that has it sends nothing while a rule plays."""

SHORT_MS: Final = 400
MIDDLE_MS: Final = 1_600
"""Two paces that a client follows, one after the other."""

EARLY: Final = 0.9
"""A renewal after nine tenths of its pace is on time: timers are coarse."""

UNANSWERED_S: Final = 30.0
UNANSWERED_MAX: Final = 10
"""In half a minute without a reply. A client that doubles from 2 s sends 5 on average, one that does not 13 or more."""

SENDINGS_MAX: Final = 20
"""In a second, by docs/protocol.md."""

FLOOD_S: Final = 3
FLOOD: Final = 100

ANEW_MS: Final = 250
"""The first pause after `ended`."""

BAD_REQUEST_MS: Final = 5_000
RETRY_MS: Final = 3_000
USE_WITHIN_MS: Final = 1_000
START_MAX_MS: Final = 5_000
AWAY_S: Final = 8.0
AFTER_IDENTIFIED: Final = (Outcome.IDENTIFIED, Outcome.READY, Outcome.REJECTED)


@client_rule(
    reason="a coordinator knows a managed request by its id and its fields; one that it cannot read has no place",
    advice="publish on <prefix>.request.<bucket> with a reply subject, a random request_id, renewal 0, managed true",
    shard_ids=(0, 1, 2),
    max_concurrency=2,
)
async def each_shard_asks_with_a_request_of_its_own(kit: ClientHarness) -> None:
    """Three shards of two buckets ask, each with an id of its own."""
    ids = set()
    for shard_id in (0, 1, 2):
        seen = await kit.first_request(shard_id)
        if seen.body.request_id is None:
            kit.broken(f"the request of shard {shard_id} has no request_id")
        if not seen.body.managed:
            kit.broken(f'the request of shard {shard_id} lacks "managed": true; it is a plain one')
        buckets = seen.body.max_concurrency or 2
        if seen.bucket not in {shard_id % buckets, 0 if seen.body.max_concurrency is None else -1}:
            kit.broken(f"shard {shard_id} asked in bucket {seen.bucket}; of {buckets} buckets its own is another")
        if seen.body.request_id in ids:
            kit.broken("two shards asked with one request_id; the second one replaces the first")
        ids.add(seen.body.request_id)


@client_rule(
    reason="an interval of its own loses the place of a request where it is longer, and floods the queue where shorter",
    advice="send the next renewal `renew_in_ms` after each `queued`, whatever the interval was before",
)
async def it_renews_at_the_pace_of_the_reply(kit: ClientHarness) -> None:
    """The pace is 0.4 s, and then 1.6 s; no renewal but one that crosses a reply may be early, and one is on time."""
    request = await kit.first_request()
    for pace_ms in (SHORT_MS, MIDDLE_MS):
        waits_ms: list[int] = []
        for _ in range(TRIES + 1):
            since = kit.now
            at_ns = await kit.coordinator.queued(request, renew_in_ms=pace_ms)
            request = await kit.renewal(request, since=since)
            waits_ms.append((request.at_ns - at_ns) // NS_PER_MS)
        waits = waits_ms[1:]  # the first one may have crossed the change of the pace
        shown = ", ".join(str(wait) for wait in waits)
        if sum(wait < pace_ms * EARLY for wait in waits) > 1:
            kit.broken(f"renew_in_ms was {pace_ms}, and its renewals came after {shown} ms: too early")
        if min(waits) > pace_ms + 1_000:
            kit.broken(f"renew_in_ms was {pace_ms}, and its renewals came after {shown} ms: too late")


@client_rule(
    reason="a nudge is sent as the turn comes near: a grant goes only to a renewal that is fresh",
    advice="where a `queued` arrives, take its `renew_in_ms` instead of the older one, and send at once for 0",
)
async def a_nudge_is_answered_at_once(kit: ClientHarness) -> None:
    """The pace is a minute; an unasked reply with 0 brings the renewal now."""
    request = await kit.first_request()
    since = kit.now
    await kit.coordinator.queued(request, renew_in_ms=LONG_MS)
    await kit.quiet()
    await kit.coordinator.queued(request, renew_in_ms=0, position=1, eta_ms=2_000)
    await kit.renewal(request, since=since, within_s=LONG_MS / 2 / 1000)


@client_rule(
    reason="a fleet that nothing answers repeats itself to death: the more it sends, the less can be answered",
    advice="double the interval from 2 s up to 60 s, with random parts, while no reply comes; forget that at a reply",
)
async def it_slows_down_while_unanswered(kit: ClientHarness) -> None:
    """A request that never had a reply has a few renewals in half a minute; after a reply the pace is that of it."""
    request = await kit.first_request()
    since, begun_ns = kit.now, now_ns()
    kit.record.situation = "there was no reply"
    while (now_ns() - begun_ns) / NS_PER_S < UNANSWERED_S:
        await kit.quiet(0.5)
        sent = [one for one in kit.record.entries[since:] if isinstance(one, RequestSeen)]
        if len(sent) >= UNANSWERED_MAX:
            over_s = (sent[-1].at_ns - begun_ns) / NS_PER_S
            kit.broken(f"in {over_s:.1f} s without a reply it sent {len(sent)} renewals, and did not slow down")
    newest = sent[-1] if sent else request
    for _ in range(TRIES):
        since = kit.now
        at_ns = await kit.coordinator.queued(newest, renew_in_ms=SHORT_MS)
        newest = await kit.renewal(newest, since=since)
        if newest.at_ns - at_ns < 2 * NS_PER_S:
            return
    kit.broken(f"after the replies came again, with a renew_in_ms of {SHORT_MS}, it did not renew at that pace")


@client_rule(
    reason="a reply may demand the next renewal at once; a fault of one side must not become a flood of both",
    advice="whatever replies demand, send a request 20 times in a second at most",
)
async def it_sends_at_most_20_times_a_second(kit: ClientHarness) -> None:
    """For three seconds each renewal is answered a hundred times, each time with a ``renew_in_ms`` of 0."""
    request = await kit.first_request()
    since, begun_ns = kit.now, now_ns()
    seconds = 0.0
    while seconds < FLOOD_S:
        at = kit.now
        for _ in range(FLOOD):
            await kit.coordinator.queued(request, renew_in_ms=0)
        request = await kit.renewal(request, since=at)
        await kit.quiet(FLOOD_S / 10)
        seconds = (now_ns() - begun_ns) / NS_PER_S
        sent = sum(isinstance(one, RequestSeen) for one in kit.record.entries[since:])
        if sent > SENDINGS_MAX * (seconds + 1) + 1:
            kit.broken(f"it sent {sent} renewals in {seconds:.1f} s, since each reply had a renew_in_ms of 0")


@client_rule(
    reason="coordinators that were all restarted restore the order by it; without it the shard is the last again",
    advice="send in `waited_ms` how long ago this request was first sent",
)
async def waited_ms_is_the_time_since_the_first_sending(kit: ClientHarness) -> None:
    """It grows by each pace that has passed, and is no longer than the time since the start."""
    begun_ns = now_ns()
    request = await kit.first_request()
    for renewals in range(1, TRIES):
        since = kit.now
        at_ns = await kit.coordinator.queued(request, renew_in_ms=MIDDLE_MS)
        request, before = await kit.renewal(request, since=since), request
        passed_ms = (request.at_ns - begun_ns) // NS_PER_MS + START_MAX_MS
        if request.body.waited_ms > passed_ms:
            kit.broken(f"renewal {request.body.renewal} has waited_ms {request.body.waited_ms}, longer than it runs")
        is_later = (request.at_ns - at_ns) // NS_PER_MS >= MIDDLE_MS
        grown_ms = request.body.waited_ms - before.body.waited_ms
        if is_later and grown_ms < MIDDLE_MS / 2 and renewals > 1:
            kit.broken(f"waited_ms grew by {grown_ms} from one renewal to the next, {MIDDLE_MS} ms or more later")


@client_rule(
    reason="one grant is one IDENTIFY; the confirm starts the window, and without it the bucket stays shut for long",
    advice="identify once for a grant that is in time, and respond to its message with identified, at once",
)
async def a_grant_is_used_once_and_confirmed(kit: ClientHarness) -> None:
    """A grant comes; one IDENTIFY and its confirm follow, and the shard does not ask for another turn."""
    request = await kit.first_request()
    await kit.finish(request)
    since = kit.now
    await kit.quiet(2 * QUIET_S)
    again = kit.record.find(RequestSeen, lambda seen: seen.body.request_id != request.body.request_id, since)
    if again is not None:
        kit.broken("it asked for another turn although its shard had identified")


@client_rule(
    reason="a late grant may be another shard's turn by now; two IDENTIFYs in one window break the start of both",
    advice="look at the clock right before IDENTIFY; later than use_within_ms after the first sending of the renewal "
    "that the grant echoes, confirm declined and renew at once",
)
async def a_late_grant_is_declined(kit: ClientHarness) -> None:
    """A grant that comes too late is declined, and so is its copy; the shard renews at once."""
    request = await kit.first_request()
    await kit.coordinator.queued(request, renew_in_ms=LONG_MS)
    await kit.quiet(USE_WITHIN_MS / 1000 + QUIET_S / 2)
    late_ms = (now_ns() - request.at_ns) // NS_PER_MS
    kit.record.situation = (
        f"its grant came {late_ms} ms after the renewal that it echoes, and its use_within_ms was {USE_WITHIN_MS}"
    )
    since, grant = kit.now, kit.coordinator.grant_of(request, use_within_ms=USE_WITHIN_MS)
    await kit.coordinator.send_grant(grant)
    await kit.declined(grant, since=since)
    renewed = await kit.renewal(request, since=since)
    since = kit.now
    await kit.coordinator.send_grant(grant)
    await kit.declined(grant, since=since)
    await kit.finish(renewed)


@client_rule(
    reason="a renewal that crossed the grant proves nothing: the bucket's hold is counted from the one it echoes",
    advice="keep the time of the first sending of each renewal number, and count from that of the grant's `renewal`",
)
async def use_within_counts_from_the_renewal_of_the_grant(kit: ClientHarness) -> None:
    """A renewal has just been sent; the grant echoes the one before it, and is late."""
    first = await kit.first_request()
    since = kit.now
    await kit.coordinator.queued(first, renew_in_ms=MIDDLE_MS)
    second = await kit.renewal(first, since=since)
    while now_ns() - first.at_ns <= (USE_WITHIN_MS + 100) * NS_PER_MS:
        await kit.quiet(0.1)
    kit.record.situation = (
        f"its grant echoed renewal {first.body.renewal}, which was sent more than {USE_WITHIN_MS} ms before; "
        f"renewal {second.body.renewal} was newer"
    )
    since, grant = kit.now, kit.coordinator.grant_of(first, use_within_ms=USE_WITHIN_MS)
    await kit.coordinator.send_grant(grant)
    await kit.declined(grant, since=since)
    await kit.finish(await kit.renewal(second, since=since))


@client_rule(
    reason="a grant is sent again where its confirm may be lost; another answer would free a turn that was used",
    advice="keep the decision for each grant_id, and confirm each copy with the same outcome; never identify again",
)
async def a_copy_of_a_grant_gets_the_same_answer(kit: ClientHarness) -> None:
    """The same grant arrives three times: one IDENTIFY, and each copy after it is answered identified."""
    request = await kit.first_request()
    grant = kit.coordinator.grant_of(request)
    kit.record.situation = "its grant was a copy of one that it had used"
    kit.record.permit(grant.body.shard_id)
    since = kit.now
    await kit.coordinator.send_grant(grant)
    await kit.coordinator.send_grant(grant)
    await kit.used(grant, since=since)
    await kit.quiet()
    since = kit.now
    await kit.coordinator.send_grant(grant)
    await kit.confirmed(grant, since=since)
    others = [seen for seen in kit.confirms_of(grant) if seen.outcome not in AFTER_IDENTIFIED]
    if others:
        kit.broken(f"it answered a grant `identified`, and a copy of it `{others[0].outcome}`")


@client_rule(
    reason="a second turn for a shard that has one is another shard's; kept in silence it holds its bucket for long",
    advice="decline every other grant_id while one is in hand and after IDENTIFY was sent",
)
async def another_grant_is_declined(kit: ClientHarness) -> None:
    """A second grant for the same request comes after the shard has identified."""
    request = await kit.first_request()
    await kit.finish(request)
    kit.record.situation = "it had identified already, and this was another grant for the same request"
    since, other = kit.now, kit.coordinator.grant_of(request)
    await kit.coordinator.send_grant(other)
    await kit.declined(other, since=since)


@client_rule(
    reason="an answer to the grant of another would start a window that nothing was sent in, or end one that is needed",
    advice="ignore a grant for another request_id or shard, for a renewal that was not sent, or whose message has a "
    "reply subject other than <prefix>.confirm.<bucket>.<grant_id>",
)
async def only_its_own_grants_are_answered(kit: ClientHarness) -> None:
    """Four grants come that are not for this request; then one that is."""
    request = await kit.first_request()
    grant_of, prefix = kit.coordinator.grant_of, kit.coordinator.prefix
    foreign = {
        "a grant for another request_id": grant_of(request, request_id="of-another"),
        "a grant for a renewal that it never sent": grant_of(request, renewal=request.body.renewal + 1000),
        "a grant for another shard": grant_of(request, shard_id=request.shard_id + 7),
        "a grant whose reply subject is not its confirm subject": kit.coordinator.grant_of(request),
    }
    for what, grant in foreign.items():
        kit.record.situation = f"the kit had sent {what}"
        reply = f"{prefix}.confirm.0.misled" if "reply subject" in what else grant.confirm_to
        await kit.coordinator.send(grant.inbox, grant.body, reply=reply)
        await kit.quiet(QUIET_S / 2)
    for what, grant in foreign.items():
        if kit.confirms_of(grant):
            kit.broken(f"it answered {what}")
    if kit.was_confirmed("misled"):
        kit.broken("it answered a grant on a subject that is not the grant's confirm subject")
    await kit.finish(kit.newest(request))


@client_rule(
    reason="a newer coordinator sends kinds and fields that a client does not know; a client that ends there needs all "
    "of a fleet to be updated at once",
    advice="ignore a reply that cannot be read, an unknown `status` and unknown fields; go on renewing",
)
async def unknown_replies_are_ignored(kit: ClientHarness) -> None:
    """Garbage, an unknown kind, NATS's 503, and then a grant with a field of a later version."""
    request = await kit.first_request()
    kit.record.situation = "no grant was among the replies, which it cannot know"
    for payload in (b"{", b"[]", b'{"status":"later","shard_id":0}', b'{"status":"granted"}', b"\xff\xfe"):
        await kit.coordinator.send(request.reply_to, payload)
    await kit.coordinator.send(request.reply_to, b"", headers={"Status": "503"})
    await kit.quiet()
    request = kit.newest(request)
    since, grant = kit.now, kit.coordinator.grant_of(request)
    kit.record.permit(grant.body.shard_id)
    newer = grant.body.model_dump_json()[:-1].encode() + b',"of_a_later_version":{"a":[1]}}'
    await kit.coordinator.send(grant.inbox, newer, reply=grant.confirm_to)
    await kit.used(grant, since=since)


@client_rule(
    reason="Discord may change max_concurrency on any day; a request in the wrong bucket is never granted",
    advice="after `wrong_bucket` compute shard_id % max_concurrency of the refusal, and ask there at once",
    shard_ids=(5,),
    max_concurrency=2,
)
async def a_refusal_moves_it_to_another_bucket(kit: ClientHarness) -> None:
    """`info` said two buckets. Refusals say three, and then four: shard 5 moves to bucket 2, and then to 1."""
    request = await kit.first_request(5)
    for buckets in (3, 4):
        kit.coordinator.max_concurrency = buckets
        request = await kit.moved(request, buckets)
    await kit.finish(request)


@client_rule(
    reason="every reply has the number of buckets of today; the next renewal belongs where the coordinator has it",
    advice="take max_concurrency from each reply, and send the next renewal on the subject of that bucket",
    shard_ids=(5,),
    max_concurrency=2,
)
async def a_reply_moves_it_to_another_bucket(kit: ClientHarness) -> None:
    """`queued` says three buckets, so that shard 5 renews in bucket 2, with the same id."""
    request = await kit.first_request(5)
    kit.coordinator.max_concurrency = 3
    for _ in range(TRIES):
        since = kit.now
        await kit.coordinator.queued(request, renew_in_ms=SHORT_MS)
        request = await kit.renewal(request, since=since)
        if request.bucket == 5 % 3:
            await kit.finish(request)
            return
    kit.broken(f"shard 5 went on in bucket {request.bucket} although replies had max_concurrency 3: bucket 2")


@client_rule(
    reason="the queue is full or the request is wrong: the same again, at once and by all, makes that worse",
    advice="after `overloaded` wait retry_after_ms, after `bad_request` 5 s, and a random part; then ask again",
)
async def it_waits_as_long_as_a_refusal_demands(kit: ClientHarness) -> None:
    """`overloaded` with three seconds, then `bad_request`; no refusal is a grant, and after each it asks again."""
    request = await kit.first_request()
    kit.record.situation = "its request was refused"
    request = await kit.refuse_until_waited(request, Reason.OVERLOADED, RETRY_MS, retry_after_ms=RETRY_MS)
    request = await kit.refuse_until_waited(request, Reason.BAD_REQUEST, BAD_REQUEST_MS)
    await kit.finish(request)


@client_rule(
    reason="an id that was withdrawn or used is never granted again; and without a pause two clients chase each other",
    advice="after `ended` begin anew with a new random request_id and renewal 0, after 0.25 s, doubled each time",
)
async def after_ended_it_asks_with_a_new_id(kit: ClientHarness) -> None:
    """`ended` comes twice; each time another id follows, after a pause that doubles."""
    request = await kit.first_request()
    kit.record.situation = "its request had ended"
    ids = {request.body.request_id}
    for pause_ms in (ANEW_MS, 2 * ANEW_MS):
        since = kit.now
        at_ns = await kit.coordinator.refuse(request, Reason.ENDED)
        request = await kit.another(ids, since=since)
        waited_ms = (request.at_ns - at_ns) // NS_PER_MS
        if waited_ms < pause_ms * EARLY:
            kit.broken(f"it asked anew {waited_ms} ms after `ended`; this time the pause is {pause_ms} ms or more")
        ids.add(request.body.request_id)
    await kit.finish(request)


@client_rule(
    reason="a request keeps its place by its id; under a new one the shard stands at the end after each blip",
    advice="reconnect without end, and renew the same request with the next number, within seconds of the reconnect",
)
async def a_reconnect_keeps_its_request(kit: ClientHarness) -> None:
    """Its connection breaks while the pace is a minute; it renews soon, with its id, its next number and its wait."""
    request = await kit.first_request()
    await kit.coordinator.queued(request, renew_in_ms=LONG_MS, position=1, eta_ms=2 * LONG_MS)
    await kit.quiet()
    since = kit.now
    await kit.proxy.cut()
    renewed = await kit.renewal(request, since=since, within_s=LONG_MS / 2 / 1000)
    if renewed.body.waited_ms < request.body.waited_ms:
        kit.broken(f"after a reconnect waited_ms is {renewed.body.waited_ms}; {request.body.waited_ms} was sent before")
    await kit.finish(renewed)


@client_rule(
    reason="where each process decides alone, all shards identify at once: the day's limit is spent in seconds",
    advice="wait for a grant without end; no time limit, no failed request and no lost connection is permission",
)
async def it_waits_while_nats_is_away(kit: ClientHarness) -> None:
    """NATS is away for some seconds; no shard identifies, and after that the same request goes on."""
    request = await kit.first_request()
    await kit.coordinator.queued(request, renew_in_ms=2_000)
    kit.record.situation = "NATS was away"
    kit.proxy.is_away = True
    await kit.proxy.cut()
    await kit.quiet(AWAY_S)
    since = kit.now
    kit.proxy.is_away = False
    renewed = await kit.renewal(request, since=since, within_s=RENEW_WITHIN_S)
    await kit.finish(renewed)


@client_rule(
    reason="NATS says 503 where no coordinator is connected; that is an outage, and no reply of a coordinator",
    advice="go on renewing after an empty message with the header Status: 503, and take it for no grant",
)
async def it_waits_while_no_coordinator_answers(kit: ClientHarness) -> None:
    """Every coordinator is away for some seconds; no shard identifies, and after that the same request goes on."""
    request = await kit.first_request()
    await kit.coordinator.queued(request, renew_in_ms=SHORT_MS)
    kit.record.situation = "no coordinator was connected"
    await kit.coordinator.unsubscribe()
    await kit.quiet(AWAY_S)
    since = kit.now
    await kit.coordinator.subscribe()
    kit.record.situation = NO_GRANT
    await kit.coordinator.queued(request, renew_in_ms=0)
    renewed = await kit.renewal(request, since=since, within_s=RENEW_WITHIN_S)
    await kit.finish(renewed)


@client_rule(
    reason="a request that nothing withdraws waits for its turn, and costs the shards behind it a try",
    advice='on SIGTERM publish {"request_id": …} on <prefix>.cancel.<bucket>, flush, and end',
)
async def it_withdraws_when_it_ends(kit: ClientHarness) -> None:
    """The client is ended while its shard waits; a cancel arrives, in the bucket of the request."""
    request = await kit.first_request()
    await kit.coordinator.queued(request, renew_in_ms=LONG_MS)
    await kit.quiet()
    kit.record.may_end = True
    kit.record.situation = "the client was ended"
    await kit.client.end()
    cancel = await kit.cancelled(request)
    if cancel.bucket != request.bucket:
        kit.broken(f"its request is in bucket {request.bucket}, and its cancel in bucket {cancel.bucket}")


MANAGED_RULES: Final = (
    each_shard_asks_with_a_request_of_its_own,
    it_renews_at_the_pace_of_the_reply,
    a_nudge_is_answered_at_once,
    it_slows_down_while_unanswered,
    it_sends_at_most_20_times_a_second,
    waited_ms_is_the_time_since_the_first_sending,
    a_grant_is_used_once_and_confirmed,
    a_late_grant_is_declined,
    use_within_counts_from_the_renewal_of_the_grant,
    a_copy_of_a_grant_gets_the_same_answer,
    another_grant_is_declined,
    only_its_own_grants_are_answered,
    unknown_replies_are_ignored,
    a_refusal_moves_it_to_another_bucket,
    a_reply_moves_it_to_another_bucket,
    it_waits_as_long_as_a_refusal_demands,
    after_ended_it_asks_with_a_new_id,
    a_reconnect_keeps_its_request,
    it_waits_while_nats_is_away,
    it_waits_while_no_coordinator_answers,
    it_withdraws_when_it_ends,
)
"""Every rule of a managed client."""
