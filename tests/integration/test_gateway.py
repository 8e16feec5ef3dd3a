"""The simulated gateway over its real sockets, on loopback."""

import asyncio
import json
import signal
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest
import zstandard

from nats_identify.testing import DoorState, Record, SimulatedGateway, Verdict
from nats_identify.testing.events import Connected, Identified, Resumed
from nats_identify.testing.payloads import SNOWFLAKE_SHIFT
from tests.integration.gateway_client import DEADLINE_S, TOKEN, Client, closed_once_with, connected, get


async def test_identify_is_answered_with_ready_and_all_that_a_library_reads() -> None:
    async with SimulatedGateway() as gateway, connected(gateway) as client:
        await client.identify(3, 16)
        ready = await client.receive()
        assert (ready["op"], ready["t"], ready["s"]) == (0, "READY", 1)
        assert ready["d"]["resume_gateway_url"] == gateway.ws_url
        assert ready["d"]["shard"] == [3, 16]
        assert ready["d"]["session_id"]
        assert {"user", "guilds", "application"} <= ready["d"].keys()


async def test_too_early_is_answered_with_invalid_session_on_a_connection_that_stays_open() -> None:
    async with (
        SimulatedGateway(window_s=60) as gateway,
        connected(gateway) as first,
        connected(gateway) as second,
    ):
        await first.identify(0)
        assert (await first.receive())["t"] == "READY"
        await second.identify(1)
        assert await second.receive() == {"op": 9, "d": False, "s": None, "t": None}
        await second.send(1, None)
        assert (await second.receive())["op"] == 11
        report = gateway.record.report()
        assert (report.identifies, report.violations, report.over_limit) == (2, 1, 0)
        verdicts = [event.verdict for event in gateway.record.of(Identified)]
        assert verdicts == [Verdict.ACCEPTED, Verdict.TOO_EARLY]


async def test_max_concurrency_can_change_while_it_runs() -> None:
    async with SimulatedGateway(max_concurrency=1, window_s=60) as gateway:
        gateway.set_limits(max_concurrency=2)
        for shard_id in (0, 1):
            async with connected(gateway) as client:
                await client.identify(shard_id)
                assert (await client.receive())["t"] == "READY"


async def test_over_the_days_limit_is_refused_and_told_as_a_token_reset() -> None:
    async with SimulatedGateway(total=1, max_concurrency=16) as gateway:
        async with connected(gateway) as client:
            await client.identify(0)
            assert (await client.receive())["t"] == "READY"
        async with connected(gateway) as client:
            await client.identify(1)
            assert (await client.receive())["op"] == 9
        report = gateway.record.report()
        assert (report.over_limit, report.token_resets) == (1, 1)
        gateway.reset_day()
        async with connected(gateway) as client:
            await client.identify(2)
            assert (await client.receive())["t"] == "READY"


async def test_frames_keep_their_order_under_jitter() -> None:
    async with (
        SimulatedGateway(frame_latency_s=(0.0, 0.02), seed=3) as gateway,
        connected(gateway) as client,
    ):
        await client.identify()
        assert (await client.receive())["t"] == "READY"
        for number in range(100):
            await gateway.dispatch(0, "TYPING_START", {"number": number})
        received = [await client.receive() for _ in range(100)]
        assert [frame["d"]["number"] for frame in received] == list(range(100))
        assert [frame["s"] for frame in received] == list(range(2, 102))


async def test_an_identify_is_stamped_after_its_latency() -> None:
    async with SimulatedGateway(frame_latency_s=(0.1, 0.1)) as gateway, connected(gateway) as client:
        await client.identify()
        await client.receive()
        (connect,), (identify,) = gateway.record.of(Connected), gateway.record.of(Identified)
        assert identify.at_ns - connect.at_ns >= 2 * 100_000_000  # HELLO there, IDENTIFY back


async def test_a_slow_ready_holds_back_no_heartbeat() -> None:
    async with SimulatedGateway(ready_delay_s=(3600, 3600)) as gateway, connected(gateway) as client:
        await client.identify()
        await client.send(1, None)
        assert (await client.receive())["op"] == 11


async def test_a_client_without_heartbeats_is_closed_and_loses_its_session() -> None:
    async with SimulatedGateway(heartbeat_interval_s=0.05) as gateway, connected(gateway) as client:
        assert await client.close_code() == 4009
        report = await gateway.until(lambda report: bool(report.disconnects_by_code))
        assert (report.heartbeat_timeouts, report.disconnects_by_code) == (1, {4009: 1})


