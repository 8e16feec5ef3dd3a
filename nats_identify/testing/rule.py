"""A rule that any queue can be held to, and what is found where it is broken. It plays nothing itself.

The rules stand in `nats_identify.testing.conformance`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from nats_identify.queue import Queue
from nats_identify.testing.bench import Bench, RuleBrokenError

QueueFactory = Callable[[int], AbstractAsyncContextManager[Queue]]
"""Takes max_concurrency; yields a queue whose every bucket is idle, with a small window."""

WINDOW_S: Final = 0.3
"""Long enough that a machine seldom stalls for it, short enough that all checks take seconds."""

PATIENCE_S: Final = 30.0
"""A check that takes longer hangs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule.

    Attributes:
        rule: its name.
        reason: why a bot needs it.
        seen: what the queue did.
        advice: where to look.
    """

    rule: str
    reason: str
    seen: str
    advice: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.seen}\n  why it matters: {self.reason}\n  what to do: {self.advice}"


class NonConformingError(AssertionError):
    """A queue breaks a rule; `finding` says which, and what to do."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, to be awaited: ``await rule(make_queue)``.

    Attributes:
        name: the rule, as a sentence with underscores.
        reason: why a bot needs it.
        advice: where to look when it is broken.
        max_concurrency: the buckets that it needs.
    """

    name: str
    reason: str
    advice: str
    max_concurrency: int
    play: Callable[[Bench], Awaitable[None]]

    def __str__(self) -> str:
        return self.name

    async def __call__(
        self, make_queue: QueueFactory, *, window_s: float = WINDOW_S, patience_s: float = PATIENCE_S
    ) -> None:
        """Check one fresh queue.

        Args:
            make_queue: as `QueueFactory` says.
            window_s: the window that its queues run with, in seconds.
            patience_s: a check that takes longer, in seconds, has found a queue that hangs.

        Raises:
            NonConformingError: the queue breaks the rule.
        """
        async with make_queue(self.max_concurrency) as queue:
            bench = Bench(queue, self.max_concurrency, window_s)
            try:
                async with asyncio.timeout(patience_s):
                    await self.play(bench)
            except TimeoutError:
                seen = f"for {patience_s:g} s this check waited in vain for {bench.waits_for}"
                raise NonConformingError(self._finding(seen)) from None
            except RuleBrokenError as broken:
                raise NonConformingError(self._finding(str(broken))) from None
            finally:
                await bench.clear()

    def _finding(self, seen: str) -> Finding:
        return Finding(self.name, self.reason, seen, self.advice)


def rule(
    *, reason: str, advice: str, max_concurrency: int = 1
) -> Callable[[Callable[[Bench], Awaitable[None]]], Check]:
    """Make a rule of the function that plays it: it raises `RuleBrokenError`, and is named after what must hold."""

    def make(play: Callable[[Bench], Awaitable[None]]) -> Check:
        return Check(getattr(play, "__name__", ""), reason, advice, max_concurrency, play)

    return make
