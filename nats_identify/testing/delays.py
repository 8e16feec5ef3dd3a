"""Draws the delays of a simulated network from one seed; it never waits."""

from collections.abc import Callable
from random import Random

Range = tuple[float, float]
"""Lowest and highest, in seconds; a delay is drawn evenly between them."""


class Delays:
    """How slow the simulated Discord is today. Each attribute draws one delay, in seconds.

    Attributes:
        connect_delay_s: before a websocket is accepted.
        hello_delay_s: between that and HELLO.
        frame_latency_s: one way, of every frame in either direction.
        ready_delay_s: between IDENTIFY and READY.
    """

    def __init__(
        self,
        seed: int,
        *,
        connect_delay_s: Range = (0.0, 0.0),
        hello_delay_s: Range = (0.0, 0.0),
        frame_latency_s: Range = (0.0, 0.0),
        ready_delay_s: Range = (0.0, 0.0),
    ) -> None:
        """Make delays that are the same for the same seed and the same order of calls.

        Raises:
            ValueError: a range that is negative or upside down.
        """
        self._random = Random(seed)  # noqa: S311  # weather must be repeatable, not unguessable
        self.connect_delay_s = self._delay("connect_delay_s", connect_delay_s)
        self.hello_delay_s = self._delay("hello_delay_s", hello_delay_s)
        self.frame_latency_s = self._delay("frame_latency_s", frame_latency_s)
        self.ready_delay_s = self._delay("ready_delay_s", ready_delay_s)

    def session_id(self) -> str:
        """Return an id that no other session of this gateway has."""
        return f"{self._random.getrandbits(128):032x}"

    def _delay(self, name: str, between: Range) -> Callable[[], float]:
        low_s, high_s = between
        if not 0 <= low_s <= high_s:
            message = f"{name} is {between}; give (lowest, highest) seconds, neither below 0"
            raise ValueError(message)
        return lambda: self._random.uniform(low_s, high_s)
