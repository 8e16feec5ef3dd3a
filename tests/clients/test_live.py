"""Connections of other libraries in the shape of discord.py's, by hand: what is noted, and what ends them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from nats_identify.integrations._fleet import refuse_unqueued
from nats_identify.integrations._live import ConnectionOverError, LiveConnection

READY = {"op": 0, "s": 1, "t": "READY", "d": {"session_id": "session", "resume_gateway_url": "wss://resume.example"}}
RESUMED = {"op": 0, "s": 9, "t": "RESUMED", "d": None}


class ClosedError(Exception):
    """As a library's, of any close code."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.reason = "because"


def connection(session_id: str | None = None) -> LiveConnection:
    made = LiveConnection(3, session_id, None, None)
    made.library = SimpleNamespace(closed_error=ClosedError)  # type: ignore[assignment]  # as much of it as is looked at
    made.closed_with = None
    return made


async def fails(error: Exception) -> None:
    raise error


async def why_over(made: LiveConnection) -> Any:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which one is what is asked
        await asyncio.wait_for(made.poll_event(), 10)
    return caught.value


async def test_ready_brings_the_session():
    made = connection()
    made.received(READY)
    await made.poll_event()
    assert (made.session_id, made.sequence, made.resume_at) == ("session", 1, "wss://resume.example")


async def test_what_came_right_before_the_end_is_not_lost_with_it():
    made = connection()
    made.live(fails(ConnectionResetError()))
    made.received(READY)
    await asyncio.sleep(0)
    await made.poll_event()
    assert isinstance(await why_over(made), ConnectionResetError)
    assert isinstance(await why_over(made), ConnectionResetError), "it stays over"


async def test_a_close_code_counts_before_the_heartbeat_that_failed_on_its_account():
    made = connection("session")
    made.live(fails(ConnectionResetError()))
    made.ends_with(asyncio.ensure_future(fails(ClosedError(4014))))
    await made.read_what_is_there()
    assert isinstance(await why_over(made), ClosedError)


async def test_only_the_first_event_is_passed_on():
    made, seen = connection("session"), list[str]()
    made._dispatch = lambda *event: seen.append(event[-1])
    made.received({"op": 11})
    made.received(RESUMED)
    made.received({"op": 0, "s": 10, "t": "MESSAGE_CREATE", "d": {}})
    assert seen == ["RESUMED"]
    assert made.sequence == 10


@pytest.mark.parametrize(("data", "resume"), [(True, True), (False, False), (None, False)])
async def test_invalid_session_says_whether_to_resume(data, resume):
    made = connection("session")
    made.live(asyncio.sleep(0))
    made.received({"op": 9, "d": data})
    await asyncio.sleep(0)
    over = await why_over(made)
    assert isinstance(over, ConnectionOverError)
    assert over.resume is resume


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000, 4007, 4009])
async def test_a_close_code_that_is_not_final_lets_the_session_go_on(code):
    made = connection("session")
    made.live(fails(ClosedError(code)))
    over = await why_over(made)
    assert isinstance(over, ConnectionOverError)
    assert over.resume
    assert made.closed_with == (code, "because")


@pytest.mark.parametrize("code", [4004, 4010, 4011, 4012, 4013, 4014])
async def test_a_final_close_code_is_the_librarys_error(code):
    made = connection("session")
    made.live(fails(ClosedError(code)))
    assert isinstance(await why_over(made), ClosedError)


async def test_whatever_ends_first_ends_the_connection():
    made = connection("session")
    life = made.live(asyncio.sleep(60))  # it is cancelled below
    made.ends_with(asyncio.ensure_future(asyncio.sleep(0)))  # such as the heartbeats, that are not acknowledged
    over = await why_over(made)
    assert isinstance(over, ConnectionOverError)
    assert over.resume
    life.cancel()


def test_a_class_that_would_not_ask_is_refused():
    class Bot: ...

    class Queued: ...

    class Right(Queued, Bot): ...

    class Backwards(Bot, Queued): ...

    refuse_unqueued(Queued, queued=Queued, library_class=Bot)
    refuse_unqueued(Right, queued=Queued, library_class=Bot)
    with pytest.raises(TypeError, match="put the queued class first"):
        refuse_unqueued(Backwards, queued=Queued, library_class=Bot)
