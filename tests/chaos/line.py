"""A line of real requests at one bucket, in which somebody is always due. It notes who granted, and judges nothing."""

import asyncio
import contextlib
from dataclasses import dataclass
from itertools import count

from nats_identify import NatsQueue
from nats_identify.clock import NS_PER_MS, NS_PER_S, now_ns
from tests.chaos.judge import WatchedLedger
from tests.processes import until

ALWAYS_WAITING = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """A grant as its shard saw it; ``late_ms`` counts from when its bucket opened, None for the first."""

    at_ns: int
    grant_id: str
    late_ms: float | None


class Line:
    """Shards that ask one after the other, each identifying at once: the bucket opens a window after each.

    ``ledger`` knows which process made a grant.
    """

    def __init__(self, queue: NatsQueue, ledger: WatchedLedger, *, hold_s: float):
        self._ledger = ledger
        self.turns: list[Turn] = []
        self.due_ns: int | None = None
        self._queue = queue
        self._hold_ns = round(hold_s * NS_PER_S)
        self._shard_ids = count()

    async def _wait_in_line(self):
        while True:
            grant = await self._queue.acquire(next(self._shard_ids))
            at_ns = now_ns()
            late_ms = None if self.due_ns is None else (at_ns - self.due_ns) / NS_PER_MS
            self.turns.append(Turn(at_ns, grant.grant_id, late_ms))
            self._queue.identified(grant)
            self.due_ns = at_ns + self._hold_ns

    @contextlib.asynccontextmanager
    async def moving(self):
        """Keep the line moving during the block."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._wait_in_line()) for _ in range(ALWAYS_WAITING)]
            yield self
            for task in tasks:
                task.cancel()

    async def until_turns(self, more: int):
        """Wait for so many turns from now."""
        wanted = len(self.turns) + more

        async def has_moved():
            return len(self.turns) >= wanted

        await until(has_moved, f"{more} more turns")

    async def granter_of(self, turn: Turn) -> str:
        """Return the process that made this grant."""

        async def look():
            return self._ledger.made_by.get(turn.grant_id)

        return await until(look, "the grant is seen in the ledger")

    async def granters_since(self, since_ns: int) -> set[str]:
        """Return the processes that made the grants since then."""
        return {await self.granter_of(turn) for turn in list(self.turns) if turn.at_ns > since_ns}

    async def until_granted_by_another(self, instance: str, since_ns: int):
        """Return the first turn since then that another process granted."""

        async def look():
            later = [turn for turn in self.turns if turn.at_ns > since_ns]
            made_by = self._ledger.made_by
            return next((turn for turn in later if made_by.get(turn.grant_id, instance) != instance), None)

        return await until(look, "a grant by another coordinator")

    async def until_due_in(self, lead_ms: float):
        """Return a little before the bucket opens."""
        await self.until_turns(1)
        assert self.due_ns is not None
        ahead_ns = self.due_ns - now_ns() - round(lead_ms * NS_PER_MS)
        await asyncio.sleep(max(0, ahead_ns) / NS_PER_S)  # the fault is to meet a request that is just falling due
