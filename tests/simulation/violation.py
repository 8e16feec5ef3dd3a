"""A broken promise, named after the checker that saw it. It says what, never why."""

from nats_identify.schedule.model import SECOND


class Violation(Exception):  # noqa: N818  # it is what a checker finds, not an error of the simulator
    """One promise broken at one instant of one history."""

    def __init__(self, checker: str, at_ns: int, what: str) -> None:
        super().__init__(f"{checker} at {at_ns / SECOND:.6f} s: {what}")
        self.checker = checker
        self.at_ns = at_ns
        self.what = what
