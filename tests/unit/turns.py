"""Goes through a turn as a shard would, for the tests of Turn. It asserts nothing."""

import asyncio
from collections.abc import Awaitable, Callable

from nats_identify import Turn
from tests.unit.hand_queue import HandQueue

Body = Callable[[Turn], Awaitable[object]]


class SocketBrokeError(Exception):
    """What happens to connections."""


async def nothing(_turn: Turn) -> None:
    """An empty block."""


async def fail(_turn: Turn) -> None:
    raise SocketBrokeError


def enter(queue: HandQueue, body: Body = nothing, *, near: bool = False) -> asyncio.Task[None]:
    """Go through a turn of shard 3 in a task of its own."""

    async def go() -> None:
        async with queue.turn(3, near=near) as turn:
            await body(turn)

    return asyncio.create_task(go())
