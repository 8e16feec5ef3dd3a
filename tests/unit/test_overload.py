"""The log of an overload: one line when it begins, and one when it is over."""

from typing import Any

from coordinator.edge.metrics import Metrics
from coordinator.edge.overload import OverloadLog
from nats_identify.clock import NS_PER_S


class Lines:
    """Notes what is logged."""

    def __init__(self):
        self.lines = []

    def error(self, event, **fields):
        self.lines.append((event, fields))

    def warning(self, event, **fields):
        self.lines.append((event, fields))


def test_a_minute_of_drops_is_three_lines_and_one_for_its_end():
    now_s, metrics, log = 0, Metrics(), Lines()
    said: Any = log
    overload = OverloadLog(metrics, lambda: now_s * NS_PER_S, said)
    for now_s in range(1, 100):
        for _ in range(1_000 if now_s < 61 else 0):
            metrics.drop("overflow")
        metrics.drop("bad_request")
        overload.look()
    events = [event for event, _ in log.lines]
    assert events[-1] == "no request is dropped any more"
    assert events[:-1] == ["requests are dropped: too many arrive"] * len(events[:-1])
    assert 1 <= len(events[:-1]) <= 3
    assert log.lines[0][1]["error"] == "1000 since the last look"