async def test_a_session_survives_any_code_but_1000_and_1001() -> None:
    async with SimulatedGateway(max_concurrency=16) as gateway:
        for shard_id, (code, survives) in enumerate(((4000, True), (1000, False), (1001, False))):
            async with connected(gateway) as client:
                await client.identify(shard_id)
                session_id = (await client.receive())["d"]["session_id"]
                await client.socket.close(code=code)
            await gateway.until(partial(closed_once_with, code))
            async with connected(gateway) as client:
                await client.send(6, {"token": TOKEN, "session_id": session_id, "seq": 1})
                answer = await client.receive()
                assert (answer["t"] == "RESUMED") is survives
                assert (answer["op"] == 9) is not survives
        assert [event.accepted for event in gateway.record.of(Resumed)] == [True, False, False]
        assert gateway.record.report().identifies == 3  # RESUME is free


async def resume(url: str, session_id: str) -> dict[str, Any]:
    """Resume at this address, and return the answer."""
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        client = Client(socket)
        assert (await client.receive())["op"] == 10
        await client.send(6, {"token": TOKEN, "session_id": session_id, "seq": 1})
        answer = await client.receive()
        await socket.close(code=4000)  # the session lives on
        return answer


@asynccontextmanager
async def lost_session(**options: Any) -> AsyncIterator[tuple[SimulatedGateway, str]]:
    """A gateway with a session whose connection is lost, and the id of that session."""
    async with SimulatedGateway(**options) as gateway:
        async with connected(gateway) as client:
            await client.identify()
            ready = (await client.receive())["d"]
            assert ready["resume_gateway_url"] == gateway.resume_url
            await client.socket.close(code=4000)
        yield gateway, ready["session_id"]


async def test_a_session_is_resumed_at_a_host_of_its_own_or_at_the_gateway() -> None:
    async with lost_session(resume_host=DoorState.OPEN) as (gateway, session_id):
        assert gateway.resume_url != gateway.ws_url
        assert (await resume(gateway.resume_url, session_id))["t"] == "RESUMED"
        assert (await resume(gateway.ws_url, session_id))["t"] == "RESUMED"
        doors = [event.door for event in gateway.record.of(Connected)]
        assert doors == ["gateway", "resume host", "gateway"]


async def test_ready_names_the_gateway_itself_where_no_resume_host_is_wanted() -> None:
    async with lost_session() as (gateway, session_id):
        assert gateway.resume_url == gateway.ws_url
        assert (await resume(gateway.resume_url, session_id))["t"] == "RESUMED"
        with pytest.raises(LookupError, match="resume_host="):
            await gateway.set_resume_host("open")


async def test_a_dead_resume_host_refuses_connections_until_it_is_opened() -> None:
    async with lost_session(resume_host=DoorState.REFUSES) as (gateway, session_id):
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectorError):
                await resume(gateway.resume_url, session_id)
            await gateway.set_resume_host("open")
            assert (await resume(gateway.resume_url, session_id))["t"] == "RESUMED"
            await gateway.set_resume_host("refuses")


async def test_a_gateway_that_refuses_cuts_each_connection_and_answers_rest() -> None:
    async with lost_session(resume_host=DoorState.OPEN) as (gateway, session_id):
        gateway.set_gateway("refuses")
        with pytest.raises(aiohttp.ClientError):
            await resume(gateway.ws_url, session_id)
        assert (await get(f"{gateway.rest_url}/gateway"))[0] == 200
        assert (await resume(gateway.resume_url, session_id))["t"] == "RESUMED"
        gateway.set_gateway("open")
        assert (await resume(gateway.ws_url, session_id))["t"] == "RESUMED"


@pytest.mark.parametrize(("state", "frames"), [("silent", []), ("no_hello", []), ("no_answer", [10, 11])])
async def test_a_host_hangs_where_it_is_told_to(state: str, frames: list[int]) -> None:
    """What a client gets before nothing more comes; that nothing comes is known when the gateway hangs up."""
    seen: list[int] = []

    async def talk(url: str, session_id: str) -> None:
        async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
            await socket.send_json({"op": 6, "d": {"token": TOKEN, "session_id": session_id, "seq": 1}})
            await socket.send_json({"op": 1, "d": None})
            async for message in socket:
                seen.append(message.json()["op"])  # noqa: PERF401  # what came before it ended counts, however it ended

    async with lost_session(resume_host=DoorState(state)) as (gateway, session_id):
        talking = asyncio.ensure_future(talk(gateway.resume_url, session_id))
        async with asyncio.timeout(DEADLINE_S):
            assert (await resume(gateway.ws_url, session_id))["t"] == "RESUMED"  # the gateway itself is well
            while len(seen) < len(frames):  # noqa: ASYNC110  # a socket is looked at
                await asyncio.sleep(0.01)  # between two looks
        assert not talking.done()
        assert gateway.record.report().resumes == 1
    await asyncio.wait({talking}, timeout=DEADLINE_S)
    assert talking.done()
    talking.exception()
    assert sorted(seen) == frames


