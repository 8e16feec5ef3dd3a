"""Checks any `Queue` against the rules that a bot relies on; it contains no queue, and measures no speed.

Hand it your own queue, in a test of yours::

    @asynccontextmanager
    async def make_queue(max_concurrency: int) -> AsyncIterator[Queue]:
        yield MyQueue(max_concurrency, window_s=0.3)


    @pytest.mark.parametrize("check", CHECKS, ids=str)
    async def test_my_queue(check: Check) -> None:
        await check(make_queue, window_s=0.3)

A fast machine and a slow one find the same: order is compared, and the only times are lower bounds.
"""

from contextlib import suppress
from functools import partial
from typing import Final

from nats_identify.clock import now_ns
from nats_identify.testing.queue_harness import BUCKETS, QueueHarness, ShardRequest
from nats_identify.testing.rule import (
    TIMEOUT_S,
    WINDOW_S,
    Check,
    Finding,
    NonConformingError,
    QueueFactory,
    rule,
)

__all__ = ["CHECKS", "Check", "Finding", "NonConformingError", "QueueFactory", "check"]


@rule(
    reason="a shard connects, looks at its clock and reports by what the grant says",
    advice="fill in the Grant; use_by_ns is on nats_identify.clock.now_ns",
    max_concurrency=4,
)
async def a_grant_names_its_shard_its_bucket_and_its_end(harness: QueueHarness) -> None:
    """The grant of shard 6 of 4 buckets says so, and lasts beyond the moment of asking."""
    asked_at_ns = now_ns()
    grant = await harness.hold(6)
    told = (grant.shard_id, grant.bucket, grant.max_concurrency)
    if told != (6, 2, 4):
        harness.broken(f"shard 6 of 4 buckets was granted (shard_id, bucket, max_concurrency) = {told}")
    if grant.use_by_ns <= asked_at_ns:
        harness.broken("the grant was over before it was asked for")


@rule(
    reason="a bot that starts, or a shard that reconnects alone, must not wait for nothing",
    advice="where the bucket is free, grant within acquire itself; let no tick and no poll decide when",
    max_concurrency=BUCKETS,
)
async def an_idle_bucket_grants_at_once(harness: QueueHarness) -> None:
    """A window runs in one bucket; a shard that then asks in an idle one comes before its end."""

    async def ask_idle() -> ShardRequest:
        await harness.start_window()
        return await harness.ask(harness.shard(0))

    await harness.promptly(ask_idle, "the first shard of an idle bucket waited as long as in a busy one")


@rule(
    reason="Discord counts each bucket by itself; one line for all makes a large bot start many times slower",
    advice="keep one line and one window for each shard_id % max_concurrency",
    max_concurrency=2,
)
async def buckets_do_not_wait_for_each_other(harness: QueueHarness) -> None:
    """While one bucket's turn is held and a shard waits for it, another bucket grants."""
    await harness.hold(0)
    behind, elsewhere = await harness.ask(2), await harness.ask(1)
    if await harness.first(behind, elsewhere) is behind:
        harness.broken("shard 1, alone in its bucket, came after shard 2, which waited for shard 0 to identify")


@rule(
    reason="Discord answers Invalid Session to an IDENTIFY that comes within a window of the one before",
    advice="start the window in identified(), not when the turn is granted: between the two a shard connects",
)
async def the_window_starts_at_identified(harness: QueueHarness) -> None:
    """Shards take half a window to identify; each next one comes a whole window after that, or later."""
    grant = await harness.hold(0)
    for request in [await harness.ask(shard_id) for shard_id in (1, 2)]:
        since = f"shard {grant.shard_id} was reported identified"
        await harness.pass_windows(0.5)
        identified_at_ns = harness.identified(grant)
        grant = await harness.granted(request)
        harness.window_since(identified_at_ns, request, since=since)


