"""``nats-identify wait``: waits for one shard's turn and ends, so that a shell can start the bot. It sends no IDENTIFY.

What it answers to the grant: nothing. IDENTIFY is sent later, by a process of which this one sees nothing, and perhaps
never. `identified` now would start the window before IDENTIFY has left, so that the next shard would be too early.
Unanswered, the grant holds its bucket for the full time, which is long enough for an IDENTIFY until the grant's end.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic
from typing import Any, Final

from rich.console import Console
from rich.status import Status

from nats_identify.cli.when import show_ms
from nats_identify.client.nats_queue import NatsQueue
from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.printable import printable
from nats_identify.queue import Grant, Progress
from nats_identify.reason import Reason

LATE_MAX: Final = 5
"""Grants in a row with less time than is wanted: then the coordinators' settings leave too little."""

LINE_EVERY_S: Final = 1.0
"""The shortest time between two lines of progress, where there is no terminal."""

_WAITS_FOR: Final = {
    Reason.WINDOW: "its window",
    Reason.SESSION_LIMIT: "the next day: no session start is left",
    Reason.CRASH_LOOP: "the end of its crash loop's delay",
    Reason.LIMITS_UNKNOWN: "Discord's limits, which are not known",
    Reason.PAUSED: "the end of a pause by an operator",
    Reason.NO_ANSWER: "NATS or a coordinator to answer",
    Reason.OVERLOADED: "room in the queue",
}


class ExitStatus(IntEnum):
    """The exit status of the command, beside 128 and the number of the signal that ended it."""

    GRANTED = 0
    FAILED = 1
    BAD_SETTINGS = 2
    REFUSED = 3
    TIMED_OUT = 4


class RefusedError(Exception):
    """This wait cannot end well; the message says why, and who must do what."""


@dataclass(frozen=True, slots=True)
class WaitOptions:
    """What is waited for.

    Attributes:
        shard_id: the shard, 0 or more.
        priority: -10 … 10.
        within_s: seconds that the caller needs from the end of this command to its IDENTIFY.
        timeout_s: seconds after which it is given up, None for never.
    """

    shard_id: int
    priority: int
    within_s: float
    timeout_s: float | None


