"""Turn, with a queue that is moved by hand: when it enters, what it reports, what an exception means."""

import asyncio

import pytest

from nats_identify import LocalQueue, Progress, QueueClosedError, Reason, Turn
from nats_identify.testing import InstantQueue
from tests.unit.hand_queue import HandQueue, until
from tests.unit.turns import SocketBrokeError, enter, fail


@pytest.fixture
def queue() -> HandQueue:
    return HandQueue()


# --- the short form


async def test_the_short_form_enters_with_the_grant_and_leaves_identified(queue):
    entered: list[Turn] = []

    async def note(turn: Turn) -> None:
        entered.append(turn)

    going = enter(queue, note)
    await queue.progress(near=True)
    assert not entered
    await queue.grant("g1")
    await going
    assert entered
    assert queue.said == [("identified", "g1")]


async def test_an_exception_in_the_short_form_passes_and_the_turn_counts_as_used(queue):
    going = enter(queue, fail)
    await queue.grant("g1")
    with pytest.raises(SocketBrokeError):
        await going
    assert queue.said == [("identified", "g1")]


async def test_cancelling_while_it_waits_withdraws(queue):
    going = enter(queue)
    await until(lambda: bool(queue.asked))
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert (queue.cancelled, queue.said) == (1, [])


async def test_cancelling_as_the_grant_comes_declines_it(queue):
    going = enter(queue)
    await queue.grant("g1")
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert (queue.cancelled, queue.said) == (0, [("declined", "g1")])


@pytest.mark.parametrize("near", [False, True])
async def test_a_queue_that_closes_says_so_to_who_waits(queue, near):
    going = enter(queue, near=near)
    await until(lambda: bool(queue.asked))
    queue.asked[0].granted.set_exception(QueueClosedError())
    with pytest.raises(QueueClosedError):
        await going


async def test_priority_and_shard_reach_the_queue(queue):
    async def go() -> None:
        async with queue.turn(7, priority=1):
            pass

    going = asyncio.create_task(go())
    await queue.grant("g1")
    await going
    assert [(asked.shard_id, asked.priority, asked.replaces) for asked in queue.asked] == [(7, 1, None)]


# --- the full form


@pytest.mark.parametrize("signal", ["near", "granted"])
async def test_the_full_form_enters_when_the_turn_is_near_or_there(queue, signal):
    entered = asyncio.Event()

    async def body(turn: Turn) -> None:
        entered.set()
        await turn.granted()

    going = enter(queue, body, near=True)
    await queue.progress(near=False)
    assert not entered.is_set()
    if signal == "near":
        await queue.progress(near=True)
        await entered.wait()
    await queue.grant("g1")
    await going
    assert queue.said == [("identified", "g1")]


async def test_the_exact_moment_is_reported_once(queue):
    async def body(turn: Turn) -> None:
        await turn.granted()
        turn.identified()
        assert queue.said == [("identified", "g1")]
        turn.identified()
        turn.decline()
        turn.ready()

    going = enter(queue, body, near=True)
    await queue.grant("g1")
    await going
    assert queue.said == [("identified", "g1"), ("ready", "g1")]


async def test_a_declined_turn_is_not_reported_used_when_the_block_ends(queue):
    async def body(turn: Turn) -> None:
        await turn.granted()
        turn.decline()
        raise SocketBrokeError

    going = enter(queue, body, near=True)
    await queue.grant("g1")
    with pytest.raises(SocketBrokeError):
        await going
    assert queue.said == [("declined", "g1")]


async def test_an_exception_before_the_grant_gives_the_place_up(queue):
    going = enter(queue, fail, near=True)
    await queue.progress(near=True)
    with pytest.raises(SocketBrokeError):
        await going
    assert (queue.cancelled, queue.said) == (1, [])


async def test_an_exception_before_the_grant_was_looked_at_gives_it_back(queue):
    going = enter(queue, fail, near=True)
    await queue.grant("g1")
    with pytest.raises(SocketBrokeError):
        await going
    assert queue.said == [("declined", "g1")]


@pytest.mark.parametrize("is_granted", [False, True], ids=["waiting", "granted"])
async def test_a_block_that_never_asks_whether_it_was_granted_says_what_was_forgotten(queue, is_granted):
    going = enter(queue, near=True)
    if is_granted:
        await queue.grant("g1")
    else:
        await queue.progress(near=True)
    with pytest.raises(RuntimeError, match=r"shard 3's turn ended, and `await turn.granted\(\)` never returned"):
        await going
    # What was granted may have been used: the window runs. What was not is given up.
    assert (queue.cancelled, queue.said) == ((0, [("identified", "g1")]) if is_granted else (1, []))


async def test_an_exception_is_not_replaced_by_what_was_forgotten(queue):
    going = enter(queue, fail, near=True)
    await queue.grant("g1")
    with pytest.raises(SocketBrokeError):
        await going
    assert queue.said == [("declined", "g1")]


@pytest.mark.parametrize("is_granted", [False, True], ids=["waiting", "granted"])
async def test_a_block_that_wants_no_turn_after_all_declines_it(queue, is_granted):
    async def body(turn: Turn) -> None:
        turn.decline()
        turn.decline()
        with pytest.raises(RuntimeError, match="this turn was declined"):
            await turn.granted()

    going = enter(queue, body, near=True)
    if is_granted:
        await queue.grant("g1")
    else:
        await queue.progress(near=True)
    await going
    assert (queue.cancelled, queue.said) == ((0, [("declined", "g1")]) if is_granted else (1, []))


