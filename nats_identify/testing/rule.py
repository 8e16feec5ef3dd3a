"""A rule that any queue can be held to, and what is found where it is broken. It plays nothing itself.

The rules stand in `nats_identify.testing.conformance`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from nats_identify.queue import Queue
from nats_identify.testing.queue_harness import QueueHarness, RuleBrokenError

QueueFactory = Callable[[int], AbstractAsyncContextManager[Queue]]
"""Takes max_concurrency; yields a queue whose every bucket is idle, with a small window."""

WINDOW_S: Final = 0.3
"""Long enough that a machine seldom stalls for it, short enough that all checks take seconds."""

TIMEOUT_S: Final = 30.0
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
    play: Callable[[QueueHarness], Awaitable[None]]

    def __str__(self) -> str:
        return self.name

    async def __call__(
        self, make_queue: QueueFactory, *, window_s: float = WINDOW_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Check one fresh queue.

        Args:
            make_queue: as `QueueFactory` says.
            window_s: the window that its queues run with, in seconds.
            timeout_s: a check that takes longer, in seconds, has found a queue that hangs.

        Raises:
            NonConformingError: the queue breaks the rule.
        """
        async with make_queue(self.max_concurrency) as queue:
            harness = QueueHarness(queue, self.max_concurrency, window_s)
            try:
                async with asyncio.timeout(timeout_s):
                    await self.play(harness)
            except TimeoutError:
                seen = f"for {timeout_s:g} s this check waited in vain for {harness.waits_for}"
                raise NonConformingError(self._finding(seen)) from None
            except RuleBrokenError as broken:
                raise NonConformingError(self._finding(str(broken))) from None
            finally:
                await harness.clear()

    def _finding(self, seen: str) -> Finding:
        return Finding(self.name, self.reason, seen, self.advice)


def rule(
    *, reason: str, advice: str, max_concurrency: int = 1
) -> Callable[[Callable[[QueueHarness], Awaitable[None]]], Check]:
    """Make a rule of the function that plays it: it raises `RuleBrokenError`, and is named after what must hold."""

    def make(play: Callable[[QueueHarness], Awaitable[None]]) -> Check:
        return Check(getattr(play, "__name__", ""), reason, advice, max_concurrency, play)

    return make
