"""Queues that each break one rule, on purpose: what the conformance suite is worth. None is an example."""

import asyncio
import itertools
from contextlib import suppress
from dataclasses import replace

from nats_identify import Grant, LocalQueue, Turn
from nats_identify.clock import now_ns
from tests.view import buckets_of


class BornOver(LocalQueue):
    """Counts the end of its grants on a clock of its own."""

    async def acquire(self, shard_id, **options) -> Grant:
        return replace(await super().acquire(shard_id, **options), use_by_ns=0)


class Ticking(LocalQueue):
    """Looks at its line once a window, even where nothing is to be waited for."""

    async def acquire(self, shard_id, **options) -> Grant:
        await asyncio.sleep(self._timing.window_ns / 1e9)  # the fault
        return await super().acquire(shard_id, **options)


class OneLineForAll(LocalQueue):
    """Knows no buckets."""

    async def acquire(self, shard_id, **options) -> Grant:
        return await super().acquire(shard_id * buckets_of(self._schedule), **options)


class WindowAtGrant(LocalQueue):
    """Starts the window when the turn is granted."""

    async def acquire(self, shard_id, **options) -> Grant:
        grant = await super().acquire(shard_id, **options)
        super().identified(grant)
        return grant

    def identified(self, grant) -> None:
        """Say it too late."""


class FailsOpen(LocalQueue):
    """Lets a shard pass after some waiting: in doubt it goes ahead."""

    async def acquire(self, shard_id, **options) -> Grant:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timing.window_ns / 2e9):
                return await super().acquire(shard_id, **options)
        m = buckets_of(self._schedule)
        return Grant(shard_id, f"open-{shard_id}", "", shard_id % m, m, now_ns() + self._timing.use_within_ns)


class DeafToIdentified(LocalQueue):
    """Keeps the bucket of a used turn shut as long as it can."""

    def identified(self, grant) -> None:
        """Say nothing."""


class LastComeFirstServed(LocalQueue):
    """Serves the newest first."""

    async def acquire(self, shard_id, **options) -> Grant:
        self._newest = min(10, getattr(self, "_newest", -10) + 1)
        return await super().acquire(shard_id, **{**options, "priority": self._newest})


class BlindToPriority(LocalQueue):
    """Serves by arrival alone."""

    async def acquire(self, shard_id, **options) -> Grant:
        return await super().acquire(shard_id, **{**options, "priority": 0})


class DeclineCostsAWindow(LocalQueue):
    """Takes a turn that was not used for a used one."""

    def decline(self, grant) -> None:
        self.identified(grant)


class CancelledStaysInLine(LocalQueue):
    """Lets a cancelled wait swallow its turn."""

    async def acquire(self, shard_id, **options) -> Grant:
        return await asyncio.shield(asyncio.ensure_future(super().acquire(shard_id, **options)))


class DropsACrossedGrant(LocalQueue):
    """Cancels what still waits, and forgets what was granted a moment before."""

    async def acquire(self, shard_id, **options) -> Grant:
        request = asyncio.ensure_future(super().acquire(shard_id, **options))
        try:
            await asyncio.wait({request})
        except asyncio.CancelledError:
            request.cancel()  # does nothing where the grant is there already
            raise
        return request.result()


class KeepsTheTurnOfAFailedBlock(LocalQueue):
    """Takes an exception before IDENTIFY for an IDENTIFY."""

    def turn(self, *arguments, **options):
        turn = super().turn(*arguments, **options)
        turn.__class__ = _LeftAlone
        return turn


class _LeftAlone(Turn):
    async def __aexit__(self, *_) -> None:
        """Leave the request alone."""


class LateGoesToTheEnd(LocalQueue):
    """Makes a late shard stand at the end of the line."""

    async def acquire(self, shard_id, *, replaces=None, **options) -> Grant:
        if replaces is not None:
            self.decline(replaces)
        return await super().acquire(shard_id, **options)


class OneAskingForAShard(LocalQueue):
    """Takes two requests of one shard for the same."""

    async def acquire(self, shard_id, **options) -> Grant:
        asked = self.__dict__.setdefault("_asked", {})
        if shard_id not in asked:
            asked[shard_id] = asyncio.ensure_future(super().acquire(shard_id, **options))
        return await asyncio.shield(asked[shard_id])


class ForgetsOneOfMany(LocalQueue):
    """Loses the wakeup of its tenth request."""

    async def acquire(self, shard_id, **options) -> Grant:
        self._counted = getattr(self, "_counted", itertools.count(1))
        if next(self._counted) == 10:
            await asyncio.Event().wait()
        return await super().acquire(shard_id, **options)
