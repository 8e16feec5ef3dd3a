"""Faults in what READY and Invalid Session prove of a window. It runs nothing."""

from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit
from tests.simulation.planted.rules import CONFIRMATIONS, STATE

PROVING: tuple[Planted, ...] = (
    Planted(
        "the READY of another grant counts",
        (
            Edit(
                f"{CONFIRMATIONS}:confirm",
                "    hold = state.holds.get(grant_id)\n",
                "    hold = state.holds.get(grant_id)\n    if hold is None and outcome is Outcome.READY:\n"
                "        hold = next((h for h in state.holds if h.state in AWAITING), None)\n",
            ),
        ),
    ),
    Planted(
        "a bucket opens at READY, without the window",
        (Edit(f"{STATE}.settle", "at_ns + self.timing.proved_hold_ns", "at_ns"),),
    ),
    Planted(
        "a window counts from the grant once READY has come",
        (Edit(f"{STATE}.settle", "opens_at_ns = at_ns +", "opens_at_ns = hold.granted_at_ns +"),),
    ),
    Planted(
        "a successor takes the shorter: nothing is left of the hold of a grant that was accepted",
        (
            Edit(
                f"{STATE}.restore_holds",
                "    early = []\n",
                "    early = []\n    for hold in theirs.values():\n"
                "        if getattr(hold, 'state', None) in {HoldState.READY, HoldState.REJECTED}:\n"
                "            hold.opens_at_ns = now_ns\n",
            ),
        ),
    ),
    Planted(
        "a grant that is accepted is dropped",
        (
            Edit(
                f"{CONFIRMATIONS}:confirm",
                "        state.settle(hold, outcome, at_ns)\n",
                "        state.settle(hold, outcome, at_ns)\n        state.end_hold(hold)\n",
            ),
        ),
    ),
    Planted(
        "a window by a clock that runs faster than Discord's",
        (
            Edit(
                "nats_identify.schedule.model:Timing.proved_hold_ns",
                "self.window_ns + self.window_ns // RATE_TOLERANCE",
                "self.window_ns",
            ),
        ),
    ),
)
"""When the bucket opens once Discord has answered."""
