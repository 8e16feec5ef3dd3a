"""One client under test with a played coordinator, and the steps that rules are made of. It has no rules of its own.

No rule depends on a fast machine: a client is late only if it is late in each try, or after `WITHIN_S`; and what comes
too early is measured from before the kit sent its message to after the client's message arrived.
"""

from collections.abc import Callable, Collection
from typing import Final, NoReturn

from nats_identify.clock import NS_PER_MS
from nats_identify.reason import Reason
from nats_identify.schedule.model import Outcome
from nats_identify.testing.client_kit.client import ClientUnderTest
from nats_identify.testing.client_kit.coordinator import GrantSent, PlayedCoordinator
from nats_identify.testing.client_kit.proxy import Proxy
from nats_identify.testing.client_kit.record import (
    CancelSeen,
    ClientFaultError,
    ConfirmSeen,
    EndSeen,
    IdentifySeen,
    Record,
    RequestSeen,
)
from nats_identify.testing.queue_harness import RuleBrokenError

WITHIN_S: Final = 30.0
"""What a client does at once, it has done by then, on a machine that is as busy as it may be."""

START_WITHIN_S: Final = 60.0
"""The time in which a client starts, connects and asks."""

RENEW_WITHIN_S: Final = 75.0
"""The longest pace of a client that has no answer, 60 s, and some time."""

QUIET_S: Final = 1.5
"""How long the kit looks whether a client does what it must not do."""

TRIES: Final = 4
"""Tries of a step for promptness; one success is enough, since a stalled machine can hide it but not fake it."""