@rule(
    reason="until use_by_ns a silent shard may still send, so no other IDENTIFY is safe; after an answer one window is",
    advice="shut the bucket until a window after use_by_ns, and let identified() bring that forward; never fail open",
    max_concurrency=2,
)
async def an_answer_opens_a_bucket_sooner_than_silence(harness: QueueHarness) -> None:
    """Two turns are held; one is answered, and the shard that waits for it comes first. Then the other one is."""
    held, answered = await harness.hold(0), await harness.hold(1)
    behind_held, behind_answered = await harness.ask(2), await harness.ask(3)
    harness.identified(answered)
    if await harness.first(behind_held, behind_answered) is behind_held:
        harness.window_since(held.use_by_ns, behind_held, since="the last moment of shard 0, which was silent")
        harness.broken("a bucket whose turn was identified stayed shut as long as one whose turn was not")
    identified_at_ns = harness.identified(held)
    await harness.granted(behind_held)
    harness.window_since(identified_at_ns, behind_held, since="shard 0 was reported identified")


@rule(
    reason="otherwise newer requests could keep the oldest one waiting without end",
    advice="append to a line, and take from its head",
)
async def first_come_first_served(harness: QueueHarness) -> None:
    """Within one priority, requests are granted in the order of their arrival."""
    await harness.expect_order(asked=[(4, 0), (1, 0), (3, 0), (2, 0)], expected=[4, 1, 3, 2])


@rule(
    reason="a session that was live and was lost has users waiting; a first start has not",
    advice="sort the line by priority, highest first, then by arrival",
)
async def higher_priority_goes_first(harness: QueueHarness) -> None:
    """Priority decides, and within one priority the order of arrival."""
    await harness.expect_order(asked=[(1, -1), (2, 0), (3, 1), (4, 0), (5, 1)], expected=[3, 5, 2, 4, 1])


@rule(
    reason="an unused turn costs Discord nothing; a window's wait for it makes every start slower",
    advice="in decline(), grant the next shard at once, and start no window",
    max_concurrency=BUCKETS,
)
async def a_declined_turn_goes_on_at_once(harness: QueueHarness) -> None:
    """A shard declines while a window runs elsewhere; the one behind it comes before the end of that."""

    async def decline() -> ShardRequest:
        grant, (behind,) = await harness.line_up(1)
        await harness.start_window()
        harness.decline(grant)
        return behind

    await harness.promptly(decline, "the shard behind a declined turn had to wait a window")


@rule(
    reason="shards are stopped while they wait all the time; their turns would stall every shard behind them",
    advice="on CancelledError in acquire, take the request out of the line, and raise it again",
    max_concurrency=BUCKETS,
)
async def a_cancelled_wait_swallows_no_turn(harness: QueueHarness) -> None:
    """The first in line is cancelled; the turn that would have been its own goes to the second, at once."""

    async def cancel() -> ShardRequest:
        grant, (given_up, behind) = await harness.line_up(2)
        await harness.cancel(given_up)
        await harness.start_window()
        harness.decline(grant)
        return behind

    await harness.promptly(cancel, "a cancelled wait still took its turn, and the shard behind it waited")


@rule(
    reason="a cancel may cross its grant; where neither side gives the turn back, it is lost for long",
    advice="on CancelledError in acquire, decline a grant that was already made for it",
    max_concurrency=BUCKETS,
)
async def a_cancel_that_crosses_its_grant_gives_the_turn_back(harness: QueueHarness) -> None:
    """As above, but the cancel comes some steps of the event loop after the turn became free."""

    async def cross(steps: int) -> ShardRequest:
        grant, (given_up, behind) = await harness.line_up(2)
        await harness.start_window()
        harness.decline(grant)
        await harness.cancel(given_up, after_steps=steps)
        return behind

    for steps in range(4):
        await harness.promptly(partial(cross, steps), "a wait that was cancelled as its grant came kept the turn")


@rule(
    reason="connections fail right before IDENTIFY; nothing was sent, so no shard should wait for it",
    advice="inherit turn() from Queue, and let acquire and decline obey the rules about cancelled and declined",
    max_concurrency=BUCKETS,
)
async def an_exception_before_granted_gives_the_turn_back(harness: QueueHarness) -> None:
    """A block entered with ``near=True`` fails; the shard behind it goes at once."""

    async def fail() -> ShardRequest:
        with suppress(ConnectionError):
            async with harness.queue.turn(harness.shard(0), near=True):
                behind = await harness.ask(harness.shard(1))
                await harness.start_window()
                raise ConnectionError
        return behind

    await harness.promptly(fail, "the shard behind a block that failed had to wait a window")


