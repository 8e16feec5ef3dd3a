"""Faults in the crash-loop guard, the margin, and what a figure is believed to say. It runs nothing."""

from tests.simulation.plan import Shape
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit
from tests.simulation.planted.rules import EVALUATE, EXPIRY, SCHEDULER, STATE

GUARD = "nats_identify.schedule.crash_loop:CrashLoopGuard"
MARGIN = "nats_identify.schedule.margin"


def _looping(name: str, edits: tuple[Edit, ...]) -> Planted:
    return Planted(name, edits, shape=Shape.LOOPS)


LOOPING: tuple[Planted, ...] = (
    _looping("nobody is counted", (Edit(f"{GUARD}.count", "if not self._grants:", "if True:"),)),
    _looping(
        "a priority passes the guard",
        (
            Edit(
                f"{SCHEDULER}._defer_if_looping",
                "self.state.loop_ends_at_ns(request, now_ns)",
                "self.state.loop_ends_at_ns(request, now_ns) if request.message.priority < 1 else 0",
            ),
            Edit(
                f"{EVALUATE}:next_grant",
                "state.loop_ends_at_ns(request, now_ns)",
                "state.loop_ends_at_ns(request, now_ns) if request.message.priority < 1 else 0",
            ),
        ),
    ),
    _looping(
        "each wait is as short as the first",
        (Edit(f"{GUARD}.opens_at_ns", "(FIRST_WAIT_NS << strikes)", "FIRST_WAIT_NS"),),
    ),
    _looping(
        "a successor knows of no loop",
        (
            Edit(
                f"{STATE}.restore", "self.guard.restore(snapshot.crash_loops, now_ns)", "self.guard.restore((), now_ns)"
            ),
        ),
    ),
    _looping(
        "the ledger keeps no histories",
        (Edit(f"{STATE}.snapshot", "self.guard.ages(now_ns)", "()"),),
    ),
    _looping(
        "what a successor reads is long past",
        (Edit(f"{GUARD}.restore", "now_ns - age_ns", "now_ns - 10**14"),),
    ),
    _looping(
        "a grant that is used is given back to the guard as well",
        (
            Edit(
                f"{STATE}.identify",
                "    self.requests.end(hold.grant.request_id)\n",
                "    self.requests.end(hold.grant.request_id)\n    self.guard.refund(hold.grant.shard_id)\n",
            ),
        ),
    ),
    _looping(
        "another shard's grants count",
        (
            Edit(
                f"{GUARD}.opens_at_ns",
                "history = self._shards.get(shard_id)",
                "history = self._shards.get(shard_id) or next(iter(self._shards.values()), None)",
            ),
        ),
    ),
    _looping(
        "who was held back stands last for ever",
        (
            Edit(f"{EXPIRY}:_look_at_request", "    state.defer(request, request.deferred_until_ns, now_ns)\n", ""),
            Edit(
                f"{SCHEDULER}._defer_if_looping",
                "    self.state.defer(request, opens_at_ns, now_ns)",
                "    if opens_at_ns > now_ns:\n        self.state.defer(request, opens_at_ns, now_ns)",
            ),
        ),
    ),
)
"""Who comes back too often."""

TUNING: tuple[Planted, ...] = (
    Planted(
        "the margin has no floor",
        (
            Edit(f"{MARGIN}:clamp", "max(margin_ns, setting_ns // 2)", "max(margin_ns, 0)"),
            Edit(
                f"{MARGIN}:narrowed",
                "margin_ns - (margin_ns - setting_ns // 2) // NARROWINGS",
                "margin_ns - margin_ns // 10",
            ),
        ),
    ),
    Planted(
        "a refusal narrows the margin",
        (Edit(f"{MARGIN}:widened", "clamp(margin_ns + max(margin_ns, WIDER_MIN_NS), setting_ns)", "0"),),
    ),
)
"""How wide the margin is."""
