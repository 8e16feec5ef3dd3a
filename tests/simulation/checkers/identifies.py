"""Checks every IDENTIFY: the window, the day's budget, and that no request is used twice. It knows no coordinator."""

from collections import deque
from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger
from nats_identify import wire
from nats_identify.schedule.model import MS, SECOND
from nats_identify.testing.judge import Judgement, Verdict
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator


class ExcusedError(Exception):
    """The queue says itself that it cannot help here: the history ends, and is counted apart."""


class Identifies:
    """The promises to Discord.

    ``window``: two IDENTIFYs of one bucket arrive at least a window apart, by both numberings across a change.
    ``budget``: no more of them arrive between two resets of Discord's counter than it allows.
    ``twice``: a request is identified at most once.
    ``holds``: who leads and trusts nothing holds every bucket as long as any turn may matter that it can know of.
    """

    def __init__(self) -> None:
        self.count = 0
        self.losses = 0
        self._used: dict[str, str] = {}
        self._recent: deque[tuple[int, wire.Granted]] = deque(maxlen=200)
        self._known_use_within_ns: dict[str, int] = {}
        self._own_use_within_ns: dict[str, int] = {}
        self._made_by: dict[str, str] = {}  # by grant: its id does not tell

    def sent(self, grant: wire.Granted, request_id: str) -> None:
        """A shard writes IDENTIFY."""
        self.count += 1
        before = self._used.setdefault(request_id, grant.grant_id)
        if self.count != len(self._used):
            raise Violation("twice", 0, f"{request_id} is identified by {grant.grant_id} after {before}")

    def is_used(self, request_id: str) -> bool:
        """Whether an IDENTIFY was written for this request."""
        return request_id in self._used

    def judged(self, judgement: Judgement, grant: wire.Granted, *, is_shared: bool = False) -> None:
        """Discord has received one; ``is_shared``: others have spent of the day, and no figure may have told yet."""
        if judgement.verdict is Verdict.OVER_LIMIT and not is_shared:
            what = f"shard {judgement.shard_id} ({grant.grant_id}) is over the limit"
            raise Violation("budget", judgement.at_ns, what)
        if judgement.gap_ns is not None and judgement.verdict is Verdict.TOO_EARLY:
            if self._is_excused(judgement, grant):
                raise ExcusedError
            gap = f"{judgement.gap_ns / SECOND:.6f} s after another in its bucket"
            raise Violation("window", judgement.at_ns, f"shard {judgement.shard_id} ({grant.grant_id}) {gap}")
        self._recent.append((judgement.at_ns, grant))

    # --- what is excused

    def saw(self, name: str, ledger: Ledger | None, own_use_within_ns: int) -> None:
        """A coordinator saw this in the ledger: the longest promise that it knows of, its writer's own among them."""
        self._own_use_within_ns[name] = own_use_within_ns
        known_ns = self._known_use_within_ns.get(name, own_use_within_ns)
        if ledger is not None:
            known_ns = max(known_ns, self._own_use_within_ns.get(ledger.instance, 0))
        for record in ledger.grants if ledger is not None else ():
            known_ns = max(known_ns, record.grant.use_within_ns)
        self._known_use_within_ns[name] = known_ns

    def leads(self, coordinator: "Coordinator", holds_ns: int) -> int:
        """A coordinator leads and holds everything for so long; return how long it must, by all that it has seen."""
        name, timing = coordinator.name, coordinator.settings.timing
        known_ns = self._known_use_within_ns.get(name, timing.use_within_ns) + timing.window_ns
        if holds_ns + MS < known_ns:
            what = f"{name} holds everything for {holds_ns // MS} ms, and has seen what needs {known_ns // MS}"
            raise Violation("holds", coordinator.engine.now_ns, what)
        return known_ns

    def writes(self, name: str, ledger: Ledger) -> None:
        """A coordinator writes: whoever writes of a grant first has made it."""
        for record in ledger.grants:
            self._made_by.setdefault(record.grant.grant_id, name)

    def lost(self) -> None:
        """What was in the ledger is gone."""
        self.losses += 1

    def _is_excused(self, judgement: Judgement, grant: wire.Granted) -> bool:
        """Whether a lost ledger held a longer promise than the one who granted next could know of (rule 2)."""
        since_ns = judgement.at_ns - (judgement.gap_ns or 0)
        others = [other for at_ns, other in self._recent if at_ns >= since_ns]
        return self.losses > 0 and any(self._knew_not(o, grant) or self._knew_not(grant, o) for o in others)

    def _knew_not(self, grant: wire.Granted, other: wire.Granted) -> bool:
        """Whether who made the one grant could not know that the other was promised for so long."""
        return not self.knew(other, self._made_by[grant.grant_id])

    def knew(self, grant: wire.Granted, name: str) -> bool:
        """Whether this coordinator could know that the grant was promised for so long: not always after a loss."""
        return self.losses == 0 or grant.use_within_ms <= self._known_use_within_ns.get(name, 0) // MS
