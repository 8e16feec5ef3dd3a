"""Faults in what the ledger says: deficits, kinds of figures, refunds, holds, declines, replies. It runs nothing."""

from tests.simulation.plan import Shape
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit
from tests.simulation.planted.rules import ANSWERS, BUDGET, RELEASE, REPLICA

TRUTH: tuple[Planted, ...] = (
    Planted(
        "what was spent beyond a lower total is forgiven",
        (
            Edit(
                f"{BUDGET}.set_static",
                "else limits.total - (self.total - self.remaining)",
                "else max(0, limits.total - (self.total - self.remaining))",
            ),
        ),
    ),
    Planted(
        "a figure leaves no deficit",
        (
            Edit(
                f"{BUDGET}.set", "limits.remaining - unconfirmed_count", "max(0, limits.remaining - unconfirmed_count)"
            ),
        ),
        shape=Shape.BUDGET,
    ),
    Planted(
        "who can ask Discord spends another's settings",
        (
            Edit(
                f"{BUDGET}.known",
                "None if self.from_settings and not self.static else self.remaining",
                "self.remaining",
            ),
        ),
    ),
    Planted(
        "a plain grant that is refused costs one",
        (
            Edit(
                f"{RELEASE}._commit_again_or_refuse",
                "    self.state.refund(grant)\n    self.state.end_hold(grant, is_unsent=True)\n",
                "    grant.committed = True\n",
            ),
        ),
        shape=Shape.PLAIN,
    ),
    Planted(
        "a ledger that is not adopted teaches nothing of holds",
        (Edit(f"{REPLICA}._remember", "if ledger is not None:", "if ledger and ledger.age > self.view.newest_age:"),),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "an entry tells nothing of its leader's hold",
        (Edit(f"{REPLICA}._write", "state.timing.full_hold_ns", "None"),),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "a figure after a loss is awaited by the replica's own settings",
        (
            Edit(
                f"{REPLICA}._lead_from_now",
                "self._longest_hold_ns if self._figure_waits",
                "self.settings.timing.full_hold_ns if self._figure_waits",
            ),
        ),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "a decline is forgotten once its grant is dropped",
        (Edit(f"{ANSWERS}:_decline", "    state.buffer_early_confirm(grant.grant_id, Outcome.DECLINED, at_ns)\n", ""),),
    ),
    Planted(
        "a successor does not know which plain requests had a reply",
        (Edit(f"{REPLICA}._write", "state.plain.left(now_ns)", "()"),),
        shape=Shape.PLAIN,
    ),
    Planted(
        "a plain request is refused before that is committed",
        (
            Edit(
                "nats_identify.schedule.plain:final",
                "    return []\n",
                "        state.plain.step_down()\n        return actions\n    return []\n",
            ),
        ),
        shape=Shape.PLAIN,
    ),
)
"""What is true of the ledger in every history."""
