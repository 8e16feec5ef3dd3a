"""What becomes of a grant over HTTP: late, undeliverable, used, at the end of the process. Real sockets, no NATS."""

import asyncio
import resource
from contextlib import asynccontextmanager, suppress

import pytest

from coordinator.edge import silent_server
from coordinator.edge.http_queue import HttpQueue
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from coordinator.edge.silent_server import Answer, SilentServer, allow_connections
from coordinator.settings import Settings
from nats_identify import Grant
from nats_identify.clock import NS_PER_S, now_ns
from tests.http_clients import Asking
from tests.processes import until
from tests.unit.hand_queue import HandQueue

SHORT = {"identify_grace": 0.05, "identify_use_within": 1}
LONG = {"identify_grace": 20, "identify_use_within": 60}


class LineQueue(HandQueue):
    """Keeps the places that it was asked for, too."""

    def __init__(self):
        super().__init__()
        self.places = []
        self.is_closed = False
        self.granting = lambda: None

    async def acquire(self, shard_id, *, place=None, **options):
        self.places.append(place)
        granted = await super().acquire(shard_id, **options)
        self.granting()
        return granted

    async def close(self):
        self.is_closed = True

    async def asked_for(self, count):
        async def look():
            return len(self.asked) >= count

        await until(look, f"{count} were asked for")
        return self.asked[count - 1]

    async def until_said(self, *said):
        async def look():
            return self.said == list(said)

        await until(look, f"it was told {said}")


def grant(name="g1", left_s=60.0):
    return Grant(3, name, "r1", 0, 1, now_ns() + int(left_s * NS_PER_S))


@pytest.fixture
def queue(monkeypatch):
    monkeypatch.setattr(silent_server, "PAUSE_S", 0.01)
    return LineQueue()


@asynccontextmanager
async def serving(queue, capsys, stop=None, **settings):
    """Serve on a free port; yield where."""
    made = Settings(**{**LONG, "identify_queue_http_port": 0, "nats_url": None, **settings})
    http_queue = HttpQueue(made, queue, metrics=Metrics(), log=make_log("info", "json"))
    async with http_queue.serve(stop or asyncio.Event()):
        _, _, port = capsys.readouterr().err.rpartition("127.0.0.1:")
        yield "127.0.0.1", int(port.partition('"')[0])


async def test_a_grant_with_less_than_the_grace_left_is_not_passed_on(queue, capsys):
    async with serving(queue, capsys) as at:
        asking = await Asking.ask(at, "/?shard=3")
        late = grant("late", left_s=19)
        (await queue.asked_for(1)).granted.set_result(late)
        again = await queue.asked_for(2)
        assert again.replaces is late
        again.granted.set_result(grant("good", left_s=60))
        assert (await asking.ended()).startswith(b"HTTP/1.1 200 ")


async def test_a_grant_that_comes_as_the_client_leaves_is_declined(queue, capsys):
    def cancel_handler():
        """Do what aiohttp does when the client is gone, in the very turn of the loop in which the grant arrives."""
        (handler,) = [task for task in asyncio.all_tasks() if "_handle_request" in repr(task.get_coro())]
        handler.cancel()

    queue.granting = cancel_handler
    async with serving(queue, capsys) as at:
        asking = await Asking.ask(at, "/?shard=3")
        (await queue.asked_for(1)).granted.set_result(grant())
        assert await asking.ended() == b""
        assert queue.said == [("declined", "g1")]


async def test_a_used_grant_is_reported_when_the_grace_is_over(queue, capsys):
    """Never before: the client may not have sent its IDENTIFY yet."""
    async with serving(queue, capsys, **SHORT) as at:
        asking = await Asking.ask(at, "/?shard=3")
        (await queue.asked_for(1)).granted.set_result(grant())
        begun_ns = now_ns()
        assert (await asking.ended()).startswith(b"HTTP/1.1 200 ")
        await queue.until_said(("identified", "g1"))
        assert now_ns() - begun_ns >= 0.05 * NS_PER_S


async def test_a_process_that_ends_within_the_grace_reports_nothing(queue, capsys, monkeypatch):
    loop, stop, timers = asyncio.get_running_loop(), asyncio.Event(), []
    call_later = loop.call_later

    def keep(delay_s, *call):
        timers.append((delay_s, call_later(delay_s, *call)))
        return timers[-1][1]

    monkeypatch.setattr(loop, "call_later", keep)
    async with serving(queue, capsys, stop) as at:
        asking = await Asking.ask(at, "/?shard=3")
        (await queue.asked_for(1)).granted.set_result(grant())
        assert (await asking.ended()).startswith(b"HTTP/1.1 200 ")
        waiting = await Asking.ask(at, "/?shard=4")
        await queue.asked_for(2)
        stop.set()
        assert await waiting.ended() == b""
        assert (queue.said, queue.is_closed) == ([], True)
        assert [timer.cancelled() for delay_s, timer in timers if delay_s == 20] == [True]
        with pytest.raises(ConnectionError):
            await Asking.ask(at, "/")


