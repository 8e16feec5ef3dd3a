"""Checks every IDENTIFY: the window, the day's budget, and that no request is used twice. It knows no coordinator."""

from nats_identify import wire
from nats_identify.schedule.model import SECOND
from nats_identify.testing.judge import Judgement, Verdict
from tests.simulation.violation import Violation


class Identifies:
    """The promises to Discord.

    ``window``: two IDENTIFYs of one bucket arrive at least a window apart, by both numberings across a change.
    ``budget``: no more of them arrive between two resets of Discord's counter than it allows.
    ``twice``: a request is identified at most once.
    """

    def __init__(self) -> None:
        self.count = 0
        self._used: dict[str, str] = {}

    def sent(self, grant: wire.Granted, request_id: str) -> None:
        """A shard writes IDENTIFY."""
        self.count += 1
        before = self._used.setdefault(request_id, grant.grant_id)
        if self.count != len(self._used):
            raise Violation("twice", 0, f"{request_id} is identified by {grant.grant_id} after {before}")

    def judged(self, judgement: Judgement, request_id: str) -> None:
        """Discord has received one."""
        if judgement.gap_ns is not None and judgement.verdict is Verdict.TOO_EARLY:
            gap = f"{judgement.gap_ns / SECOND:.6f} s after another in its bucket"
            raise Violation("window", judgement.at_ns, f"shard {judgement.shard_id} ({request_id}) {gap}")
        if judgement.verdict is Verdict.OVER_LIMIT:
            raise Violation("budget", judgement.at_ns, f"shard {judgement.shard_id} ({request_id}) over the limit")
