"""The queues on their own: an idle bucket, a head that gives up, and the dead in front."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from statistics import median
from typing import Final

from benchmarks import idle_latency
from benchmarks.contestants import OURS, Contestant
from benchmarks.crowd import Order
from benchmarks.figures import percentile, ratio
from benchmarks.fleets import WINDOW_S
from benchmarks.large import follow
from benchmarks.queues import OpenQueue, opener_of
from benchmarks.results import Outcome, Row, Value
from benchmarks.scenarios import Bench
from nats_identify import Grant, Queue
from nats_identify.clock import NS_PER_MS, now_ns

GIVEN_UP_AFTER_S: Final = 20.0
"""A shard that has not been granted by then is not waited for."""

EDGE: Final = 100
"""How many of the first requests, and of the last, have a row of their own."""

DEAD: Final = 100
ASKS: Final = 12
ASKED_EVERY_S: Final = 0.7
"""No multiple of a window: a queue that looks every five seconds is asked at every phase."""

Measure = Callable[[Bench, OpenQueue], Awaitable[dict[str, Value]]]


async def idle_bucket(bench: Bench) -> list[Outcome]:
    """How long a shard waits whose bucket is idle."""
    buckets = 1000 if bench.is_full else 400
    measured = await idle_latency.measure(buckets, 1)
    grants_ms, updates_ms = measured.grants, measured.updates
    latencies = partial(_latencies, bare_ms=updates_ms)
    last = f"{buckets - EDGE:,} live grants, and more"
    small = f"no queue: one compare-and-set of {idle_latency.KEY_BYTES} bytes, in turn with the requests"
    large = f"as many bytes as the ledger of {buckets:,} live grants has: {measured.ledger_bytes / 1000:.0f} kB"
    rows = [
        Row(OURS, latencies(grants_ms), "a plain NATS request and its reply", _cumulative(grants_ms)),
        Row(f"{OURS}, the first {EDGE}", latencies(grants_ms[:EDGE]), f"fewer than {EDGE} live grants"),
        Row(f"{OURS}, the last {EDGE}", latencies(grants_ms[-EDGE:]), last),
        Row("bare KV update", latencies(updates_ms), small, _cumulative(updates_ms)),
        Row("large KV update", latencies(measured.large_updates), large),
    ]
    rows += await _rows(bench, _ask_idle_buckets, max_concurrency=64, without=OURS)
    sentence = (
        "From the request to the grant, one bucket after the other, each asked for the first time. A grant costs this"
        " queue one write to the replicated ledger, synced to disk, which is what the bare update is. Every grant stays"
        " live, and is in each later entry of the ledger: the large update has the size of the last one. A queue in the"
        f" process of the bot writes nothing; it is asked {ASKS} times, {ASKED_EVERY_S:g} s apart."
    )
    return [Outcome("idle-bucket", "An idle bucket", sentence, rows)]


def _latencies(taken_ms: list[float], bare_ms: list[float]) -> dict[str, Value]:
    """Return the figures of one row, and how many of the small bare updates they are."""
    p50, p99 = percentile(taken_ms, 50), percentile(taken_ms, 99)
    return {
        "asked": len(taken_ms),
        "p50 ms": p50,
        "p99 ms": p99,
        "max ms": max(taken_ms),
        "p50 / bare update": ratio(p50, percentile(bare_ms, 50)),
        "p99 / bare update": ratio(p99, percentile(bare_ms, 99)),
    }


async def head_gives_up(bench: Bench) -> list[Outcome]:
    """The first in line gives up: while it waits, and with its grant in hand."""
    sentence = (
        "One bucket; a shard has identified, two wait. *Waiting*: the first of them gives up, and the second is granted"
        f" so long after the bucket opens, {WINDOW_S:.0f} s after the IDENTIFY. This queue adds its margin of 0.2 s;"
        " below 0 is too early: such a queue counts from its grant, not from the IDENTIFY."
        " *Grant*: the first is granted and declines, and the second is granted so long after that."
    )
    rows = await _rows(bench, _give_up, max_concurrency=1)
    return [Outcome("head-gives-up", "The head of the line gives up", sentence, rows)]


async def dead_in_front(bench: Bench) -> list[Outcome]:
    """100 requests stand before a living one when their process ends."""
    sentence = (
        f"One bucket; a shard has identified, {DEAD} others wait, and one behind them. Then the {DEAD} are gone: their"
        " process is killed (kill -9), or frozen (SIGSTOP: its connection stays open). In a queue inside of a process"
        " their requests are dropped: nothing else can happen to one that lives as long as its requesters."
        f" Late: after the bucket opens, {WINDOW_S:.0f} s after the IDENTIFY."
    )
    rows = await _rows(bench, partial(_outlive, how="kill"), max_concurrency=1)
    rows += await _rows(bench, partial(_outlive, how="freeze"), max_concurrency=1, only=OURS)
    return [Outcome("dead-in-front", f"{DEAD} dead in front", sentence, rows)]


async def _rows(
    bench: Bench, measure: Measure, *, max_concurrency: int, without: str = "", only: str = ""
) -> list[Row]:
    """Measure each queue that can be used on its own, all at the same time."""

    async def one(contestant: Contestant) -> Row | None:
        open_with = opener_of(contestant)
        if open_with is None or contestant.name == without or only not in {"", contestant.name}:
            return None
        async with open_with(max_concurrency) as opened:
            figures = await measure(bench, opened)
        note = str(figures.pop("note", "") or "")
        return Row(contestant.name, figures, note)

    bench.progress.say("the queues on their own")
    return [row for row in await asyncio.gather(*map(one, bench.contestants)) if row is not None]


async def _ask_idle_buckets(_bench: Bench, opened: OpenQueue) -> dict[str, Value]:
    waits_ms: list[float] = []

    async def ask(shard_id: int) -> None:
        begun_ns = now_ns()
        grant = await opened.queue.acquire(shard_id)
        opened.queue.identified(grant)
        waits_ms.append((now_ns() - begun_ns) / NS_PER_MS)

    await opened.queue.acquire(ASKS)  # not counted: the first request finds a program that has just started
    await asyncio.sleep(ASKED_EVERY_S)
    async with asyncio.TaskGroup() as asking:
        for shard_id in range(ASKS):
            asking.create_task(ask(shard_id))
            await asyncio.sleep(ASKED_EVERY_S)
    return {
        "asked": ASKS,
        "p50 ms": median(waits_ms),
        "p99 ms": percentile(waits_ms, 99),
        "max ms": max(waits_ms),
    }


async def _give_up(_bench: Bench, opened: OpenQueue) -> dict[str, Value]:
    queue = opened.queue
    opens_ns = await _identify(queue, 0)
    first, second = await _ask_in_order(queue, 1, 2)
    await _withdraw(first)
    late_ms = await _granted_after_ms(second, opens_ns)
    queue.identified(second.result())
    third, fourth = await _ask_in_order(queue, 3, 4)
    queue.decline(await third)
    return {
        "waiting: next late ms": late_ms,
        "grant: next after ms": await _granted_after_ms(fourth, now_ns()),
    }


async def _outlive(_bench: Bench, opened: OpenQueue, *, how: str) -> dict[str, Value]:
    queue, cluster = opened.queue, opened.cluster
    opens_ns = await _identify(queue, 0)
    if cluster is None:
        dead = await _ask_in_order(queue, *range(1, DEAD + 1))
        (alive,) = await _ask_in_order(queue, DEAD + 1)
        for each in dead:
            await _withdraw(each)
        return {"late ms": await _granted_after_ms(alive, opens_ns), "note": "in its process: requests dropped"}
    async with follow(Order(cluster.server.port, DEAD, 1, 1, connections=1, first_shard=1)) as crowd:
        await crowd.until(lambda: crowd.newest.answered >= DEAD)
        (alive,) = await _ask_in_order(queue, DEAD + 1)
        if crowd.program is not None:
            crowd.program.freeze() if how == "freeze" else await crowd.program.kill()
        late_ms = await _granted_after_ms(alive, opens_ns)
        if crowd.program is not None:
            await crowd.program.kill()
    return {"late ms": late_ms, "note": "their process was " + ("frozen" if how == "freeze" else "killed")}


async def _identify(queue: Queue, shard_id: int) -> int:
    """Use a turn; return when the bucket may open again."""
    queue.identified(await queue.acquire(shard_id))
    return now_ns() + round(WINDOW_S * 1e9)


async def _ask_in_order(queue: Queue, *shard_ids: int) -> list[asyncio.Task[Grant]]:
    """Ask for each of these, one after the other."""
    tasks = []
    for shard_id in shard_ids:
        tasks.append(asyncio.create_task(queue.acquire(shard_id)))
        await asyncio.sleep(0)  # it is sent before the next
    await asyncio.sleep(0.2)  # they stand in line
    return tasks


async def _withdraw(asking: asyncio.Task[Grant]) -> None:
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


async def _granted_after_ms(asking: asyncio.Task[Grant], since_ns: int) -> float | None:
    """Return how long after this instant it was granted; None if it was not."""
    granted_ns: list[int] = []
    asking.add_done_callback(lambda _task: granted_ns.append(now_ns()))
    await asyncio.wait({asking}, timeout=GIVEN_UP_AFTER_S)
    return (granted_ns[0] - since_ns) / NS_PER_MS if granted_ns else None


def _cumulative(values: list[float]) -> list[tuple[float, float]]:
    """Return (value, per cent that are at most as large)."""
    ordered = sorted(values)
    return [(value, 100 * (rank + 1) / len(ordered)) for rank, value in enumerate(ordered)]
