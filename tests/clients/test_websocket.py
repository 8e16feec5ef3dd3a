"""A connection that has sent IDENTIFY, by hand: however it ends, nothing waits for its READY any more."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from nats_identify.integrations._websocket import ATTEMPT, IdentifyAttempt, QueuedWebSocket


class ReconnectError(Exception):
    """As a library's, which says whether the session goes on."""

    resume = True


class LibrarySocket:
    """As much of a library's websocket as is used: it ends by the error that is given."""

    session_id: str | None = None

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def poll_event(self) -> None:
        raise self._error


class Socket(QueuedWebSocket, LibrarySocket):
    """The two together, as a front makes it."""

    library: Any = SimpleNamespace(reconnect_error=ReconnectError)


@pytest.mark.parametrize(
    "ended_by", [ReconnectError(), ConnectionResetError(), RuntimeError(), asyncio.CancelledError()], ids=repr
)
async def test_a_connection_that_ended_is_not_said_to_be_unanswered(ended_by):
    ATTEMPT.set(IdentifyAttempt())
    socket = Socket(ended_by)
    socket._unanswered = timer = asyncio.get_running_loop().call_later(60, pytest.fail)
    with pytest.raises(type(ended_by)):
        await socket.poll_event()
    assert timer.cancelled()
