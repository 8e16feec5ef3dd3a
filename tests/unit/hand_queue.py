"""A queue that is moved by hand: it grants when a test says so, and keeps what it was told. It knows no rule."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from nats_identify import Grant, Progress, Queue, Reason
from nats_identify.queue import OnProgress

FOREVER_NS = 2**62


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until this holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # one helper for any condition, with a deadline
            await asyncio.sleep(0)


@dataclass
class Asked:
    """One call of `acquire`."""

    shard_id: int
    priority: int
    on_progress: OnProgress | None
    replaces: Grant | None
    granted: asyncio.Future[Grant] = field(default_factory=asyncio.Future)


class HandQueue(Queue):
    """Attributes: ``asked``, the calls of acquire; ``said``, what was told of grants, with their names."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.said: list[tuple[str, str]] = []
        self.cancelled = 0

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,
    ) -> Grant:
        asked = Asked(shard_id, priority, on_progress, replaces)
        self.asked.append(asked)
        try:
            return await asked.granted
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def identified(self, grant: Grant) -> None:
        self.said.append(("identified", grant.grant_id))

    def decline(self, grant: Grant) -> None:
        self.said.append(("declined", grant.grant_id))

    def ready(self, grant: Grant) -> None:
        self.said.append(("ready", grant.grant_id))

    def rejected(self, grant: Grant) -> None:
        self.said.append(("rejected", grant.grant_id))

    async def grant(self, name: str, *, use_by_ns: int = FOREVER_NS) -> None:
        """Grant the newest request, once it has arrived."""
        await until(lambda: bool(self.asked) and not self.asked[-1].granted.done())
        self.asked[-1].granted.set_result(Grant(self.asked[-1].shard_id, name, "r", 0, 1, use_by_ns))

    async def progress(self, *, near: bool) -> None:
        """Tell the newest request where it stands, once it has arrived."""
        await until(lambda: bool(self.asked))
        tell = self.asked[-1].on_progress
        assert tell is not None
        tell(Progress(1, 2_000, Reason.WINDOW, near))
