"""LocalQueue with a clock that is moved by hand: windows, silence, the day's limit, closing."""

import asyncio
import logging
from typing import Any

import pytest

from nats_identify import Grant, LocalQueue, Progress, QueueClosedError
from nats_identify.reason import Reason
from nats_identify.schedule.model import DAY, MS, SECOND, Cancel, RequestReceived
from tests.view import view_of

STEP_MS = 50


class Desk:
    """A LocalQueue, the clock in hand, and the shards that were granted."""

    def __init__(self, max_concurrency: int = 1, *, session_total: int | None = 1000) -> None:
        self.now_ns = 1_000 * SECOND
        self.queue = LocalQueue(max_concurrency, session_total=session_total, clock=lambda: self.now_ns)
        self.granted: list[int] = []
        self.told: dict[int, list[Progress]] = {}

    async def ask(self, shard_id: int, *, priority: int = 0) -> asyncio.Task[Grant]:
        """Let a shard ask, and everything happen that can happen now."""
        request = asyncio.create_task(self._ask(shard_id, priority))
        await self.settle()
        return request

    async def pass_ms(self, duration_ms: int, *, step_ms: int = STEP_MS) -> None:
        """Move time forward in steps; at each, everything happens that can happen then."""
        end_ns = self.now_ns + duration_ms * MS
        while self.now_ns < end_ns:
            self.now_ns = min(end_ns, self.now_ns + step_ms * MS)
            self.queue._wake.set()
            await self.settle()

    async def identified(self, grant: Grant) -> None:
        """Say so, and let the queue take it in."""
        self.queue.identified(grant)
        await self.settle()

    async def settle(self) -> None:
        """Let all tasks run until none has anything left to do at this instant: more rounds than any needs."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _ask(self, shard_id: int, priority: int) -> Grant:
        tell = self.told.setdefault(shard_id, []).append
        grant = await self.queue.acquire(shard_id, priority=priority, on_progress=tell)
        self.granted.append(shard_id)
        return grant


@pytest.fixture
async def desk():
    desk = Desk()
    yield desk
    await desk.queue.close()


async def test_an_idle_bucket_grants_without_time_passing(desk):
    grant = (await desk.ask(0)).result()
    assert (grant.shard_id, grant.bucket, grant.max_concurrency, grant.waited_ms) == (0, 0, 1, 0)
    assert grant.use_by_ns == desk.now_ns + 5 * SECOND
    assert grant.remaining == 999


async def test_the_next_comes_a_window_and_a_margin_after_identified(desk):
    first = (await desk.ask(0)).result()
    second = await desk.ask(1)
    await desk.pass_ms(700)
    await desk.identified(first)
    await desk.pass_ms(5_199)
    assert desk.granted == [0]
    await desk.pass_ms(1)
    assert desk.granted == [0, 1]
    assert second.result().waited_ms == 5_900


async def test_a_silent_shard_keeps_its_bucket_until_nothing_can_come_of_it(desk):
    await desk.ask(0)
    await desk.ask(1)
    await desk.pass_ms(10_199)
    assert desk.granted == [0]
    await desk.pass_ms(1)
    assert desk.granted == [0, 1]


async def test_a_declined_turn_goes_on_without_time_passing_and_costs_nothing(desk):
    first = (await desk.ask(0)).result()
    second = await desk.ask(1)
    desk.queue.decline(first)
    await desk.settle()
    assert second.result().remaining == 999


async def test_buckets_are_released_side_by_side():
    desk = Desk(16)
    for shard_id in range(16):
        await desk.ask(shard_id)
    assert desk.granted == list(range(16))
    await desk.queue.close()


async def test_a_long_line_keeps_its_order_for_hours(desk):
    requests = [await desk.ask(shard_id) for shard_id in range(200)]
    for done in requests:
        while not done.done():
            await desk.pass_ms(400, step_ms=400)
        await desk.identified(done.result())
    assert desk.granted == list(range(200))
    assert desk.now_ns >= (1_000 + 199 * 5.2) * SECOND


async def test_a_lost_session_goes_before_first_starts(desk):
    first = (await desk.ask(0)).result()
    await desk.ask(1)
    await desk.ask(2, priority=1)
    desk.queue.decline(first)
    await desk.settle()
    assert desk.granted == [0, 2]


async def test_a_cancelled_wait_is_gone(desk):
    first = (await desk.ask(0)).result()
    given_up = await desk.ask(1)
    await desk.ask(2)
    given_up.cancel()
    await desk.settle()
    desk.queue.decline(first)
    await desk.settle()
    assert desk.granted == [0, 2]


async def test_a_late_grant_asks_on_at_its_place(desk):
    late = (await desk.ask(0)).result()
    await desk.ask(1)
    await desk.ask(2)
    again = asyncio.create_task(desk.queue.acquire(0, replaces=late))
    await desk.settle()
    assert desk.granted == [0, 1]  # the turn went on while shard 0 asked again
    await desk.pass_ms(10_200)
    assert again.result().request_id == late.request_id
    assert desk.granted == [0, 1]


# --- a request that somebody else ended


def waiting_ids(desk):
    """The ids of those who wait, in their order."""
    return list(view_of(desk.queue._schedule).queues.get(0, ()))


async def test_a_request_that_is_ended_again_and_again_is_asked_anew_at_a_bounded_pace(desk, caplog, monkeypatch):
    ids = []
    schedule = desk.queue._schedule
    handle = schedule.handle

    def cancel_first(event, now_ns):
        if isinstance(event, RequestReceived):
            ids.append(event.request_id)
            handle(Cancel(event.request_id), now_ns)
        return handle(event, now_ns)

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        patch.setattr(schedule, "handle", cancel_first)
        waiting = await desk.ask(1)
        await desk.pass_ms(120_000)
    assert 15 <= len(ids) == len(set(ids)) <= 22
    lines = [line for line in caplog.messages if line.startswith("shard 1 waits: its request ended")]
    assert 4 <= len(lines) <= 5  # at once, and then each 30 s: the next pause is 9.6 s at most
    await desk.pass_ms(10_000)
    assert waiting.result().request_id not in ids
    assert not desk.queue._pending.keys() & set(ids)


async def test_a_late_grant_that_was_ended_meanwhile_is_exchanged_for_a_new_one(desk):
    late = (await desk.ask(0)).result()
    await desk.ask(1)
    again = asyncio.create_task(desk.queue.acquire(0, replaces=late))
    await desk.settle()
    desk.queue._schedule.handle(Cancel(late.request_id), desk.now_ns)
    await desk.pass_ms(20_000)
    grant = again.result()
    assert grant.request_id != late.request_id
    await desk.identified(grant)
    desk.queue.decline(late)  # it is long over
    third = await desk.ask(2)
    await desk.pass_ms(5_199)
    assert not third.done()
    await desk.pass_ms(1)
    assert third.done()


async def test_a_wait_that_goes_on_under_a_new_id_is_withdrawn_under_it(desk):
    await desk.ask(0)
    waiting = await desk.ask(1)
    (old,) = waiting_ids(desk)
    desk.queue._schedule.handle(Cancel(old), desk.now_ns)
    await desk.pass_ms(6_000)
    (new,) = waiting_ids(desk)
    assert new != old
    waiting.cancel()
    await desk.settle()
    assert waiting_ids(desk) == []
    assert desk.queue._pending.keys() == {hold.request_id for hold in view_of(desk.queue._schedule).holds.values()}


# --- what is told


async def test_progress_tells_place_eta_and_when_it_is_near(desk):
    first = (await desk.ask(0)).result()
    await desk.identified(first)
    await desk.ask(1)
    await desk.ask(2)
    assert desk.told[1][-1] == Progress(1, 5_200, Reason.WINDOW, near=False)
    assert desk.told[2][-1] == Progress(2, 10_400, Reason.WINDOW, near=False)
    await desk.pass_ms(3_199)
    assert not any(progress.near for progress in desk.told[1])
    await desk.pass_ms(1)
    assert desk.told[1][-1].near
    assert not any(progress.near for progress in desk.told[2])


async def test_a_callback_that_fails_ends_no_wait(desk, caplog):
    def fail(_progress: Progress) -> None:
        raise ZeroDivisionError

    first = (await desk.ask(0)).result()
    request = asyncio.create_task(desk.queue.acquire(1, on_progress=fail))
    await desk.settle()
    assert "on_progress of shard 1 failed" in caplog.text
    desk.queue.decline(first)
    await desk.settle()
    assert request.done()


async def test_an_identify_long_after_its_end_is_said_aloud(desk, caplog):
    grant = (await desk.ask(0)).result()
    await desk.pass_ms(6_500)
    with caplog.at_level(logging.WARNING):
        desk.queue.identified(grant)
    assert "shard 0 used its turn 1.5 s too late" in caplog.text


async def test_what_discord_made_of_it_may_be_told_at_any_time(desk):
    grant = (await desk.ask(0)).result()
    desk.queue.identified(grant)
    desk.queue.ready(grant)
    desk.queue.rejected(grant)
    await desk.pass_ms(60_000, step_ms=1_000)
    desk.queue.ready(grant)
    await desk.settle()


# --- the day


async def test_a_spent_day_waits_for_its_end():
    desk = Desk(session_total=1)
    await desk.identified((await desk.ask(0)).result())
    await desk.ask(1)
    await desk.pass_ms(60_000, step_ms=1_000)
    assert desk.told[1][-1].reason == "session_limit"
    day_ms = DAY // MS
    await desk.pass_ms(day_ms - 60_000, step_ms=10_000)
    assert desk.granted == [0]
    await desk.pass_ms(day_ms // 1000, step_ms=10_000)
    assert desk.granted == [0, 1]
    await desk.queue.close()


async def test_where_nobody_counts_nothing_is_told():
    desk = Desk(session_total=None)
    assert (await desk.ask(0)).result().remaining is None
    await desk.queue.close()


# --- what makes no sense is refused where it is said


@pytest.mark.parametrize("max_concurrency", [0, -1])
def test_a_max_concurrency_that_cannot_be_is_refused(max_concurrency):
    with pytest.raises(ValueError, match="max_concurrency"):
        LocalQueue(max_concurrency)


@pytest.mark.parametrize(("shard_id", "priority"), [(-1, 0), (0, 11), (0, -11)])
async def test_an_asking_that_cannot_be_is_refused_and_leaves_nothing_behind(desk, shard_id, priority):
    with pytest.raises(ValueError, match=r"shard_id|priority"):
        await desk.queue.acquire(shard_id, priority=priority)
    assert not desk.queue._pending


# --- the end


async def test_closing_ends_every_wait(desk):
    await desk.ask(0)
    waiting = [await desk.ask(shard_id) for shard_id in (1, 2)]
    await desk.queue.close()
    for request in waiting:
        with pytest.raises(QueueClosedError):
            await request
    with pytest.raises(QueueClosedError):
        await desk.queue.acquire(3)
    await desk.queue.close()


async def test_after_closing_what_was_granted_may_still_be_reported(desk):
    grant = (await desk.ask(0)).result()
    await desk.queue.close()
    desk.queue.identified(grant)
    desk.queue.decline(grant)


async def test_a_queue_that_nobody_uses_runs_nothing(desk):
    await desk.identified((await desk.ask(0)).result())
    assert desk.queue._runner is not None
    assert desk.queue._runner.done()
    await desk.pass_ms(5_200)
    await desk.ask(1)
    assert desk.granted == [0, 1]


async def test_an_old_grant_decides_nothing_about_a_newer_asking(desk):
    late = (await desk.ask(0)).result()
    await desk.ask(1)
    again = asyncio.create_task(desk.queue.acquire(0, replaces=late))
    await desk.settle()
    desk.queue.identified(late)  # decided already: it was given back
    desk.queue.decline(late)
    await desk.pass_ms(10_200)
    assert again.done()


def test_the_window_of_one_event_loop_holds_in_the_next():
    """Discord counts its window, whatever becomes of the loop."""
    desk_clock = [1_000 * SECOND]
    queue = LocalQueue(clock=lambda: desk_clock[0])

    async def start() -> None:
        queue.identified(await queue.acquire(0))  # the loop ends before this is taken in

    async def is_granted() -> bool:
        waiting = asyncio.create_task(queue.acquire(1))
        for _ in range(20):
            await asyncio.sleep(0)
        return waiting.done()

    asyncio.run(start())
    assert not asyncio.run(is_granted())
    desk_clock[0] += 4_000 * MS
    assert not asyncio.run(is_granted())
    desk_clock[0] += 1_200 * MS
    assert asyncio.run(is_granted())


@pytest.mark.parametrize("is_closed", [False, True], ids=["stopped", "closed"])
def test_a_turn_in_hand_when_its_loop_ended_holds_its_bucket_for_the_full_time(is_closed):
    """Whether IDENTIFY was sent with it cannot be known."""
    desk_clock = [1_000 * SECOND]
    queue = LocalQueue(clock=lambda: desk_clock[0])
    former = asyncio.new_event_loop()
    grant = former.run_until_complete(queue.acquire(0))
    waiting = former.create_task(queue.acquire(1))
    former.run_until_complete(asyncio.sleep(0))
    if is_closed:
        former.close()

    async def is_granted() -> bool:
        queue.decline(grant)  # it is no grant of this loop
        waiting = asyncio.create_task(queue.acquire(2))
        for _ in range(20):
            await asyncio.sleep(0)
        return waiting.done()

    assert not asyncio.run(is_granted())
    desk_clock[0] += 9_000 * MS
    assert not asyncio.run(is_granted())
    desk_clock[0] += 1_200 * MS
    assert asyncio.run(is_granted())  # and not the request of the former loop
    if not is_closed:
        with pytest.raises(RuntimeError, match="went on in another event loop"):
            former.run_until_complete(waiting)
        former.close()


def test_one_queue_may_serve_one_event_loop_after_another():
    queue = LocalQueue(window_s=0.05, margin_s=0)

    async def start(*shard_ids: int) -> None:
        for shard_id in shard_ids:
            async with queue.turn(shard_id):
                pass

    asyncio.run(start(0, 1))
    asyncio.run(start(2, 3))


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("window_s", 0), ("window_s", -5), ("window_s", float("nan")), ("margin_s", -0.1), ("use_within_s", 0)]
    + [(name, float("inf")) for name in ("window_s", "margin_s", "use_within_s")],
)
def test_a_duration_that_would_break_the_window_is_refused(name, seconds):
    durations: dict[str, Any] = {name: seconds}
    with pytest.raises(ValueError, match=f"{name} {seconds}: give seconds"):
        LocalQueue(**durations)
