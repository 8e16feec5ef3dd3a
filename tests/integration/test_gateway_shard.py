"""The bare shard against the simulated gateway, on loopback."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.queue import Grant, OnProgress, Progress, Queue, QueueClosedError
from nats_identify.reason import Reason
from nats_identify.testing import BareShard, InstantQueue, ShardRefusedError, ShardState, SimulatedGateway
from nats_identify.testing.codes import FATAL
from nats_identify.testing.delays import Range
from nats_identify.testing.events import Connected, Disconnected, Identified

TOKEN = "MTAwMDAw.not.real"  # noqa: S105  # opens nothing but the gateway of its test
DEADLINE_S = 30.0
AT_ONCE: Range = (0.0, 0.0)


class HeldQueue(InstantQueue):
    """Lets a test say when a turn is near, and when it is granted."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.priorities: list[int] = []
        self.withdrawn = asyncio.Event()
        self.closed = False
        self._near = asyncio.Event()
        self._released = asyncio.Event()

    def let_near(self) -> None:
        self._near.set()

    def release(self) -> None:
        self._released.set()

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,
    ) -> Grant:
        self.priorities.append(priority)
        self.asked.set()
        try:
            await self._near.wait()
            if on_progress is not None:
                on_progress(Progress(position=1, eta_ms=None, reason=Reason.WINDOW, near=True))
            await self._released.wait()
        except asyncio.CancelledError:
            self.withdrawn.set()
            raise
        if self.closed:
            raise QueueClosedError
        return await super().acquire(shard_id, priority=priority, replaces=replaces)


def shard_of(
    gateway: SimulatedGateway, queue: Queue | None, shard_id: int = 0, states: list[ShardState] | None = None
) -> BareShard:
    return BareShard(
        queue,
        shard_id,
        16,
        gateway.ws_url,
        TOKEN,
        invalid_session_delay_s=AT_ONCE,
        on_state=None if states is None else lambda _shard_id, state: states.append(state),
    )


def outcomes(queue: InstantQueue) -> list[str]:
    return [outcome for outcome, _ in queue.outcomes]


async def connections(gateway: SimulatedGateway, count: int) -> None:
    await gateway.until(lambda _report: len(gateway.record.of(Connected)) == count)


async def test_a_shard_goes_from_the_queue_to_ready_and_says_so() -> None:
    queue, states = InstantQueue(), list[ShardState]()
    async with SimulatedGateway(token=TOKEN) as gateway, asyncio.timeout(DEADLINE_S):
        async with shard_of(gateway, queue, 3, states) as shard:
            await shard.until(ShardState.UP)
        assert [ShardState(state).value for state in states] == [
            "waiting",
            "near",
            "granted",
            "identified",
            "up",
            "closed",
        ]
        assert outcomes(queue) == ["identified", "ready"]
        assert gateway.record.report().ready_by_shard == {3: 1}
        await gateway.until(lambda report: report.disconnects_by_code == {1000: 1})


async def test_it_connects_while_near_and_identifies_only_with_a_grant() -> None:
    queue = HeldQueue()
    async with SimulatedGateway() as gateway, asyncio.timeout(DEADLINE_S), shard_of(gateway, queue) as shard:
        await queue.asked.wait()
        assert gateway.record.of(Connected) == []
        queue.let_near()
        await connections(gateway, 1)
        assert gateway.record.report().identifies == 0
        queue.release()
        await shard.until(ShardState.UP)
        assert len(gateway.record.of(Connected)) == 1


async def test_a_long_wait_is_survived_by_heartbeats() -> None:
    queue = HeldQueue()
    async with (
        SimulatedGateway(heartbeat_interval_s=0.5) as gateway,
        asyncio.timeout(DEADLINE_S),
        shard_of(gateway, queue) as shard,
        aiohttp.ClientSession() as http,
    ):
        queue.let_near()
        await connections(gateway, 1)
        async with http.ws_connect(gateway.ws_url):  # comes later, says nothing, and is closed for it
            await gateway.until(lambda report: report.heartbeat_timeouts == 1)
        queue.release()
        await shard.until(ShardState.UP)
        assert len(gateway.record.of(Connected)) == 2


async def test_a_connection_that_dies_in_the_wait_is_replaced_and_the_place_is_kept() -> None:
    queue = HeldQueue()
    async with SimulatedGateway() as gateway, asyncio.timeout(DEADLINE_S), shard_of(gateway, queue) as shard:
        queue.let_near()
        for count in range(1, 4):
            await connections(gateway, count)
            await gateway.drop(None, code=1006)
        await connections(gateway, 4)
        assert not queue.withdrawn.is_set()
        queue.release()
        await shard.until(ShardState.UP)
        assert len(queue.priorities) == 1
        assert outcomes(queue) == ["identified", "ready"]


async def test_a_refused_identify_asks_the_queue_again() -> None:
    queue, states = InstantQueue(), list[ShardState]()
    async with SimulatedGateway(remaining=0, window_s=1e-9) as gateway, asyncio.timeout(DEADLINE_S):
        async with shard_of(gateway, queue, states=states) as shard:
            await shard.until(ShardState.REJECTED)
            gateway.reset_day()
            await shard.until(ShardState.UP)
        report = gateway.record.report()
        assert report.violations >= 1
        assert len(queue.granted) == report.identifies  # each IDENTIFY had a grant of its own
        assert outcomes(queue)[:2] == ["identified", "rejected"]
        assert outcomes(queue)[-2:] == ["identified", "ready"]


