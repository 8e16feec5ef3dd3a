"""The one clock that a shard and a coordinator read; it never compares itself with another machine's."""

import time
from collections.abc import Callable
from typing import Final

NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000

Clock = Callable[[], int]
"""Returns nanoseconds that only ever grow, of this process alone."""


def now_ns() -> int:
    """Return nanoseconds of a monotonic clock that runs on through a suspend, where the system has one.

    The time that a laptop or a virtual machine was suspended must count towards the age of its grant:
    Linux has ``CLOCK_BOOTTIME`` for this; elsewhere it is the plain monotonic clock.
    """
    return time.clock_gettime_ns(_CLOCK_ID)


_CLOCK_ID: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