async def test_a_sequence_from_the_future_is_closed_with_4007() -> None:
    async with SimulatedGateway() as gateway:
        async with connected(gateway) as client:
            await client.identify()
            session_id = (await client.receive())["d"]["session_id"]
            await client.socket.close(code=4000)
        async with connected(gateway) as client:
            await client.send(6, {"token": TOKEN, "session_id": session_id, "seq": 99})
            assert await client.close_code() == 4007


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("not json", 4002),
        ("[]", 4002),
        ('{"op": "2"}', 4002),
        ('{"op": 1, "d": "' + "x" * 4096 + '"}', 4002),
        ('{"op": 99, "d": null}', 4001),
        ('{"op": 3, "d": {}}', 4003),
        ('{"op": 2, "d": null}', 4002),
        (json.dumps({"op": 2, "d": {"token": "other", "shard": [0, 1]}}), 4004),
        (json.dumps({"op": 6, "d": {"token": "other", "session_id": "x", "seq": 1}}), 4004),
        (json.dumps({"op": 2, "d": {"token": TOKEN, "shard": [1, 1]}}), 4010),
        (json.dumps({"op": 2, "d": {"token": TOKEN, "shard": ["0", 1]}}), 4010),
    ],
)
async def test_each_mistake_has_its_close_code_and_is_not_judged(frame: str, code: int) -> None:
    async with SimulatedGateway(token=TOKEN) as gateway, connected(gateway) as client:
        await client.socket.send_str(frame)
        assert await client.close_code() == code
        assert gateway.record.report().identifies == 0


async def test_identifying_twice_is_closed_with_4005() -> None:
    async with SimulatedGateway() as gateway, connected(gateway) as client:
        await client.identify()
        await client.receive()
        await client.identify()
        assert await client.close_code() == 4005


async def test_orders_reach_the_shard_that_they_name() -> None:
    async with (
        SimulatedGateway(max_concurrency=2) as gateway,
        connected(gateway) as zero,
        connected(gateway) as one,
        connected(gateway) as nobody,
    ):
        for shard_id, client in enumerate((zero, one)):
            await client.identify(shard_id)
            await client.receive()
        await gateway.reconnect(0)
        assert (await zero.receive())["op"] == 7
        await gateway.invalidate(0, resumable=True)
        assert (await zero.receive())["d"] is True
        await gateway.drop(0, code=4900)
        assert await zero.close_code() == 4900
        await gateway.drop(1, code=1006)
        assert await one.close_code() == 1006
        await gateway.drop(None)
        assert await nobody.close_code() == 4000
        await gateway.until(lambda report: sum(report.disconnects_by_code.values()) == 3)
        with pytest.raises(LookupError, match="shard 0"):
            await gateway.drop(0)


async def test_an_invalidated_session_is_gone_and_its_connection_may_identify_afresh() -> None:
    async with SimulatedGateway(max_concurrency=1, window_s=1e-9) as gateway, connected(gateway) as client:
        await client.identify()
        first = (await client.receive())["d"]["session_id"]
        await gateway.invalidate(0)
        assert (await client.receive())["op"] == 9
        await client.identify()
        assert (await client.receive())["d"]["session_id"] != first


