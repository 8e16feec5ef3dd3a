"""The way to an IDENTIFY when connections fail, against a library that fails to order; and what is refused at once."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from nats_identify.client.local_queue import LocalQueue
from nats_identify.integrations import _identify
from nats_identify.integrations._client import QueuedClient
from nats_identify.integrations._identify import RETRIES_S, Identifier
from nats_identify.integrations._library import Library
from nats_identify.integrations._outage import Outage
from nats_identify.integrations._versions import WrongLibraryError, require
from nats_identify.integrations._websocket import QueuedWebSocket
from nats_identify.queue import Queue, QueueClosedError
from nats_identify.testing import InstantQueue


class ClosedError(Exception):
    """As the libraries' ConnectionClosed: of a code that no retry can mend."""


class ReconnectError(Exception):
    """As the libraries' ReconnectWebSocket."""


@dataclass(frozen=True)
class Failing:
    """What one connection raises, and where; a connection without any goes well."""

    connecting: Exception | None = None
    waiting: Exception | None = None
    sending: Exception | None = None


WELL = Failing()
CANNOT_CONNECT = Failing(connecting=ConnectionRefusedError())


class WebSocket:
    """A library's websocket, as much of it as is looked at; each connection fails as ordered."""

    IDENTIFY = 2
    session_id: str | None = None
    _keep_alive = None
    orders: list[Failing]

    def __init__(self, failing: Failing) -> None:
        self.failing = failing

    @classmethod
    async def from_client(cls, client: object, *, gateway: object = None, shard_id: int) -> "WebSocket":
        websocket = cls(cls.orders.pop(0))
        if websocket.failing.connecting is not None:
            raise websocket.failing.connecting
        await websocket.send_as_json({"op": cls.IDENTIFY})
        return websocket

    async def send_as_json(self, data: Any) -> None:
        if self.failing.sending is not None:
            raise self.failing.sending

    async def poll_event(self) -> None:
        if self.failing.waiting is not None:
            raise self.failing.waiting
        await asyncio.get_running_loop().create_future()

    async def close(self, code: int = 4000) -> None:
        pass


def make(*orders: Failing, queue: Queue) -> Identifier:
    websocket: Any = type("Queued", (QueuedWebSocket, WebSocket), {"orders": list(orders)})
    websocket.library = Library(
        client=object,
        auto_sharded=object,
        websocket=websocket,
        resuming=None,
        shard=None,
        resume_address=None,
        reconnect_error=ReconnectError,  # type: ignore[arg-type]  # as much of it as is looked at
        closed_error=ClosedError,
        event_item=None,
        event_type=None,
    )
    outages: dict[int, Outage] = {}
    return Identifier(websocket.library, None, queue, lambda shard_id: outages.setdefault(shard_id, Outage(shard_id)))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(_identify, "RETRIES_S", (0.0,) * len(RETRIES_S))
    monkeypatch.setattr(_identify, "AWAY_FIRST_S", 0.0)


async def identify(identifier: Identifier) -> None:
    await identifier.identify(0, None, priority=0, on_progress=lambda _: None)


async def outcomes(*orders: Failing) -> list[str]:
    """What becomes of the turns when the connections fail like this."""
    queue = InstantQueue()
    await identify(make(*orders, queue=queue))
    return [outcome for outcome, _ in queue.outcomes]


async def test_a_lost_connection_costs_no_turn():
    assert await outcomes(CANNOT_CONNECT, CANNOT_CONNECT, WELL) == ["identified"]


async def test_who_is_cut_off_while_it_waits_keeps_its_turn_however_often(monkeypatch):
    monkeypatch.setattr(_identify, "KEPT_OPEN_S", 0.0)
    cut_off = [Failing(waiting=ConnectionResetError())] * 3 * len(RETRIES_S)
    assert await outcomes(*cut_off, WELL) == ["identified"]


async def test_who_is_cut_off_as_soon_as_it_is_open_gives_the_turn_back(caplog):
    cut_off = [Failing(waiting=ReconnectError())] * 3 * len(RETRIES_S)
    assert await outcomes(*cut_off, WELL) == ["declined"] * 3 + ["identified"]
    assert len([record for record in caplog.records if "before it was up" in record.message]) == 1


async def test_who_cannot_connect_gives_the_turn_back():
    assert await outcomes(*[CANNOT_CONNECT] * len(RETRIES_S), WELL) == ["declined", "identified"]


async def test_a_send_that_failed_has_used_the_turn():
    assert await outcomes(Failing(sending=ConnectionResetError()), WELL) == ["identified", "identified"]


async def test_a_code_that_no_retry_can_mend_is_raised():
    with pytest.raises(ClosedError):
        await outcomes(Failing(connecting=ClosedError()))


async def test_a_closed_queue_is_raised():
    queue = LocalQueue()
    await queue.close()
    with pytest.raises(QueueClosedError):
        await identify(make(WELL, queue=queue))


def test_a_class_that_would_not_ask_is_refused():
    class Client: ...

    class AutoShardedClient(Client): ...

    class Queued(QueuedClient):
        library = SimpleNamespace(client=Client, auto_sharded=AutoShardedClient)  # type: ignore[assignment]  # as above

    class _Right(Queued, AutoShardedClient): ...

    with pytest.raises(TypeError, match="put the queued class first"):

        class _Backwards(AutoShardedClient, Queued): ...

    with pytest.raises(TypeError, match="a sharded class"):

        class _Single(Queued, Client): ...


@pytest.mark.parametrize(
    ("distribution", "options", "said"),
    [
        (
            "no-such-library",
            {},
            r"no-such-library is not installed; in a clone of nats-identify: pip install '\.\[extra\]'",
        ),
        ("pytest", {"below": (1, 0)}, r"tried with pytest>=0.0,<1.0, and pytest \d"),
        ("pytest", {"rivals": ("ruff",)}, r"ruff is installed, and takes the same package name as pytest"),
    ],
)
def test_another_library_is_refused(distribution, options, said):
    wanted: dict[str, Any] = {"at_least": (0, 0), "below": (999, 0), "extra": "extra", **options}
    with pytest.raises(WrongLibraryError, match=said):
        require(distribution, **wanted)


def test_the_library_wanted_is_let_in():
    require("pytest", at_least=(8, 0), below=(999, 0), extra="extra", rivals=("no-such-library",))