async def test_a_lost_connection_resumes_without_the_queue() -> None:
    queue = InstantQueue()
    async with SimulatedGateway() as gateway, asyncio.timeout(DEADLINE_S), shard_of(gateway, queue) as shard:
        await shard.until(ShardState.UP)
        await gateway.drop(0)
        await gateway.until(lambda report: report.resumes == 1)
        await shard.until(ShardState.UP)
        await gateway.reconnect(0)
        await gateway.until(lambda report: report.resumes == 2)
        assert len(queue.granted) == 1


@pytest.mark.parametrize("how", ["invalidated", "not resumable", "timed out"])
async def test_a_lost_session_asks_again_with_priority(how: str) -> None:
    queue = HeldQueue()
    queue.let_near()
    queue.release()
    async with (
        SimulatedGateway(window_s=1e-9) as gateway,
        asyncio.timeout(DEADLINE_S),
        shard_of(gateway, queue) as shard,
    ):
        await shard.until(ShardState.UP)
        if how == "invalidated":
            await gateway.invalidate(0)
        elif how == "not resumable":
            await gateway.drop(0, resumable=False)
        else:
            await gateway.drop(0, code=4009)
        await gateway.until(lambda report: report.ready == 2)
        assert queue.priorities == [0, 1]


@pytest.mark.parametrize("code", sorted(FATAL))
async def test_a_fatal_close_code_never_asks_again(code: int) -> None:
    queue = InstantQueue()
    async with SimulatedGateway() as gateway, asyncio.timeout(DEADLINE_S), shard_of(gateway, queue) as shard:
        await shard.until(ShardState.UP)
        await gateway.drop(0, code=code)
        with pytest.raises(ShardRefusedError, match=str(code)) as refused:
            await shard.until(ShardState.RESUMING)
        assert TOKEN not in str(refused.value)
        assert shard.state is ShardState.REFUSED
        assert len(queue.granted) == 1


async def test_a_wrong_token_uses_one_turn_and_no_more() -> None:
    queue = InstantQueue()
    async with SimulatedGateway(token="other") as gateway, asyncio.timeout(DEADLINE_S):  # noqa: S106  # as above
        async with shard_of(gateway, queue) as shard:
            with pytest.raises(ShardRefusedError, match="4004"):
                await shard.until(ShardState.UP)
        assert outcomes(queue) == ["identified"]


async def test_closing_in_the_wait_gives_the_place_back() -> None:
    queue = HeldQueue()
    async with SimulatedGateway() as gateway, asyncio.timeout(DEADLINE_S):
        async with shard_of(gateway, queue) as shard:
            queue.let_near()
            await connections(gateway, 1)
        assert queue.withdrawn.is_set()
        assert shard.state is ShardState.CLOSED
        assert outcomes(queue) == []


async def test_closing_with_a_grant_in_hand_declines_it() -> None:
    queue = InstantQueue()
    async with asyncio.timeout(DEADLINE_S):
        async with SimulatedGateway(hello_delay_s=(3600, 3600)) as gateway:
            async with shard_of(gateway, queue):
                await connections(gateway, 1)
            assert outcomes(queue) == ["declined"]


async def test_a_late_grant_is_never_used() -> None:
    now = now_ns()
    queue = InstantQueue(clock=lambda: now - 60 * NS_PER_S if len(queue.granted) < 3 else now_ns())
    async with SimulatedGateway() as gateway, asyncio.timeout(DEADLINE_S), shard_of(gateway, queue) as shard:
        await shard.until(ShardState.UP)
        assert outcomes(queue) == ["declined"] * 3 + ["identified", "ready"]
        assert gateway.record.report().identifies == 1


async def test_a_queue_that_its_owner_closed_ends_the_shard() -> None:
    queue = HeldQueue()
    queue.closed = True
    queue.let_near()
    queue.release()
    async with SimulatedGateway() as gateway, asyncio.timeout(DEADLINE_S), shard_of(gateway, queue) as shard:
        with pytest.raises(QueueClosedError):
            await shard.until(ShardState.UP)
        assert gateway.record.report().identifies == 0


async def test_a_session_that_is_left_resumable_can_be_resumed() -> None:
    async with SimulatedGateway() as gateway, asyncio.timeout(DEADLINE_S):
        async with shard_of(gateway, InstantQueue()) as shard:
            await shard.until(ShardState.UP)
            await shard.close(4000)
        await gateway.until(lambda report: report.disconnects_by_code == {4000: 1})
        (left,) = gateway.record.of(Disconnected)
        assert left.by_gateway is False


async def test_without_a_queue_a_fleet_breaks_the_limit() -> None:
    """The control run: if this passed without violations, the judge would be asleep."""
    async with (
        SimulatedGateway(max_concurrency=2, window_s=60) as gateway,
        asyncio.timeout(DEADLINE_S),
        AsyncExitStack() as fleet,
    ):
        for shard_id in range(6):
            await fleet.enter_async_context(shard_of(gateway, None, shard_id))
        await gateway.until(lambda report: report.violations >= 4)


async def test_it_waits_for_a_gateway_that_is_not_there() -> None:
    async with SimulatedGateway() as gone:
        url, port = gone.ws_url, int(gone.ws_url.rpartition(":")[2])
    shard = BareShard(None, 0, 1, url, TOKEN)
    async with asyncio.timeout(DEADLINE_S), shard:
        await shard.until(ShardState.NEAR)
        async with SimulatedGateway(port=port) as gateway:
            await shard.until(ShardState.UP)
            assert [event.shard_id for event in gateway.record.of(Identified)] == [0]


async def test_nobody_waits_for_a_shard_that_does_not_run() -> None:
    shard = BareShard(None, 0, 1, "ws://127.0.0.1:1", TOKEN)
    with pytest.raises(RuntimeError, match="not running"):
        await shard.until(ShardState.UP)
