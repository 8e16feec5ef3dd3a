"""One queue object in one event loop after the other, in a forked child, and in two loops at once: all four queues."""

import asyncio
import json
import sys
from types import SimpleNamespace
from typing import Any

import nats
import pytest

from nats_identify import LocalQueue, NatsQueue, QueueClosedError
from nats_identify.testing import InstantQueue, SimulatedGateway
from tests.processes import ROOT, WITHIN_S, until

KINDS = ["NatsQueue", "LargeBotQueue", "LocalQueue", "InstantQueue"]
LOOPS = ["asyncio", "uvloop"]


@pytest.fixture
async def wander(nats_server, start_coordinator):
    """Run one scenario of the wanderer, and return its steps by name."""

    logs: list[str] = []

    async def run(kind: str, scenario: str, loop: str = "asyncio") -> dict[str, dict[str, Any]]:
        if kind == "NatsQueue":
            await start_coordinator(IDENTIFY_MAX_CONCURRENCY="4")
        async with SimulatedGateway(4) as gateway:
            address = nats_server.url if kind == "NatsQueue" else gateway.rest_url
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-X", "dev", "-W", "ignore", "-m", "tests.integration.wanderer", kind, scenario),
                *(address, *(["uvloop"] if loop == "uvloop" else [])),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                said, complained = await asyncio.wait_for(process.communicate(), 4 * WITHIN_S)
            finally:
                if process.returncode is None:
                    process.kill()
        assert process.returncode == 0, complained.decode()
        assert b"Traceback" not in complained, complained.decode()
        logs.append(complained.decode())
        return {step["step"]: step for step in map(json.loads, said.splitlines())}

    return SimpleNamespace(run=run, logs=logs)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_queue_serves_one_event_loop_after_the_other(wander, kind, loop):
    steps = await wander.run(kind, "one_loop_after_the_other", loop)
    errors = [steps[name].get("error") for name in ("loop 0", "loop 1", "loop 2", "close", "closed")]
    assert errors == [None, None, None, None, "QueueClosedError"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_forked_child_and_its_parent_both_go_on(wander, kind, loop):
    steps = await wander.run(kind, "a_fork_after_use", loop)
    assert [steps[name].get("error") for name in ("parent", "child", "parent again")] == [None] * 3
    assert steps["child"]["process"] != steps["parent"]["process"]
    is_alone = kind in {"LocalQueue", "LargeBotQueue"}  # it knows nothing of what its parent goes on to do
    assert ("take NatsQueue" in wander.logs[-1]) is is_alone
    if kind in {"NatsQueue", "InstantQueue"}:  # the ids of the others matter to their own process alone
        assert len({step["request_id"] for step in steps.values()}) == 3


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_forked_child_leaves_the_requests_of_its_parent_alone(wander, nats_server, kind, loop):
    watcher = await nats.connect(nats_server.url)
    events: list[tuple[str, str]] = []

    async def note(message):
        events.append((message.subject.rpartition(".")[2], json.loads(message.data).get("request_id", "")))

    await watcher.subscribe("identify.event.*", cb=note)
    await watcher.flush()
    steps = await wander.run(kind, "a_fork_while_it_waits", loop)
    names = ["parent", "child", "child close", "parent waited", "parent again"]
    assert [steps[name].get("error") for name in names] == [None] * 5
    if kind == "NatsQueue":
        used = [steps[name]["request_id"] for name in ("parent", "child", "parent again")]

        async def are_used():
            return all(("identified", request_id) in events for request_id in used)

        await until(are_used, "each turn that was used was confirmed")
        assert not [event for event in events if event[0] in {"cancelled", "declined", "rejected", "expired"}]
    await watcher.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_two_event_loops_at_once_are_refused(wander, kind):
    steps = await wander.run(kind, "two_loops_at_once")
    elsewhere = ["acquire", "turn", "turn near", "identified", "close"]
    if kind == "InstantQueue":
        elsewhere = elsewhere[:3]  # it notes what it is told, and holds nothing to be closed
    for step in elsewhere:
        assert steps[step].get("error") == "RuntimeError", steps[step]
        assert "in use in another event loop" in steps[step]["message"]
    if kind != "InstantQueue":
        assert steps["here"].get("error") is None


# --- a connection that the bot has made


async def test_a_borrowed_connection_of_another_loop_is_refused(nats_server):
    async def make() -> NatsQueue:
        return NatsQueue(await nats.connect(nats_server.url))

    def make_elsewhere() -> NatsQueue:
        with asyncio.Runner() as runner:
            return runner.run(make())

    queue = await asyncio.to_thread(make_elsewhere)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"belongs to another event loop, or to a parent process.*NatsQueue.connect"
        ):
            await queue.acquire(0)
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            async with queue:
                pass
    await queue.close()
    with pytest.raises(QueueClosedError):
        await queue.acquire(0)


@pytest.mark.parametrize("url", ["nats://127.0.0.1:4222", b"nats://x", 42, object()])
def test_what_is_no_connection_is_refused_at_once(url):
    with pytest.raises(TypeError, match=r"is no NATS connection; for a URL there is NatsQueue.connect\(url\)"):
        NatsQueue(url)


# --- the end


async def test_a_queue_that_was_closed_says_so_at_every_use(nats_server):
    queue = NatsQueue.connect(nats_server.url)
    async with queue:
        pass
    for use in (lambda: queue.acquire(0), queue.info, queue.__aenter__, lambda: queue.turn(0).__aenter__()):
        with pytest.raises(QueueClosedError):
            await use()
    await queue.close()


@pytest.mark.parametrize("kind", [InstantQueue, LocalQueue])
async def test_every_queue_can_be_entered(kind):
    async with kind() as queue, queue.turn(0):
        pass
    with pytest.raises(QueueClosedError):
        await queue.acquire(1)


async def test_closing_does_not_take_back_a_turn_in_a_shard_s_hands(nats_server, start_coordinator, client):
    """Whether IDENTIFY was sent with it cannot be known: unanswered it holds its bucket."""
    await start_coordinator()
    outcomes = []

    async def note(message):
        outcomes.append(message.data)

    await client.subscribe("identify.confirm.>", cb=note)
    await client.flush()
    queue = NatsQueue.connect(nats_server.url)
    await queue.acquire(0)
    waiting = asyncio.create_task(queue.acquire(1))
    await asyncio.sleep(0)
    await queue.close()
    with pytest.raises(QueueClosedError):
        await waiting
    await client.flush()  # what the queue sent has arrived: it flushed before it closed
    assert outcomes == []
