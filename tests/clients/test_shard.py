"""A shard of discord.py's family that is connected anew from two sides, against a library that does as ordered."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from nats_identify.integrations import _shard
from nats_identify.integrations._outage import Outage
from nats_identify.integrations._shard import SHORT_LIVED_MAX, QueuedShard
from tests.clients.test_identifier import ClosedError, ReconnectError
from tests.clients.test_resumer import again
from tests.unit.hand_queue import until


class WebSocket:
    """One connection; without a session it was lost before READY."""

    def __init__(self, session_id: str | None) -> None:
        self.session_id = session_id
        self.is_welcome = session_id is not None


class LibraryShard:
    """A library's shard, as much of it as is looked at.

    Attributes:
        launched, cancelled: the connections whose reader was begun, and was ended.
    """

    def __init__(self, ws: Any, client: Any) -> None:
        self.id = 3
        self.ws = ws
        self._client = client
        self.launched = [ws]
        self.cancelled: list[Any] = []

    def launch(self) -> None:
        self.launched.append(self.ws)

    def _cancel_task(self) -> None:
        self.cancelled.append(self.ws)

    def _dispatch(self, *_: object) -> None: ...


class Client:
    """The client of that shard.

    Attributes:
        identified: the connections that have used a turn.
        resumed: the connections whose session was resumed on another one.
    """

    def __init__(self) -> None:
        self.identified: list[Any] = []
        self.resumed: list[Any] = []

    def outage_of(self, shard_id: int) -> Outage:
        return Outage(shard_id)

    def abandon(self, _attempt: object) -> None: ...

    async def identify_shard(self, _shard_id: int, *, priority: int) -> Any:
        self.identified.append(WebSocket(f"new, of priority {priority}"))
        return self.identified[-1]

    async def resume(self, lost: Any) -> Any:
        self.resumed.append(lost)
        return WebSocket(lost.session_id)


def make(lost: WebSocket, client: Client) -> Any:
    """A shard whose connection has just been lost."""
    shard_class: Any = type("Shard", (QueuedShard, LibraryShard), {})
    shard_class.library = SimpleNamespace(reconnect_error=ReconnectError, closed_error=ClosedError)
    shard = shard_class(lost, client)
    shard._resumer = client
    return shard


@pytest.fixture
def pauses(monkeypatch) -> Any:
    """Let each pause last until ``over`` is set; ``begun`` counts them."""
    held = SimpleNamespace(begun=0, over=asyncio.Event())

    async def hold(_delay_s: float) -> None:
        held.begun += 1
        await held.over.wait()

    monkeypatch.setattr(_shard, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": hold}))
    return held


@pytest.mark.parametrize("why", ["invalid session", "closed before READY", "closed after each RESUME"])
async def test_who_connects_a_shard_in_its_pause_is_left_alone(pauses, why):
    """As a bot's watchdog does, with `ShardInfo.connect`: one turn is used, and the new connection goes on."""
    client = Client()
    lost = WebSocket(None if why == "closed before READY" else "lost")
    shard = make(lost, client)
    shard._unwelcome = 1
    if why == "closed after each RESUME":
        shard._short_lived, shard._resumed_at_s = SHORT_LIVED_MAX, float("inf")  # within any time
    replacing = asyncio.ensure_future(shard.reidentify(again(resume=why != "invalid session")))
    await until(lambda: pauses.begun == 1)
    await shard.reconnect()
    connected = shard.ws
    pauses.over.set()
    await asyncio.wait_for(replacing, 60)
    assert (client.identified, client.resumed) == ([connected], [])
    assert shard.ws is connected
    assert shard.launched == [lost, connected]
    assert connected not in shard.cancelled


@pytest.mark.parametrize("why", ["invalid session", "closed before READY"])
async def test_a_shard_in_its_pause_that_is_left_alone_takes_a_turn(pauses, why):
    client = Client()
    lost = WebSocket(None if why == "closed before READY" else "lost")
    shard = make(lost, client)
    shard._unwelcome = 1
    replacing = asyncio.ensure_future(shard.reidentify(again(resume=why != "invalid session")))
    await until(lambda: pauses.begun == 1)
    pauses.over.set()
    await asyncio.wait_for(replacing, 60)
    assert client.identified == [shard.ws]
    assert shard.launched == [lost, shard.ws]