class Report:
    """Shows the wait: a moving line on a terminal, a line for each change elsewhere; on standard error.

    Args:
        shard_id: the shard.
        console: of standard error.
    """

    def __init__(self, shard_id: int, console: Console) -> None:
        self._shard_id = shard_id
        self._console = console
        self._status: Status | None = None
        self._shown: tuple[int | None, Reason] | None = None
        self._shown_at_s = -LINE_EVERY_S
        self._bridge = _Bridge(self.line)

    def __enter__(self) -> "Report":
        logging.getLogger("nats_identify").addHandler(self._bridge)
        if self._console.is_terminal:
            self._status = self._console.status(f"shard {self._shard_id} asks for its turn")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("nats_identify").removeHandler(self._bridge)
        if self._status is not None:
            self._status.stop()

    def progress(self, progress: Progress) -> None:
        """Show it, where it is news."""
        waits_for = _WAITS_FOR.get(progress.reason, printable(progress.reason))
        place = "" if progress.position is None else f" at position {progress.position}"
        eta = "" if progress.eta_ms is None else f", its turn in {show_ms(progress.eta_ms)}"
        text = f"shard {self._shard_id} waits{place} for {waits_for}{eta}"
        news = (progress.position, progress.reason)
        if self._status is not None:
            self._status.update(text)
        elif news != self._shown and monotonic() - self._shown_at_s >= LINE_EVERY_S:
            self._shown, self._shown_at_s = news, monotonic()
            self.line(text)

    def line(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Bridge(logging.Handler):
    """Shows what the queue logs between the lines of progress."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


async def wait_for_turn(queue: NatsQueue, options: WaitOptions, report: Report) -> Grant:
    """Return a grant with ``within_s`` left; a cancellation withdraws the request, or declines the grant.

    Raises:
        RefusedError: the coordinators refuse the request for good, or their grants leave too little time.
        TimeoutError: it took longer than ``timeout_s``.
    """
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def progress(progress: Progress) -> None:
        report.progress(progress)
        if progress.reason is Reason.BAD_REQUEST and not refused.done():
            refused.set_exception(RefusedError("the coordinators cannot read the request; update the older of the two"))

    acquiring = asyncio.ensure_future(_acquire(queue, options, progress))
    first_of: set[asyncio.Future[Any]] = {acquiring, refused}
    try:
        async with asyncio.timeout(options.timeout_s):
            await asyncio.wait(first_of, return_when=asyncio.FIRST_COMPLETED)
        if refused.done():
            refused.result()
        return acquiring.result()
    except BaseException:
        acquiring.cancel()
        await asyncio.wait({acquiring})
        if not acquiring.cancelled() and acquiring.exception() is None:
            queue.decline(acquiring.result())
        raise
    finally:
        refused.cancel()


async def _acquire(queue: NatsQueue, options: WaitOptions, progress: Callable[[Progress], None]) -> Grant:
    grant: Grant | None = None
    for _ in range(LATE_MAX):
        grant = await queue.acquire(options.shard_id, priority=options.priority, on_progress=progress, replaces=grant)
        if _left_s(grant) >= options.within_s:
            return grant
    assert grant is not None, "there were some"  # noqa: S101  # for mypy
    queue.decline(grant)
    message = (
        f"{LATE_MAX} grants left less than {options.within_s:g} s; raise IDENTIFY_USE_WITHIN of the coordinators to "
        "more than twice that, or lower --within"
    )
    raise RefusedError(message)


async def run_wait(
    queue: NatsQueue, options: WaitOptions, *, as_json: bool, out: Callable[[str], None], console: Console
) -> int:
    """Wait, say what became of it, and return the exit status; a cancellation withdraws the request.

    With a grant in hand it waits for nothing more, not even for the queue to close. That takes seconds of the grant
    while NATS is away, and once the connection is closed a turn can be given back no more. The end of the process
    closes it.

    Args:
        queue: closed in the end, but for a turn that is granted.
        options: what is waited for.
        as_json: whether the last line is JSON.
        out: prints a line on standard output.
        console: of standard error.
    """

    def end(outcome: str, text: str, status: ExitStatus, **fields: Any) -> int:  # noqa: ANN401  # what JSON has
        if as_json:
            out(json.dumps({"outcome": outcome, "shard_id": options.shard_id, **fields}))
        elif status is ExitStatus.GRANTED:
            out(text)
        else:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        return status

    shard = f"shard {options.shard_id}"
    is_granted = False
    try:
        with Report(options.shard_id, console) as report:
            grant = await wait_for_turn(queue, options, report)
        left_s = _last_look_s(queue, grant, options)
        is_granted = True
    except RefusedError as refused:
        return end("refused", f"{shard} is refused: {refused}", ExitStatus.REFUSED, message=str(refused))
    except TimeoutError:
        text = f"{shard} had no turn within {options.timeout_s:g} s; its request is withdrawn"
        return end("timed_out", text, ExitStatus.TIMED_OUT)
    except asyncio.CancelledError:
        end("interrupted", f"{shard} is interrupted; its request is withdrawn", ExitStatus.FAILED)
        raise
    finally:
        if not is_granted:
            await _close(queue)
    fields = {
        "bucket": grant.bucket,
        "max_concurrency": grant.max_concurrency,
        "use_within_ms": int(left_s * 1000),
        "waited_ms": grant.waited_ms,
        "remaining": grant.remaining,
    }
    return end("granted", f"{shard} may identify within {left_s:.1f} s", ExitStatus.GRANTED, **fields)


def _last_look_s(queue: NatsQueue, grant: Grant, options: WaitOptions) -> float:
    """Return the seconds that are left of a grant.

    Raises:
        RefusedError: they are fewer than is wanted; the grant is declined.
    """
    left_s = _left_s(grant)
    if left_s >= options.within_s:
        return left_s
    queue.decline(grant)
    message = f"its grant has less than {options.within_s:g} s left; was this machine busy or asleep? Ask again"
    raise RefusedError(message)


async def _close(queue: NatsQueue) -> None:
    """Close it to the end, whatever else is signalled."""
    closing = asyncio.ensure_future(queue.close())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait({closing})
        raise


def _left_s(grant: Grant) -> float:
    return (grant.use_by_ns - now_ns()) / NS_PER_S
