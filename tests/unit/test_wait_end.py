"""How `nats-identify wait` ends with a grant in hand, on a queue that is moved by hand."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from nats_identify.cli.wait import ExitStatus, WaitOptions, run_wait
from nats_identify.clock import NS_PER_S
from tests.unit.hand_queue import HandQueue

WITHIN_S = 2.0
STEPS = 40
"""More steps of the event loop than a wait takes from its grant to its end."""


class SlowQueue(HandQueue):
    """It takes its time to close, as while NATS is away."""

    def __init__(self, on_close: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._on_close = on_close

    async def close(self) -> None:
        self._on_close()
        for _ in range(STEPS):
            await asyncio.sleep(0)


@dataclass
class Said:
    """What the command printed on standard output."""

    lines: list[str] = field(default_factory=list)

    @property
    def has_granted(self) -> bool:
        return any("may identify" in line for line in self.lines)


def begin(queue: Any, said: Said) -> asyncio.Task[int]:
    options = WaitOptions(shard_id=3, priority=0, within_s=WITHIN_S, timeout_s=None)
    console = Console(file=StringIO())
    return asyncio.ensure_future(run_wait(queue, options, as_json=False, out=said.lines.append, console=console))


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds that the command reads: one after the other, and the last again and again."""
    reads_s = [0.0]
    monkeypatch.setattr(
        "nats_identify.cli.wait.now_ns", lambda: int((reads_s.pop(0) if reads_s[1:] else reads_s[0]) * NS_PER_S)
    )
    return reads_s


async def test_closing_takes_nothing_from_a_grant(clock):
    queue, said = SlowQueue(lambda: clock.append(8.0)), Said()
    waiting = begin(queue, said)
    await queue.grant("g1", use_by_ns=5 * NS_PER_S)
    assert await waiting == ExitStatus.GRANTED
    assert said.lines == ["shard 3 may identify within 5.0 s"]
    assert 5.0 - clock[-1] >= WITHIN_S, "it ends with the time that it said"
    assert queue.said == []


async def test_a_grant_that_runs_out_before_it_is_reported_is_declined(clock):
    queue, said = SlowQueue(), Said()
    waiting = begin(queue, said)
    clock.append(4.0)  # the second look
    await queue.grant("g1", use_by_ns=5 * NS_PER_S)
    assert await waiting == ExitStatus.REFUSED
    assert not said.has_granted
    assert queue.said == [("declined", "g1")]


@pytest.mark.usefixtures("clock")
async def test_a_signal_gives_the_turn_back_or_comes_after_the_end():
    ends = set()
    for steps in range(STEPS):
        queue, said = SlowQueue(), Said()
        waiting = begin(queue, said)
        await queue.grant("g1", use_by_ns=5 * NS_PER_S)
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        is_given_back = queue.said == [("declined", "g1")] or queue.cancelled == 1
        assert said.has_granted is not waiting.cancelled(), f"after {steps} steps"
        assert is_given_back is waiting.cancelled(), f"after {steps} steps"
        ends.add(waiting.cancelled())
    assert ends == {True, False}, "signals came before the end and after it"
