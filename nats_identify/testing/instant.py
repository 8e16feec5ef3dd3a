"""A queue that grants at once, for a bot's own tests; it has no limits and makes no request."""

from collections import deque
from typing import Final
from uuid import uuid4

from nats_identify.clock import NS_PER_S, Clock, now_ns
from nats_identify.loops import Home
from nats_identify.queue import Grant, OnProgress, Queue, QueueClosedError, check_request

USE_WITHIN_NS: Final = 5 * NS_PER_S
"""As long as a coordinator allows by default."""

REQUESTS_KEPT: Final = 10_000


class InstantQueue(Queue):
    """Grants every request at once, and keeps its outcome.

    Attributes:
        granted: the newest grants, oldest first.
        outcomes: the newest answers, as ``(outcome, grant_id)``: ``identified``, ``declined``, ``ready``
            or ``rejected``.
    """

    def __init__(self, max_concurrency: int = 1, *, clock: Clock = now_ns) -> None:
        self.granted: deque[Grant] = deque(maxlen=REQUESTS_KEPT)
        self.outcomes: deque[tuple[str, str]] = deque(maxlen=REQUESTS_KEPT)
        self._max_concurrency = max_concurrency
        self._clock = clock
        self._home = Home()
        self._is_closed = False

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,
    ) -> Grant:
        """Return a grant without waiting; so ``priority`` and ``on_progress`` have nothing to do.

        Raises:
            as `Queue.acquire` does.
        """
        check_request(shard_id, priority)
        if self._is_closed:
            raise QueueClosedError
        self._home.enter()
        if replaces is not None:
            self.decline(replaces)
        grant = Grant(
            shard_id=shard_id,
            grant_id=uuid4().hex,
            request_id=uuid4().hex if replaces is None else replaces.request_id,
            bucket=shard_id % self._max_concurrency,
            max_concurrency=self._max_concurrency,
            use_by_ns=self._clock() + USE_WITHIN_NS,
        )
        self.granted.append(grant)
        return grant

    async def close(self) -> None:
        """Grant nothing any more."""
        self._is_closed = True

    def identified(self, grant: Grant) -> None:
        """Note it."""
        self.outcomes.append(("identified", grant.grant_id))

    def decline(self, grant: Grant) -> None:
        """Note it."""
        self.outcomes.append(("declined", grant.grant_id))

    def ready(self, grant: Grant) -> None:
        """Note it."""
        self.outcomes.append(("ready", grant.grant_id))

    def rejected(self, grant: Grant) -> None:
        """Note it."""
        self.outcomes.append(("rejected", grant.grant_id))