class ClientHarness:
    """What a rule plays with.

    Args:
        client: started by the runner.
        coordinator: played, and there.
        proxy: between the client and NATS.
        record: of this case.
    """

    def __init__(self, client: ClientUnderTest, coordinator: PlayedCoordinator, proxy: Proxy, record: Record) -> None:
        self.client = client
        self.coordinator = coordinator
        self.proxy = proxy
        self.record = record
        self.waits_for = "a request"

    # --- what the client does

    async def first_request(self, shard_id: int = 0) -> RequestSeen:
        """Wait for the first request of a shard."""
        what = f"a request of shard {shard_id} after the start"
        return await self.expect_request(lambda seen: seen.shard_id == shard_id, 0, what, START_WITHIN_S)

    async def next_request(self, before: RequestSeen, *, since: int, within_s: float = WITHIN_S) -> RequestSeen:
        """Wait for the next request of the shard of a request, of whatever id, from the entry ``since`` on."""
        what = f"the next request of shard {before.shard_id}"
        return await self.expect_request(lambda seen: seen.shard_id == before.shard_id, since, what, within_s)

    async def renewal(self, before: RequestSeen, *, since: int, within_s: float = WITHIN_S) -> RequestSeen:
        """Wait for the next renewal of a request, by the same id and a higher number.

        Raises:
            RuleBrokenError: the shard asked under another id, or with a number that it had used already.
        """
        found = await self.next_request(before, since=since, within_s=within_s)
        if found.body.request_id != before.body.request_id:
            raise ClientFaultError(
                f"shard {before.shard_id} asked as {before.body.request_id}, and then as {found.body.request_id}, "
                "although its request had not ended",
                reason="a request keeps its place by its id; each new one stands at the end of the queue",
                advice="keep the request_id until the shard has identified, withdraws, or receives `ended`",
            )
        if found.body.renewal <= before.body.renewal:
            raise ClientFaultError(
                f"a renewal of shard {before.shard_id} has the number {found.body.renewal}; "
                f"number {before.body.renewal} was sent before",
                reason="a grant echoes the number, and use_within_ms counts from its first sending",
                advice="count `renewal` up by one each time that the request is sent, over reconnects too",
            )
        return found

    async def moved(self, request: RequestSeen, buckets: int) -> RequestSeen:
        """Refuse a request as one of the wrong bucket, until it comes in the right one; return it there."""
        for _ in range(TRIES):
            since = self.now
            await self.coordinator.refuse(request, Reason.WRONG_BUCKET, max_concurrency=buckets)
            request = await self.next_request(request, since=since)
            if request.bucket == request.shard_id % buckets:
                return request
        raise RuleBrokenError(
            f"shard {request.shard_id} went on in bucket {request.bucket} after `wrong_bucket` with max_concurrency "
            f"{buckets}, which is bucket {request.shard_id % buckets}"
        )

    async def another(self, ids: Collection[str | None], *, since: int) -> RequestSeen:
        """Wait for a request whose id is none of these."""
        what = "a request with a new request_id"
        return await self.expect_request(lambda seen: seen.body.request_id not in ids, since, what, WITHIN_S)

    def newest(self, request: RequestSeen) -> RequestSeen:
        """Return the newest renewal of this request."""
        ours = (one for one in self.record.entries if isinstance(one, RequestSeen))
        return [one for one in ours if one.body.request_id == request.body.request_id][-1]

    async def expect_request(
        self, matches: Callable[[RequestSeen], bool], since: int, what: str, within_s: float
    ) -> RequestSeen:
        """Wait for a request; one that a coordinator cannot read ends the case."""
        self.waits_for = what
        found = await self.record.until(
            RequestSeen, lambda seen: bool(seen.problem) or matches(seen), since=since, within_s=within_s
        )
        if found is None:
            self.broken(f"in {within_s:g} s the kit saw no {what.removeprefix('a ').removeprefix('the ')}")
        if found.problem:
            raise ClientFaultError(
                f"a request cannot be used: {found.problem}",
                reason="a coordinator refuses or drops it, and the shard waits for ever",
                advice="send what docs/protocol.md describes; its JSON Schemas are in docs/schemas",
            )
        return found

    async def used(self, grant: GrantSent, *, since: int = 0) -> ConfirmSeen:
        """Demand that the shard identifies, and confirms that on the grant's reply subject."""
        shard_id = grant.body.shard_id
        confirm = await self.confirmed(grant, since=since)
        if confirm.outcome is not Outcome.IDENTIFIED:
            self.broken(f"a grant for shard {shard_id} that came in time was answered {_said(confirm)}")
        line = await self.record.until(
            IdentifySeen, lambda seen: seen.shard_id == shard_id, since=since, within_s=WITHIN_S
        )
        if line is None:
            self.broken(f"shard {shard_id} confirmed `identified`, but printed no line `identify {shard_id}`")
        return confirm

    async def declined(self, grant: GrantSent, *, since: int = 0) -> ConfirmSeen:
        """Demand that the shard declines."""
        confirm = await self.confirmed(grant, since=since)
        if confirm.outcome is not Outcome.DECLINED:
            asked = f"shard {grant.body.shard_id} answered {_said(confirm)} where it had to decline"
            self.broken(f"{asked}: {self.record.situation}")
        return confirm

    async def confirmed(self, grant: GrantSent, *, since: int = 0) -> ConfirmSeen:
        """Wait for an answer to this grant."""
        what = f"an answer to the grant for shard {grant.body.shard_id}"
        self.waits_for = what
        found = await self.record.until(
            ConfirmSeen, lambda seen: seen.grant_id == grant.grant_id, since=since, within_s=WITHIN_S
        )
        if found is None:
            self.broken(f"in {WITHIN_S:g} s the kit saw no {what.removeprefix('an ')}")
        if found.bucket != grant.body.bucket:
            self.broken(
                f"it answered a grant of bucket {grant.body.bucket} on the confirm subject of bucket {found.bucket}; "
                "the answer goes to the reply subject of the grant's message"
            )
        return found

    async def cancelled(self, request: RequestSeen) -> CancelSeen:
        """Wait for the withdrawal of a request, which a client sends as it ends."""
        self.waits_for = "a cancel"
        ids = (None, request.body.request_id)
        found = await self.record.until(CancelSeen, lambda seen: seen.request_id in ids, within_s=WITHIN_S)
        if found is None:
            self.broken(f"the client ended, and did not withdraw the request of shard {request.shard_id}")
        if found.request_id is None:
            self.broken('its cancel cannot be read; it is {"request_id": …}')
        return found

    def confirms_of(self, grant: GrantSent) -> list[ConfirmSeen]:
        """Every answer to this grant so far."""
        return [one for one in self.record.entries if isinstance(one, ConfirmSeen) and one.grant_id == grant.grant_id]

    def was_confirmed(self, grant_id: str) -> bool:
        """Whether an answer came on the confirm subject of this grant."""
        return any(isinstance(one, ConfirmSeen) and one.grant_id == grant_id for one in self.record.entries)

    async def quiet(self, seconds: float = QUIET_S) -> None:
        """Look for this long whether a shard identifies without a turn, or the client ends."""
        await self.record.stay(seconds)

    async def until_ended(self, within_s: float) -> bool:
        """Wait for the end of the client; return whether it came."""
        return await self.record.until(EndSeen, lambda _: True, within_s=within_s) is not None

    # --- what the kit does

    @property
    def now(self) -> int:
        """The number of the next entry: where to look for what follows from now on."""
        return len(self.record.entries)

    async def grant_now(self, request: RequestSeen) -> GrantSent:
        """Send a grant that the shard may use."""
        grant = self.coordinator.grant_of(request)
        await self.permit(grant)
        return grant

    async def permit(self, grant: GrantSent) -> None:
        """Send this grant, which the shard may use."""
        self.record.permit(grant.body.shard_id)
        self.record.situation = "its only grant was used already"
        await self.coordinator.send_grant(grant)

    async def finish(self, request: RequestSeen) -> None:
        """Grant a request, and demand that it is used: the client goes on as it should."""
        since = self.now
        grant = await self.grant_now(request)
        await self.used(grant, since=since)

    async def refuse_until_waited(
        self, request: RequestSeen, code: Reason, wait_ms: int, *, anew: bool = False, **fields: int
    ) -> RequestSeen:
        """Refuse, and demand that the next request comes no sooner than after ``wait_ms``; return it.

        A renewal that crosses a refusal, on a machine that stalls, may come sooner: then it is refused, too.
        """
        waits_ms: list[int] = []
        for _ in range(TRIES):
            since = self.now
            at_ns = await self.coordinator.refuse(request, code, **fields)
            seen = await (self.next_request if anew else self.renewal)(request, since=since, within_s=RENEW_WITHIN_S)
            waits_ms.append((seen.at_ns - at_ns) // NS_PER_MS)
            if waits_ms[-1] >= wait_ms:
                return seen
            request = seen
        shown = ", ".join(str(wait) for wait in waits_ms)
        raise RuleBrokenError(f"after `{code}` it had to wait {wait_ms} ms or more; it asked again after {shown} ms")

    def broken(self, seen: str) -> NoReturn:
        """End the case with what was seen.

        Raises:
            RuleBrokenError: always.
        """
        self.record.check()  # the cause comes first
        raise RuleBrokenError(seen)


def _said(confirm: ConfirmSeen) -> str:
    return "with what is no outcome" if confirm.outcome is None else f"`{confirm.outcome}`"
