"""A program that uses one queue object in several event loops, threads and processes; it prints what came of each.

``python -m tests.integration.wanderer KIND SCENARIO ADDRESS [uvloop]``: one JSON object in a line, for each step.
"""

import asyncio
import json
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from nats_identify import Grant, LargeBotQueue, LocalQueue, NatsQueue, Queue
from nats_identify.testing import InstantQueue

STEP_WITHIN_S = 30.0


def make(kind: str, address: str) -> Queue:
    quick: dict[str, Any] = {"window_s": 0.4, "margin_s": 0.05, "use_within_s": 1}
    match kind:
        case "NatsQueue":
            return NatsQueue.connect(address)
        case "LargeBotQueue":
            return LargeBotQueue("token", api_url=address, **quick)
        case "LocalQueue":
            return LocalQueue(4, **quick)
        case _:
            return InstantQueue(4)


def say(step: str, **facts: Any) -> None:
    print(json.dumps({"step": step, "process": os.getpid(), **facts}), flush=True)  # noqa: T201  # this is the report


async def start(queue: Queue, shard_id: int) -> Grant:
    """Use a turn."""
    async with asyncio.timeout(STEP_WITHIN_S), queue.turn(shard_id) as turn:
        return await turn.granted()


async def attempt(step: str, use: Callable[[], Awaitable[Any]]) -> None:
    """Say what comes of this."""
    try:
        async with asyncio.timeout(STEP_WITHIN_S):
            said = await use()
        say(step, request_id=said.request_id if isinstance(said, Grant) else None)
    except Exception as error:
        say(step, error=type(error).__name__, message=str(error))


def run_in_a_thread(step: str, use: Callable[[], Awaitable[Any]]) -> None:
    thread = threading.Thread(target=asyncio.run, args=(attempt(step, use),))
    thread.start()
    thread.join()


def fork(child: Callable[[], None]) -> None:
    """Run this in a forked child, and wait for its end."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        try:
            child()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.waitpid(process, 0)


def one_loop_after_the_other(queue: Queue) -> None:
    for number in range(3):
        asyncio.run(attempt(f"loop {number}", partial(start, queue, number)))
    asyncio.run(attempt("close", queue.close))
    asyncio.run(attempt("closed", lambda: queue.acquire(3)))


def a_fork_after_use(queue: Queue) -> None:
    asyncio.run(attempt("parent", lambda: start(queue, 0)))
    fork(lambda: asyncio.run(attempt("child", lambda: start(queue, 1))))
    asyncio.run(attempt("parent again", lambda: start(queue, 2)))


def a_fork_while_it_waits(queue: Queue) -> None:
    async def parent() -> None:
        held = await queue.acquire(0)
        waiting = asyncio.create_task(queue.acquire(4))  # the bucket of shard 0
        await asyncio.sleep(0.2)  # for the request to leave; too early only makes the test weaker

        async def child() -> None:
            queue.decline(held)
            queue.rejected(held)
            await attempt("child", lambda: start(queue, 1))
            await attempt("child close", queue.close)

        say("parent", request_id=held.request_id)
        fork(lambda: asyncio.run(child()))
        queue.identified(held)
        await attempt("parent waited", lambda: waiting)
        await attempt("parent again", lambda: start(queue, 2))
        await queue.close()  # what was said is sent before the loop ends

    asyncio.run(parent())


def two_loops_at_once(queue: Queue) -> None:
    async def use() -> None:
        held = await queue.acquire(0)
        uses = {
            "acquire": lambda: queue.acquire(1),
            "turn": lambda: start(queue, 1),
            "turn near": lambda: queue.turn(1, near=True).__aenter__(),
            "identified": lambda: _async(queue.identified, held),
            "close": queue.close,
        }
        for step, elsewhere in uses.items():
            await asyncio.to_thread(run_in_a_thread, step, elsewhere)
        queue.identified(held)
        await attempt("here", lambda: start(queue, 2))

    asyncio.run(use())


async def _async(say: Callable[[Grant], None], grant: Grant) -> None:
    say(grant)


def main() -> None:
    kind, scenario, address, *options = sys.argv[1:]
    if options == ["uvloop"]:
        import uvloop  # noqa: PLC0415  # only where it is asked for

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    scenarios = (one_loop_after_the_other, a_fork_after_use, a_fork_while_it_waits, two_loops_at_once)
    {one.__name__: one for one in scenarios}[scenario](make(kind, address))


if __name__ == "__main__":
    main()
