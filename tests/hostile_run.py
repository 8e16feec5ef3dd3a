"""One run of a hostile coordinator against eight shards that wait, and what must hold. It prints nothing."""

import asyncio
import re
import resource
from collections import Counter
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from nats_identify import NatsQueue
from nats_identify.client.base_queue import ENDED_MAX
from nats_identify.client.requester import SENDINGS_MAX, USE_WITHIN_MAX_NS
from nats_identify.clock import now_ns
from nats_identify.schedule.timers import SPARE_MAX
from tests.hostile import GRANTS_MAX, SHARDS, HostileCoordinator, Pulse
from tests.processes import until

REPEAT_S = 30
PAUSE_TIMES_MAX = 30
"""The largest pause under malicious replies, in those of a run with as many ordinary ones. A loop that is blocked
has no such factor. Garbage in between, and the machine's other work, make up the difference."""

CONFIRM = re.compile(r"identify\.confirm\.(\d+)\.([A-Za-z0-9_-]+)")
HARMLESS = re.compile(r"identify\.(request|cancel)\.\d+|identify\.info")


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured."""

    replies: int
    seconds: float
    pause_s: float
    pause_of_ordinary_s: float
    grants_sent: int
    grants_handed_over: int
    exceptions: int
    early_grants: int
    requests: int
    requests_in_one_second: int
    answers: int
    log_lines: dict[str, int]
    alarms_kept: int
    memory_grown_mb: float  # of the whole test process: the sender's buffers are in it


class Fleet:
    """Eight shards, each of which asks for one turn after the other."""

    def __init__(self, queue: NatsQueue) -> None:
        self._queue = queue
        self.handed: list[Any] = []
        self.positions: set[Any] = set()
        self.tasks = [asyncio.create_task(self._shard(number)) for number in range(SHARDS)]

    async def _shard(self, shard_id):
        while True:
            grant = await self._queue.acquire(shard_id, on_progress=self._told)
            self.handed.append((grant, now_ns()))
            self._queue.identified(grant)
            self._queue.ready(grant)

    def _told(self, progress):
        self.positions.add(progress.position)

    async def end(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


async def run(url, replies, caplog, *, seed):
    """Send so many malicious replies, and assert what must hold; return the figures."""
    async with HostileCoordinator(url, seed) as hostile, NatsQueue.connect(url) as queue:
        fleet = Fleet(queue)
        await until(partial(_have_asked, hostile), "all have asked")
        async with Pulse() as ordinary:
            await hostile.send(replies, HostileCoordinator.benign)
            await _processed(hostile, fleet, 777_777)
        caplog.clear()
        begin, memory = monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        asking_info = asyncio.create_task(_ask_info(queue))
        async with Pulse() as pulse:
            await hostile.send(replies, HostileCoordinator.malicious)
            await _processed(hostile, fleet, 888_888)
        seconds = monotonic() - begin
        subjects = [(at, subject) for at, subject in hostile.seen if at >= begin]
        exceptions = [task for task in (*fleet.tasks, asking_info) if task.done()]
        assert len(queue._pending) == SHARDS
        assert len(queue._ended) <= ENDED_MAX
        alarms = len(queue._timers._heap)
        await _stop(asking_info)
        await fleet.end()
    wrong = [subject for _, subject in subjects if not _is_allowed(subject, hostile.grants)]
    early = [grant for grant, at_ns in fleet.handed if not _is_in_contract(grant, at_ns, hostile.grants)]
    requests = [at for at, subject in subjects if subject.startswith("identify.request.")]
    a_second = Counter(int(at - begin) for at in requests)
    lines = Counter(str(record.msg)[:60] for record in caplog.records)
    figures = Figures(
        replies=replies,
        seconds=round(seconds, 2),
        pause_s=round(pulse.largest_s, 4),
        pause_of_ordinary_s=round(ordinary.largest_s, 4),
        grants_sent=len(hostile.grants),
        grants_handed_over=len(fleet.handed),
        exceptions=len(exceptions),
        early_grants=len(early),
        requests=len(requests),
        requests_in_one_second=max(a_second.values(), default=0),
        answers=sum(CONFIRM.fullmatch(subject) is not None for _, subject in subjects),
        log_lines=dict(lines),
        alarms_kept=alarms,
        memory_grown_mb=round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024, 1),
    )
    assert not exceptions, [task.exception() for task in exceptions]
    assert not early, figures
    assert not wrong, wrong[:3]
    assert figures.requests <= SENDINGS_MAX * (SHARDS * (seconds + 1) + GRANTS_MAX), figures
    assert figures.pause_s <= PAUSE_TIMES_MAX * figures.pause_of_ordinary_s, figures
    assert max(lines.values(), default=0) <= 4 + 2 * seconds / REPEAT_S, figures
    assert alarms <= 2 * SHARDS + SPARE_MAX, figures  # what the heap of timers may keep
    for record in caplog.records:
        assert "FORGED" not in record.getMessage() or record.getMessage().isprintable(), record.getMessage()
    return figures


async def _have_asked(hostile):
    return len(hostile.shards) == SHARDS


async def _processed(hostile, fleet, position):
    """Wait until a shard is told what was sent last."""

    async def is_told():
        hostile.mark(position)
        await asyncio.sleep(0.05)  # between two marks
        return position in fleet.positions or all(task.done() for task in fleet.tasks)

    await until(is_told, "everything before is handled")


async def _ask_info(queue):
    while True:
        await queue.info(timeout_s=0.2)


async def _stop(task):
    task.cancel()
    await asyncio.wait({task})


def _is_allowed(subject, grants):
    """Whether a bot may publish there."""
    confirm = CONFIRM.fullmatch(subject)
    if confirm is not None:
        grant = grants.get(confirm[2])
        return grant is not None and grant["bucket"] == int(confirm[1])
    return HARMLESS.fullmatch(subject) is not None


def _is_in_contract(grant, at_ns, grants):
    """Whether this grant was sent, in contract, and for this request."""
    sent = grants.get(grant.grant_id)
    is_same = sent is not None and all(
        getattr(grant, field) == sent[field] for field in ("shard_id", "bucket", "request_id", "max_concurrency")
    )
    return is_same and at_ns <= grant.use_by_ns <= at_ns + USE_WITHIN_MAX_NS
