"""Which event loop and which process a queue works in. It moves no queue; it reports when one must start again."""

import asyncio
import os
from enum import Enum
from typing import Any, Final

from nats.aio.client import Client

_INHERITED: Final[list[object]] = []
"""What a forked child keeps of its parent: see `let_go`."""


class Move(Enum):
    """What became of the event loop since a queue was last used."""

    STAYED = "stayed"
    BEGUN = "begun"  # the first use
    NEW_LOOP = "new_loop"  # the former loop has ended or stands still
    FORKED = "forked"  # this is a child of the process that used the queue


class Home:
    """The event loop that a queue works in.

    One loop after the other may have the queue, and so may a forked child; two that run at once may not.
    """

    def __init__(self) -> None:
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process

    def enter(self) -> Move:
        """Make the running event loop the queue's own.

        Returns:
            Whether it was that before. If not, what belongs to the former one must be dropped now.

        Raises:
            RuntimeError: no event loop runs here, or the queue's own runs elsewhere.
        """
        loop = asyncio.get_running_loop()
        was_used = bool(self._loops)
        process = os.getpid()
        owner = self._loops.setdefault(process, loop)  # atomic: two threads cannot both be first
        if owner is loop:
            move = Move.STAYED if was_used and process == self._last() else Move.FORKED if was_used else Move.BEGUN
            if move is Move.FORKED:
                self._loops = {process: loop}
            return move
        if owner.is_running():
            raise RuntimeError(_ELSEWHERE)
        self._loops[process] = loop
        return Move.NEW_LOOP

    def is_here(self) -> bool:
        """Whether the running event loop is the queue's own: what was granted elsewhere is not decided here.

        Raises:
            RuntimeError: the queue's own loop runs in another thread, which this one must not disturb.
        """
        owner = self._loops.get(os.getpid())
        if owner is None:
            return False
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if owner is not here and owner.is_running():
            raise RuntimeError(_ELSEWHERE)
        return owner is here

    def _last(self) -> int:
        return next(iter(self._loops))


_ELSEWHERE: Final = (
    "this queue is in use in another event loop, which runs in another thread: one queue object works in one event "
    "loop at a time. Use it there (asyncio.run_coroutine_threadsafe), or make a NatsQueue in each"
)


def cancel(task: "asyncio.Task[Any] | None", move: Move) -> None:
    """Cancel a task of the former event loop, where that can still take it in: a closed loop runs nothing again."""
    if task is not None and move is not Move.FORKED and not task.done() and not task.get_loop().is_closed():
        task.cancel()


def belongs_here(client: Client) -> bool:
    """Whether a NATS client works in the running event loop, as far as that can be known."""
    task = client._reading_task  # noqa: SLF001  # nats-py names no loop
    return task is None or task.get_loop() is asyncio.get_running_loop()


def let_go(client: Client, move: Move) -> None:
    """Drop a NATS client of a former event loop or of the parent process, and its socket.

    Its transport must not be closed: that needs its loop, and the event loop of a forked child shares the parent's
    selector, from which closing would remove the parent's socket. So only the file descriptor is replaced, and a child
    keeps the objects, lest the garbage collection close them.
    """
    task = client._reading_task  # noqa: SLF001  # nats-py names no loop
    if move is not Move.FORKED and task is not None and not task.get_loop().is_closed():
        loop = task.get_loop()
        loop.call_soon(lambda: loop.create_task(client.close()))  # if that loop ever runs again
        return
    if move is Move.FORKED:
        _INHERITED.append(client)
    if task is not None and task.get_loop().is_closed() and not isinstance(task.get_loop(), asyncio.BaseEventLoop):
        return  # uvloop closes what it has opened, and the number of the file descriptor may be another's by now
    writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001  # nats-py shows no socket
    connected = None if writer is None else writer.get_extra_info("socket")
    if connected is not None and connected.fileno() >= 0:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nothing, connected.fileno(), inheritable=False)
        os.close(nothing)
