"""When a trouble is logged: once when it begins, at most each 30 s while it lasts, once when it is over.

Pure: the caller passes the time, logs, and knows what the trouble is.
"""

from typing import Final

from nats_identify.clock import NS_PER_S

REPEAT_NS: Final = 30 * NS_PER_S
"""The shortest time between two lines about one trouble, also where it comes and goes."""


class Trouble:
    """One thing that can be wrong.

    Args:
        every_ns: the shortest time between two lines, in nanoseconds.
    """

    def __init__(self, every_ns: int = REPEAT_NS) -> None:
        self._every_ns = every_ns
        self._since_ns: int | None = None
        self._said_at_ns: int | None = None
        self._is_said = False

    def note(self, now_ns: int) -> int | None:
        """Take in that the trouble is there; call it as often as it is seen.

        Returns:
            How long it has lasted, in nanoseconds, if a line is due: 0 means that it has just begun. Else None.
        """
        if self._since_ns is None:
            self._since_ns = now_ns
        if self._said_at_ns is not None and now_ns - self._said_at_ns < self._every_ns:
            return None
        self._said_at_ns, self._is_said = now_ns, True
        return now_ns - self._since_ns

    def over(self, now_ns: int) -> int | None:
        """Take in that nothing is wrong; call it as often as that is seen.

        Returns:
            How long the trouble lasted, in nanoseconds, if it was logged and its end was not. Else None.
        """
        since_ns, is_said = self._since_ns, self._is_said
        self._since_ns, self._is_said = None, False
        return now_ns - since_ns if since_ns is not None and is_said else None