@rule(
    reason="a shard whose connection took too long would otherwise start again at the end of the line",
    advice="in acquire, decline replaces, and go on with the priority and the time of its first request",
)
async def a_late_grant_is_given_back_and_keeps_its_place(harness: QueueHarness) -> None:
    """A shard asks again instead of a grant; it may miss the turn that it gave back, but no second one."""
    late = await harness.hold(0)
    waiting = [await harness.ask(shard_id) for shard_id in (1, 2, 3)]
    again = await harness.ask(0, replaces=late)
    order = await harness.pass_along(again, *waiting)
    if order.index(0) > 1:
        harness.broken(f"shard 0 came first and was late once; then the turns went to shards {order}")
    if again.task.result().grant_id == late.grant_id:
        harness.broken("the late grant was granted again under its old grant_id, on which was decided already")


@rule(
    reason="in a rolling deploy two processes run the same shard for a while, and both must start",
    advice="identify requests by an id of their own, never by the shard id",
)
async def two_requests_of_one_shard_are_two_requests(harness: QueueHarness) -> None:
    """Of three requests of one shard one is cancelled; the other two are granted, each by itself."""
    grant = await harness.hold(0)
    first, given_up, second = [await harness.ask(7) for _ in range(3)]
    await harness.cancel(given_up)
    harness.decline(grant)
    await harness.pass_along(first, second)
    if first.task.result().grant_id == second.task.result().grant_id:
        harness.broken("two requests of shard 7 were given one grant")


@rule(
    reason="one lost wakeup leaves a shard dark for good, and one too many breaks Discord's limit",
    advice="check the line again whenever a turn ends, in any way, and whenever a window ends",
    max_concurrency=2,
)
async def of_many_each_is_granted_once(harness: QueueHarness) -> None:
    """Twelve shards in two buckets, every second of which declines: twelve grants, windows kept."""
    waiting = [await harness.ask(shard_id) for shard_id in range(12)]
    identified_at_ns: dict[int, int] = {}
    grants = []
    while waiting:
        request = await harness.first(*waiting)
        waiting.remove(request)
        grant = request.task.result()
        grants.append(grant.grant_id)
        if grant.bucket in identified_at_ns:
            since = "the newest IDENTIFY of its bucket"
            harness.window_since(identified_at_ns[grant.bucket], request, since=since)
        if grant.shard_id // 2 % 2:
            harness.decline(grant)
        else:
            identified_at_ns[grant.bucket] = harness.identified(grant)
    if len(set(grants)) != len(grants):
        harness.broken("two requests were given one grant")


CHECKS: Final = (
    a_grant_names_its_shard_its_bucket_and_its_end,
    an_idle_bucket_grants_at_once,
    buckets_do_not_wait_for_each_other,
    the_window_starts_at_identified,
    an_answer_opens_a_bucket_sooner_than_silence,
    first_come_first_served,
    higher_priority_goes_first,
    a_declined_turn_goes_on_at_once,
    a_cancelled_wait_swallows_no_turn,
    a_cancel_that_crosses_its_grant_gives_the_turn_back,
    an_exception_before_granted_gives_the_turn_back,
    a_late_grant_is_given_back_and_keeps_its_place,
    two_requests_of_one_shard_are_two_requests,
    of_many_each_is_granted_once,
)
"""Every rule, for ``pytest.mark.parametrize("check", CHECKS, ids=str)``."""


async def check(make_queue: QueueFactory, *, window_s: float = WINDOW_S, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Check every rule, each with a queue of its own; return what is broken: nothing, for a good queue.

    Args:
        make_queue: as `QueueFactory` says.
        window_s: the window that its queues run with, in seconds.
        timeout_s: the longest that one rule may take, in seconds.
    """
    findings: list[Finding] = []
    for one in CHECKS:
        try:
            await one(make_queue, window_s=window_s, timeout_s=timeout_s)
        except NonConformingError as error:
            findings.append(error.finding)
    return findings
