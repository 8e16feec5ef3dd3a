"""Faults in what the ledger says: deficits, kinds of figures, refunds, holds, declines, replies. It runs nothing."""

from tests.simulation.plan import Shape
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit
from tests.simulation.planted.rules import BUDGET, REPLICA, STATE

TRUTH: tuple[Planted, ...] = (
    Planted(
        "what was spent beyond a lower total is forgiven",
        (
            Edit(
                f"{BUDGET}.set_static",
                "self.remaining = limits.total - spent",
                "self.remaining = max(0, limits.total - spent)",
            ),
        ),
    ),
    Planted(
        "an unknown day counts as spent by the settings' own total alone",
        (Edit(f"{BUDGET}.set_static", "max(self.total, limits.total)", "limits.total"),),
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
                f"{STATE}.refuse_late",
                "    self.refund(hold)\n    self.end_hold(hold, is_unsent=True)\n",
                "    self.commit(hold)\n",
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
        (Edit(f"{STATE}.snapshot", "self.timing.full_hold_ns", "None"),),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "a figure after a loss is awaited by the replica's own settings",
        (
            Edit(
                f"{REPLICA}._lead_from_now",
                "self._limits_policy.become_leader(now_ns, hold_ns)",
                "self._limits_policy.become_leader(now_ns, min(hold_ns, self.settings.timing.full_hold_ns))",
            ),
        ),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "a decline is forgotten once its grant is dropped",
        (
            Edit(
                f"{STATE}.decline", "    self.buffer_early_confirm(hold.grant.grant_id, Outcome.DECLINED, at_ns)\n", ""
            ),
        ),
    ),
    Planted(
        "a successor does not know which plain requests had a reply",
        (Edit(f"{STATE}.snapshot", "self.plain.left(now_ns)", "()"),),
        shape=Shape.PLAIN,
    ),
    Planted(
        "a plain request that comes after its grant is refused",
        (
            Edit(
                "nats_identify.schedule.scheduler:Scheduler._receive_request",
                "is_known = request is not None or self.state.holds.for_request(message.request_id) is not None",
                "is_known = request is not None",
            ),
        ),
    ),
    Planted(
        "a plain request is refused before that is committed",
        (
            Edit(
                "nats_identify.schedule.plain:final",
                "    return []\n",
                "        state.unsent.drop()\n        return actions\n    return []\n",
            ),
        ),
        shape=Shape.PLAIN,
    ),
)
"""What is true of the ledger in every history."""
