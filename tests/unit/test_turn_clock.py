"""Turn and the clock: a grant that came too late, and a turn that is used once."""

import asyncio
from collections.abc import Callable

import pytest

from nats_identify import Turn
from tests.unit.hand_queue import FOREVER_NS, HandQueue, until
from tests.unit.turns import enter


@pytest.fixture
def queue() -> HandQueue:
    return HandQueue()


@pytest.fixture
def clock(monkeypatch) -> Callable[[int], None]:
    """Stop the clock that turns look at; call it to move the hand."""
    hand = [0]
    monkeypatch.setattr("nats_identify.queue.now_ns", lambda: hand[0])
    return lambda now_ns: hand.__setitem__(0, now_ns)


# --- the clock


async def test_a_late_grant_is_not_used_and_the_asking_goes_on_instead_of_it(queue, clock):
    clock(11)
    going = enter(queue)
    await queue.grant("late", use_by_ns=10)
    await until(lambda: len(queue.asked) == 2)
    late = queue.asked[1].replaces
    assert late is not None
    assert late.grant_id == "late"
    await queue.grant("g2")
    await going
    assert queue.said == [("identified", "g2")]


async def test_the_last_moment_is_in_time(queue, clock):
    clock(10)
    going = enter(queue)
    await queue.grant("g1", use_by_ns=10)
    await going
    assert queue.said == [("identified", "g1")]


async def test_asking_again_right_before_the_send_costs_nothing_in_time(queue):
    async def body(turn: Turn) -> None:
        assert await turn.granted() == await turn.granted()

    going = enter(queue, body)
    await queue.grant("g1")
    await going
    assert len(queue.asked) == 1


async def test_a_grant_that_ran_out_in_the_block_is_not_used(queue, clock):
    async def body(turn: Turn) -> None:
        clock(11)  # connecting took long
        assert (await turn.granted()).grant_id == "g2"

    going = enter(queue, body)
    await queue.grant("g1", use_by_ns=10)
    await until(lambda: len(queue.asked) == 2)
    await queue.grant("g2")
    await going
    assert queue.said == [("identified", "g2")]


async def test_failing_while_a_late_grant_is_asked_for_again_withdraws(queue, clock):
    clock(11)
    going = enter(queue)
    await queue.grant("late", use_by_ns=10)
    await until(lambda: len(queue.asked) == 2)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert (queue.cancelled, queue.said) == (1, [])


async def test_a_cancel_before_the_new_asking_has_begun_still_gives_the_late_grant_back(queue, clock):
    async def body(turn: Turn) -> None:
        clock(11)
        going.cancel()
        await turn.granted()

    going = enter(queue, body)
    await queue.grant("late", use_by_ns=10)
    with pytest.raises(asyncio.CancelledError):
        await going
    given_back = [asked.replaces.grant_id for asked in queue.asked if asked.replaces]
    given_back += [name for word, name in queue.said if word == "declined"]
    assert given_back == ["late"]


# --- one turn, one IDENTIFY


async def test_a_declined_turn_is_not_granted_any_more(queue):
    async def body(turn: Turn) -> None:
        turn.decline()
        with pytest.raises(RuntimeError, match="take a new one"):
            await turn.granted()

    going = enter(queue, body)
    await queue.grant("g1")
    await going


@pytest.mark.parametrize("now_ns", [0, FOREVER_NS], ids=["in time", "late"])
async def test_a_used_turn_is_not_granted_for_a_second_identify(queue, clock, now_ns):
    async def body(turn: Turn) -> None:
        await turn.granted()
        turn.identified()
        clock(now_ns)
        with pytest.raises(RuntimeError, match=r"shard 3 has used this turn .* take a new one from `queue.turn`"):
            await turn.granted()

    going = enter(queue, body)
    await queue.grant("g1", use_by_ns=10)
    await going
    assert (len(queue.asked), queue.said) == (1, [("identified", "g1")])


async def test_a_turn_is_entered_once(queue):
    turn = queue.turn(3)

    async def go() -> None:
        async with turn:
            pass

    going = asyncio.create_task(go())
    await queue.grant("g1")
    await going
    with pytest.raises(RuntimeError, match="take a new one"):
        await go()