@pytest.mark.parametrize(
    ("compress", "decompressor", "end"),
    [
        ("zlib-stream", zlib.decompressobj(), b"\x00\x00\xff\xff"),
        ("zstd-stream", zstandard.ZstdDecompressor().decompressobj(), b""),
    ],
)
async def test_a_compression_is_one_stream_for_the_whole_connection(
    compress: str, decompressor: Any, end: bytes
) -> None:
    async with (
        SimulatedGateway(guilds_per_shard=5) as gateway,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{gateway.ws_url}/?v=10&encoding=json&compress={compress}") as socket,
    ):

        async def receive() -> dict[str, Any]:
            frame = await socket.receive_bytes()
            assert frame.endswith(end)
            payload: dict[str, Any] = json.loads(decompressor.decompress(frame))
            return payload

        async with asyncio.timeout(DEADLINE_S):
            assert (await receive())["op"] == 10
            await Client(socket).identify(1, 2)
            ready = await receive()
            guilds = [await receive() for _ in range(5)]
        announced = [guild["id"] for guild in ready["d"]["guilds"]]
        assert all(guild["unavailable"] for guild in ready["d"]["guilds"])
        assert [guild["t"] for guild in guilds] == ["GUILD_CREATE"] * 5
        assert [guild["d"]["id"] for guild in guilds] == announced
        assert {(int(guild_id) >> SNOWFLAKE_SHIFT) % 2 for guild_id in announced} == {1}


async def test_a_compression_that_is_not_simulated_is_refused_at_the_door() -> None:
    async with SimulatedGateway() as gateway:
        status, _, text = await get(f"{gateway.http_url}/?compress=brotli")
        assert status == 400
        assert "zlib-stream" in text


async def test_no_token_gets_into_the_record() -> None:
    async with SimulatedGateway(token=TOKEN) as gateway, connected(gateway) as client:
        await get(f"{gateway.rest_url}/gateway/bot", TOKEN)
        await client.identify()
        await client.receive()
        told = [json.dumps(event.as_json()) for event in gateway.record.events]
        told += [repr(gateway), str(gateway.record.report())]
        assert not any(TOKEN in text for text in told)


async def test_until_says_how_far_it_got() -> None:
    async with SimulatedGateway() as gateway:
        with pytest.raises(TimeoutError, match="so far: 0 IDENTIFYs"):
            await gateway.until(lambda report: report.identifies == 1, within_s=0.01)


async def test_a_gateway_has_no_url_before_it_runs_and_runs_once() -> None:
    gateway = SimulatedGateway()
    with pytest.raises(RuntimeError, match="async with"):
        _ = gateway.ws_url
    async with gateway:
        pass
    with pytest.raises(RuntimeError, match="once"):
        await gateway.__aenter__()


@pytest.mark.parametrize(
    "figures",
    [{"max_concurrency": 0}, {"total": 0}, {"remaining": 1001}, {"shards": 0}, {"frame_latency_s": (2.0, 1.0)}],
)
def test_figures_that_cannot_be_are_refused(figures: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give|holds"):
        SimulatedGateway(**figures)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_it_runs_as_a_process_that_tells_what_happens_and_stops_cleanly(signal_number: int) -> None:
    command = [
        sys.executable,
        "-m",
        "nats_identify.testing",
        "--max-concurrency",
        "2",
        "--frame-latency-ms",
        "1:5",
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as http:
            urls = json.loads(await process.stdout.readline())
            events = await http.get(urls["events_url"])
            async with http.post(f"{urls['orders_url']}/set_limits", json={"max_concurrency": 3}) as ordered:
                assert ordered.status == 204
            assert json.loads(await events.content.readline())["max_concurrency"] == 3
            async with http.post(f"{urls['orders_url']}/drop", json={"shard_id": 0}) as ordered:
                assert (ordered.status, "shard 0" in await ordered.text()) == (400, True)
            async with http.post(f"{urls['orders_url']}/dance") as ordered:
                assert ordered.status == 404
            async with http.ws_connect(urls["ws_url"]) as socket:
                assert (await socket.receive_json())["op"] == 10
                await Client(socket).identify(4)
                assert (await socket.receive_json())["t"] == "READY"
                kinds = [json.loads(await events.content.readline())["event"] for _ in range(3)]
                assert kinds == ["connect", "identify", "ready"]
                assert (await get(urls["report_url"]))[2]["identifies_by_bucket"] == {"1": 1}
                process.send_signal(signal_number)
                assert await Client(socket).close_code() == 1001
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_reader_of_events_that_comes_late_gets_the_earlier_ones_first() -> None:
    async with SimulatedGateway() as gateway, aiohttp.ClientSession() as http:
        gateway.set_limits(max_concurrency=2)
        async with asyncio.timeout(DEADLINE_S), http.get(f"{gateway.http_url}/events") as events:
            assert json.loads(await events.content.readline())["max_concurrency"] == 2
            gateway.set_limits(max_concurrency=3)
            assert json.loads(await events.content.readline())["max_concurrency"] == 3


def test_the_record_of_a_gateway_is_there_before_it_runs() -> None:
    assert isinstance(SimulatedGateway().record, Record)
