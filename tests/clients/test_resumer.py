"""Where a session is resumed when hosts fail, against a library that fails to order; what it costs is in no queue."""

import socket
import ssl
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from nats_identify.integrations import _resume
from nats_identify.integrations._library import Library
from nats_identify.integrations._outage import Outage
from nats_identify.integrations._resume import PAUSE_MAX_S, RETRIES_S, Resumer
from nats_identify.integrations._websocket import IdentifyAttempt, ResumingWebSocket
from tests.clients.test_identifier import ClosedError, ReconnectError

HOST, MAIN = "wss://resume.example/?v=10", "wss://gateway.example/?v=10&encoding=json"
REFUSED = [ConnectionRefusedError()] * len(RETRIES_S)


class WebSocket:
    """A library's websocket, as much of it as is looked at: each connection does the next thing of the script."""

    RESUME = 6
    session_id = "session"
    sequence = 1
    _keep_alive = None
    script: list[Exception | None]
    tried: list[object]
    fails: Exception | None

    def __init__(self) -> None:
        self.told: list[str] = []
        self._dispatch = self.tell

    def tell(self, event: str, *_: object) -> None:
        self.told.append(event)

    @classmethod
    async def from_client(cls, client: object, *, resume: bool, gateway: object, **_: object) -> "WebSocket":
        assert resume
        cls.tried.append(gateway)
        websocket = cls()
        websocket.fails = cls.script.pop(0)
        if isinstance(websocket.fails, OSError):
            raise websocket.fails
        await websocket.send_as_json({"op": cls.RESUME})
        return websocket

    async def send_as_json(self, data: Any) -> None:
        """HELLO came, and RESUME has left."""

    async def poll_event(self) -> None:
        if self.fails is not None:
            raise self.fails
        self._dispatch("socket_event_type", "RESUMED")


def make(*script: Exception | None) -> tuple[Resumer, list[object], list[IdentifyAttempt]]:
    """A resumer, the addresses that it tries, and the attempts whose connections it ends."""
    tried: list[object] = []
    abandoned: list[IdentifyAttempt] = []
    resuming: Any = type("Resuming", (ResumingWebSocket, WebSocket), {"script": list(script), "tried": tried})
    resuming.library = Library(
        client=object,
        auto_sharded=object,
        websocket=None,
        resuming=resuming,
        shard=None,
        resume_address="resume_at",
        reconnect_error=ReconnectError,  # type: ignore[arg-type]  # as much of it as is looked at
        closed_error=ClosedError,
        event_item=None,
        event_type=None,
    )
    client = SimpleNamespace(main_gateway=MAIN)
    return Resumer(resuming.library, client, 3, Outage(3), abandoned.append), tried, abandoned


def lost(at: str | None = HOST) -> Any:
    return SimpleNamespace(session_id="session", sequence=1, resume_at=at)


def again(resume: bool = True) -> ReconnectError:
    error = ReconnectError()
    error.resume = resume  # type: ignore[attr-defined]  # as the libraries' own
    return error


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(_resume, "RETRIES_S", (0.0,) * len(RETRIES_S))
    monkeypatch.setattr(_resume, "PAUSE_MAX_S", 0.001)


async def test_a_host_that_is_well_is_asked_once():
    resumer, tried, abandoned = make(None)
    assert await resumer.resume(lost()) is not None
    assert (tried, abandoned) == ([HOST], [])


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(), socket.gaierror(-2, "Name or service not known"), ssl.SSLError("bad"), TimeoutError()],
)
async def test_a_host_that_fails_is_left_for_the_gateway(error, caplog):
    resumer, tried, abandoned = make(*[error] * 3, None)
    assert await resumer.resume(lost()) is not None
    assert tried == [HOST, HOST, HOST, MAIN]
    assert len(abandoned) == 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("shard 3 cannot resume at wss://resume.example, the host that Discord named: ")


async def test_a_host_that_is_the_gateway_gets_no_tries_of_its_own():
    resumer, tried, _ = make(None)
    await resumer.resume(lost("wss://gateway.example"))
    assert tried == [MAIN]


async def test_a_gateway_that_is_away_costs_no_session_and_its_address_is_looked_up_now_and_then(caplog):
    away = [ConnectionRefusedError()] * 31
    resumer, tried, _ = make(*away, None)
    assert await resumer.resume(lost(None)) is not None
    assert tried[:6] == [MAIN, MAIN, None] * 2
    assert len(tried) == 32
    (line,) = [record.getMessage() for record in caplog.records]
    assert "cannot reach the gateway: ConnectionRefusedError()" in line


def test_the_pauses_are_bounded(monkeypatch):
    monkeypatch.undo()
    pauses_s = list(islice(_resume._pauses_s(), 1_000))
    assert tuple(pauses_s[: len(RETRIES_S)]) == RETRIES_S
    assert all(1 <= pause_s <= PAUSE_MAX_S for pause_s in pauses_s[len(RETRIES_S) :])
    assert max(pauses_s) > PAUSE_MAX_S / 2


async def test_a_gateway_that_leaves_resume_unanswered_has_lost_the_session():
    resumer, tried, _ = make(*REFUSED, again(), ConnectionRefusedError(), again(), again())
    assert await resumer.resume(lost()) is None
    assert len(tried) == len(REFUSED) + 4, "what never opened says nothing of the session"


async def test_what_discord_refuses_is_not_asked_again():
    for final in (again(resume=False), ClosedError()):
        resumer, tried, abandoned = make(final)
        with pytest.raises(type(final)):
            await resumer.resume(lost())
        assert (len(tried), len(abandoned)) == (1, 1)


async def test_a_normal_closure_is_no_refusal():
    normal = ClosedError()
    normal.code = 1000  # type: ignore[attr-defined]  # as the libraries' own
    resumer, tried, _ = make(normal, None)
    assert await resumer.resume(lost()) is not None
    assert tried == [HOST, HOST]


async def test_the_bots_own_events_reach_it():
    resumer, _, _ = make(None)
    resumed: Any = await resumer.resume(lost())
    assert resumed.told == ["socket_event_type"]
    assert resumed.is_welcome