async def test_the_end_of_the_process_waits_until_the_queue_is_closed(queue, capsys, monkeypatch):
    """It withdraws what waits: cut short, each request would stay in the line until it expires."""
    stop, begins, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def close():
        begins.set()
        await may_end.wait()
        queue.is_closed = True

    monkeypatch.setattr(queue, "close", close)
    async with serving(queue, capsys, stop):
        stop.set()
        await begins.wait()
        asyncio.get_running_loop().call_soon(may_end.set)
    assert queue.is_closed


async def test_a_connection_at_the_end_is_not_one_too_many():
    overrun: list[int] = []

    async def answer(*_):
        return Answer(200, "")

    server = SilentServer(answer, connections_max=1, unreadable=lambda: None, overrun=lambda: overrun.append(1))
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    server.abort()
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    listening.close()
    assert overrun == []


async def test_a_place_is_kept_for_a_client_that_comes_back_and_used_once(queue, capsys):
    async with serving(queue, capsys, **SHORT) as at:
        first = await Asking.ask(at, "/?shard=3")
        await queue.asked_for(1)
        first.leave()

        async def is_withdrawn():
            return queue.cancelled == 1

        await until(is_withdrawn, "it is withdrawn")
        second = await Asking.ask(at, "/?shard=3")
        (await queue.asked_for(2)).granted.set_result(grant())
        await second.ended()
        third = await Asking.ask(at, "/?shard=3")
        other = await Asking.ask(at, "/?shard=3&client=b")
        await queue.asked_for(4)
        assert queue.places[0] is queue.places[1]
        assert len({id(place) for place in queue.places[1:]}) == 3
        third.leave()
        other.leave()


async def test_the_newer_of_two_connections_has_the_place(queue, capsys):
    async with serving(queue, capsys) as at:
        older = await Asking.ask(at, "/?shard=3")
        await queue.asked_for(1)
        newer = await Asking.ask(at, "/?shard=3")
        asked = await queue.asked_for(2)
        assert await older.ended() == b""
        assert queue.places[0] is queue.places[1]
        asked.granted.set_result(grant())
        assert (await newer.ended()).startswith(b"HTTP/1.1 200 ")


async def test_a_defect_permits_nothing(queue, capsys):
    """aiohttp would answer 500, which is permission to a twilight client."""
    async with serving(queue, capsys) as at:
        asking = await Asking.ask(at, "/")
        (await queue.asked_for(1)).granted.set_exception(RuntimeError("as planted"))
        assert await asking.ended() == b""


async def test_more_than_may_wait_are_closed_without_a_response(queue, capsys):
    async with serving(queue, capsys, identify_queue_http_max_waiting=1) as at:
        first = await Asking.ask(at, "/?shard=0")
        await queue.asked_for(1)
        assert await (await Asking.ask(at, "/?shard=1")).ended() == b""
        status, headers, _ = await (await Asking.ask(at, "/identify/1", "POST")).status()
        assert (status, headers["x-retry-after-ms"]) == (503, "5000")
        assert len(queue.asked) == 1
        first.leave()


async def test_a_proxy_is_named_in_the_log_once(queue, capsys):
    async with serving(queue, capsys) as at:
        held = [await Asking.ask(at, f"/?shard={number}", X_Forwarded_For="10.0.0.1") for number in range(3)]
        await queue.asked_for(3)
        assert capsys.readouterr().err.count("come through a proxy") == 1
        for asking in held:
            asking.leave()


async def test_connections_beyond_the_limit_are_closed_at_once(queue):
    overruns = []

    async def never(_request, _body) -> Answer | None:
        await asyncio.Event().wait()
        return None

    server = SilentServer(never, connections_max=2, unreadable=lambda: None, overrun=lambda: overruns.append(1))
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    at = listening.sockets[0].getsockname()
    held = [await Asking.ask(at, "/") for _ in range(2)]
    assert await (await Asking.ask(at, "/")).ended() == b""
    assert overruns == [1]
    server.abort()
    assert [await asking.ended() for asking in held] == [b"", b""]
    listening.close()


def test_the_limit_of_open_files_bounds_the_connections(monkeypatch):
    limits, raised = {"is": (1024, 2048)}, []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits["is"])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, new: raised.append(new))
    assert allow_connections(100) == 100
    assert raised == []
    assert allow_connections(1500) == 1500
    assert raised.pop() == (1628, 2048)
    assert allow_connections(10_000) == 2048 - silent_server.DESCRIPTORS_KEPT
