"""`nats-identify top` at a real terminal: what it shows, what its keys do, what it costs, and how it leaves."""

import asyncio
import signal
import sys
from time import monotonic

import pytest

from nats_identify.cli.top.run import ASK_EVERY_S
from tests.integration.fake_operator import FakeCoordinator
from tests.integration.terminal import terminal
from tests.processes import ROOT, until


@pytest.fixture
async def fake(client):
    coordinator = FakeCoordinator(client)
    await coordinator.open()
    coordinator.wait(17, "abc")
    first = [{"request_id": "abc", "shard_id": 17, "priority": 0, "managed": True, "waited_ms": 1, "client": "pod-17"}]
    bucket = {"bucket": 1, "waiting": 1, "next_release_ms": 2400, "reason": "window", "first": first}
    coordinator.status |= {"waiting": 1, "buckets": [bucket]}
    return coordinator


async def test_it_shows_the_queue_and_follows_events(fake, nats_server):
    async with terminal("top", NATS_URL=nats_server.url) as screen:
        await screen.until_drawn("pod-0 leads, term 7")
        await screen.until_drawn("17 (pod-17)")
        await fake.event("identified", shard_id=3, bucket=1)
        await screen.until_drawn("identified    shard 3 bucket 1")
        await screen.until_drawn("1 identified, 1 wait")
        screen.resize(130, 40)
        await screen.until_drawn("waits for  identified    next in line")
        screen.type("q")
        assert await screen.ended() == 0
        assert screen.is_restored


@pytest.mark.parametrize(
    ("how", "status"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
async def test_it_gives_the_terminal_back_on_any_end(fake, nats_server, how, status):
    async with terminal("top", NATS_URL=nats_server.url) as screen:
        await screen.until_drawn("pod-0 leads")
        screen.type("k12")  # in the middle of a question
        await screen.until_drawn("Kick the requests of shard: 12")
        if isinstance(how, signal.Signals):
            screen.process.send_signal(how)
        else:
            screen.type("\x1b" if how == "q" else how)
            if how == "q":
                await screen.until_drawn("p pause or resume")
                screen.type(how)
        assert await screen.ended() == status
        assert screen.is_restored


async def test_suspending_and_dumping_keys_do_nothing(fake, nats_server):
    async with terminal("top", NATS_URL=nats_server.url) as screen:
        await screen.until_drawn("pod-0 leads")
        screen.type("\x1a\x1c")
        screen.type("k")
        await screen.until_drawn("Kick the requests of shard")
        screen.type("\x03")
        assert await screen.ended() == 130
        assert screen.is_restored


async def test_a_command_follows_a_yes_alone(fake, nats_server):
    async with terminal("top", NATS_URL=nats_server.url) as screen:
        await screen.until_drawn("pod-0 leads")
        screen.type("p")
        await screen.until_drawn("Pause: grant no turn until resume? [y/N]")
        screen.type("n")
        await screen.until_drawn("nothing was done")
        screen.type("p")
        await screen.until_drawn("Pause: grant no turn until resume? [y/N]")
        screen.type("y")
        await screen.until_drawn("done: pause was done")
        await screen.until_drawn("PAUSED by ")
        screen.type("p")
        await screen.until_drawn("Resume: grant turns again? [y/N]")
        screen.type("y")
        await screen.until_drawn("done: resume was done")
        screen.type("k17\r")
        await screen.until_drawn("Kick shard 17 (pod-17), position 1, waiting 0:01:05? [y/N]")
        fake.refusal = ("ended", "it has had its turn")
        screen.type("y")
        await screen.until_drawn("not done (ended): it has had its turn")
        screen.type("k5\r")
        await screen.until_drawn("shard 5 has no waiting request")
    assert [name for name, _ in fake.received] == ["pause", "resume", "kick"]
    assert fake.received[-1][1]["request_id"] == "abc"
    assert all("@" in body["by"] for _, body in fake.received)


async def test_a_kick_ends_more_requests_than_a_page_has(fake, nats_server):
    for number in range(250):
        fake.wait(5, f"r{number}")
    async with terminal("top", NATS_URL=nats_server.url) as screen:
        await screen.until_drawn("pod-0 leads")
        screen.type("k5\r")
        await screen.until_drawn("Kick all 250 requests of shard 5? [y/N]")
        screen.type("y")
        await screen.until_drawn("done: kick was done")
    assert [body["request_id"] for _, body in fake.received] == [f"r{number}" for number in range(250)]


async def test_an_outage_is_seen_and_its_end(fake, nats_server):
    async with terminal("top", NATS_URL=nats_server.url) as screen:
        await screen.until_drawn("pod-0 leads")
        await nats_server.stop()
        await screen.until_drawn("the figures are")
        fake.status["leader"] = "pod-1"
        await nats_server.start()
        await screen.until_drawn("pod-1 leads")
        await nats_server.stop()
        screen.type("q")
        assert await screen.ended() == 0
        assert screen.is_restored


async def test_it_costs_one_status_request_in_two_seconds_however_much_happens(fake, nats_server):
    async with terminal("top", NATS_URL=nats_server.url) as screen:
        await screen.until_drawn("pod-0 leads")
        first, began = fake.asked, monotonic()

        async def is_asked_again():
            for number in range(20):
                await fake.event("granted", shard_id=number, bucket=0)
            return fake.asked >= first + 3

        await until(is_asked_again, "it asks three more times")
        assert monotonic() - began >= 2 * ASK_EVERY_S  # the first of the three may be due at once


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}])
async def test_a_terminal_that_cannot_show_it_is_refused(fake, nats_server, environment):
    async with terminal("top", NATS_URL=nats_server.url, **environment) as screen:
        assert await screen.ended() == 2
        await screen.until_drawn("top needs a terminal")


async def test_without_a_terminal_it_is_refused(nats_server):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nats_identify", "top", "--server", nats_server.url),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert (process.returncode, output) == (2, b"")
    assert errors == b"top needs a terminal; elsewhere use nats-identify status --watch, or nats-identify events\n"
