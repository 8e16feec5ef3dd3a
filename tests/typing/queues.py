"""The types of the front door, as the code of a bot meets them: mypy fails where one changes."""

from collections.abc import Awaitable, Callable
from typing import Any, assert_never, assert_type

from nats_identify import (
    Grant,
    LargeBotQueue,
    LocalQueue,
    NatsQueue,
    OnProgress,
    Progress,
    Queue,
    QueueClosedError,
    Reason,
    Shards,
    Turn,
    WrongEnvironmentError,
    __version__,
    queue_from_environment,
    shard_options,
    shards_of_pod,
)


class ThreeMethods(Queue):
    """A queue of one's own needs these three methods, and no more."""

    async def acquire(
        self,
        shard_id: int,
        *,
        priority: int = 0,
        on_progress: OnProgress | None = None,
        replaces: Grant | None = None,
    ) -> Grant:
        """See `Queue.acquire`."""
        raise QueueClosedError

    def identified(self, grant: Grant) -> None:
        """See `Queue.identified`."""

    def decline(self, grant: Grant) -> None:
        """See `Queue.decline`."""


def each_is_a_queue() -> list[Queue]:
    """Every queue of the library, and one's own, fits where a `Queue` is wanted."""
    return [NatsQueue.connect("nats://127.0.0.1:4222"), LocalQueue(), LargeBotQueue("token"), ThreeMethods()]


def each_is_made() -> None:
    """What makes a queue, and what says which shards are ours."""
    assert_type(NatsQueue.connect(["nats://127.0.0.1:4222"], prefix="identify"), NatsQueue)
    assert_type(LocalQueue(2, session_total=None), LocalQueue)
    assert_type(queue_from_environment(), NatsQueue | LocalQueue)
    assert_type(shard_options(), dict[str, Any])
    assert_type(shards_of_pod(), Shards | None)
    assert_type(__version__, str)


async def each_form_of_a_turn(queue: Queue, send: Callable[[], Awaitable[None]]) -> None:
    """A turn, in its short and in its full form."""
    async with queue.turn(0) as turn:
        assert_type(turn, Turn)
    async with queue.turn(0, priority=1, near=True, on_progress=tell) as turn:
        assert_type(await turn.near(), None)
        assert_type(await turn.granted(), Grant)
        await send()
        turn.identified()
        turn.ready()
        turn.rejected()
        turn.decline()
        assert_type(turn.queue, Queue)
        assert_type(turn.shard_id, int)
        assert_type(turn.priority, int)
        assert_type(turn.progress, Progress | None)


async def a_queue_is_closed(own: ThreeMethods, shared: NatsQueue) -> None:
    """Each is closed by its block, or by hand; the block's type is the queue's own."""
    async with own as same, shared as entered:
        assert_type(same, ThreeMethods)
        assert_type(entered, NatsQueue)
    assert_type(await own.close(), None)


async def a_grant(queue: Queue) -> None:
    """What a grant has, and what replaces one that came too late."""
    grant = await queue.acquire(0)
    assert_type(grant, Grant)
    assert_type(await queue.acquire(0, priority=1, on_progress=None, replaces=grant), Grant)
    assert_type(grant.shard_id, int)
    assert_type(grant.grant_id, str)
    assert_type(grant.request_id, str)
    assert_type(grant.bucket, int)
    assert_type(grant.max_concurrency, int)
    assert_type(grant.use_by_ns, int)
    assert_type(grant.waited_ms, int)
    assert_type(grant.remaining, int | None)


def tell(progress: Progress) -> None:
    """What a `Progress` has."""
    assert_type(progress.position, int | None)
    assert_type(progress.eta_ms, int | None)
    assert_type(progress.reason, Reason)
    assert_type(progress.near, bool)


def advice(reason: Reason) -> str:
    """All the reasons there are: one more, or one less, and mypy says so here."""
    match reason:
        case Reason.WINDOW | Reason.SESSION_LIMIT | Reason.CRASH_LOOP | Reason.LIMITS_UNKNOWN | Reason.PAUSED:
            return "wait"
        case Reason.NO_ANSWER | Reason.OVERLOADED | Reason.TIMEOUT | Reason.ENDED:
            return "look at NATS and at the coordinators"
        case Reason.WRONG_BUCKET | Reason.BAD_REQUEST | Reason.UNKNOWN:
            return "update this library, or the coordinators"
        case _:
            assert_never(reason)


def a_mistake_is_one_of_the_environment() -> None:
    """It is a ValueError, too."""
    assert_type(WrongEnvironmentError("NATS_URL: …").args, tuple[Any, ...])
    kind: type[ValueError] = WrongEnvironmentError
    assert kind