async def test_who_waits_for_the_grant_of_a_turn_that_is_declined_meanwhile_is_told(queue):
    async def body(turn: Turn) -> None:
        waiting = asyncio.ensure_future(turn.granted())
        await asyncio.sleep(0)
        turn.decline()
        await queue.grant("g1")
        with pytest.raises(RuntimeError, match="this turn was declined"):
            await waiting

    going = enter(queue, body, near=True)
    await queue.progress(near=True)
    await going
    assert queue.said == [("declined", "g1")]


async def test_an_identify_without_asking_whether_it_was_granted_still_starts_the_window(queue):
    async def body(turn: Turn) -> None:
        turn.identified()

    going = enter(queue, body, near=True)
    await queue.grant("g1")
    with pytest.raises(RuntimeError, match="shard 3 holds no grant"):
        await going
    assert queue.said == [("identified", "g1")]


async def test_an_identify_with_a_turn_that_was_declined_is_an_error(queue):
    async def body(turn: Turn) -> None:
        turn.decline()
        turn.identified()

    going = enter(queue, body)
    await queue.grant("g1")
    with pytest.raises(RuntimeError, match="shard 3 declined this turn"):
        await going
    assert queue.said == [("declined", "g1")]


@pytest.mark.parametrize("word", ["near", "granted"])
async def test_a_turn_is_of_no_use_outside_of_its_block(queue, word):
    turn = queue.turn(3)
    with pytest.raises(RuntimeError, match="was not entered; use it with `async with`"):
        await getattr(turn, word)()
    assert not queue.asked

    async def go() -> None:
        async with turn:
            pass

    going = asyncio.create_task(go())
    await queue.grant("g1")
    await going
    with pytest.raises(RuntimeError, match="the block of this turn has ended"):
        await getattr(turn, word)()
    assert len(queue.asked) == 1


@pytest.mark.parametrize(
    ("shard_id", "priority", "error"),
    [
        *(("3", 0, TypeError), (True, 0, TypeError), (3.0, 0, TypeError), (None, 0, TypeError), (-1, 0, ValueError)),
        *(
            (2**60, 0, ValueError),
            (3, 11, ValueError),
            (3, -11, ValueError),
            (3, "1", TypeError),
            (3, False, TypeError),
        ),
    ],
)
@pytest.mark.parametrize("kind", [HandQueue, LocalQueue, InstantQueue])
async def test_what_no_queue_can_be_asked_for_is_refused_at_once(kind, shard_id, priority, error):
    queue = kind()
    with pytest.raises(error, match=r"shard_id|priority"):
        queue.turn(shard_id, priority=priority)
    if kind is not HandQueue:
        with pytest.raises(error, match=r"shard_id|priority"):
            await queue.acquire(shard_id, priority=priority)
        await queue.close()


async def test_an_on_progress_that_cannot_be_called_is_refused_at_once(queue):
    async def never_awaited(_progress: Progress) -> None: ...

    for on_progress in (never_awaited, "tell"):
        with pytest.raises(TypeError, match="a plain function is wanted"):
            queue.turn(3, on_progress=on_progress)


async def test_an_exception_after_the_grant_counts_as_used(queue):
    async def body(turn: Turn) -> None:
        await turn.granted()
        raise SocketBrokeError

    going = enter(queue, body, near=True)
    await queue.grant("g1")
    with pytest.raises(SocketBrokeError):
        await going
    assert queue.said == [("identified", "g1")]


async def test_giving_up_one_wait_for_the_grant_does_not_give_up_the_place(queue):
    gave_up = asyncio.Event()

    async def body(turn: Turn) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await turn.granted()
        gave_up.set()
        await turn.granted()

    going = enter(queue, body, near=True)
    await queue.progress(near=True)
    await gave_up.wait()
    await queue.grant("g1")
    await going
    assert (len(queue.asked), queue.said) == (1, [("identified", "g1")])


@pytest.mark.parametrize("word", ["identified", "ready", "rejected"])
async def test_nothing_can_be_said_of_a_grant_that_is_not_there(queue, word):
    async def body(turn: Turn) -> None:
        getattr(turn, word)()

    going = enter(queue, body, near=True)
    await queue.progress(near=True)
    with pytest.raises(RuntimeError, match="shard 3 holds no grant"):
        await going
    assert (queue.cancelled, queue.said) == (1, [])


async def test_rejected_is_passed_on(queue):
    async def body(turn: Turn) -> None:
        turn.identified()
        turn.rejected()

    going = enter(queue, body)
    await queue.grant("g1")
    await going
    assert queue.said == [("identified", "g1"), ("rejected", "g1")]


async def test_progress_is_kept_and_told(queue):
    told: list[Progress] = []

    async def go() -> None:
        async with queue.turn(3, near=True, on_progress=told.append) as turn:
            assert [turn.progress] == told == [Progress(1, 2_000, Reason.WINDOW, near=True)]
            turn.decline()

    going = asyncio.create_task(go())
    await queue.progress(near=True)
    await going
