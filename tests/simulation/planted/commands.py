"""Faults in what becomes of an operator's commands. It runs nothing."""

from tests.simulation.plan import Shape
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit
from tests.simulation.planted.rules import EVALUATE, STATE

COMMANDS = "nats_identify.schedule.commands"

COMMANDING: tuple[Planted, ...] = (
    Planted(
        "a leader that grants looks at no pause",
        (
            Edit(
                f"{EVALUATE}:next_grant",
                "state.closed_for(priority)",
                "state.budget.closed_for(priority)",
            ),
        ),
    ),
    Planted(
        "a pause is not in the ledger",
        (Edit(f"{STATE}.snapshot", "None if self.paused is None else self.paused.with_time_left(now_ns)", "None"),),
    ),
    Planted(
        "a pause ends with its leader",
        (
            Edit(
                f"{STATE}.become_leader",
                "    self.mark_all_dirty()",
                "    self.paused = None\n    self.mark_all_dirty()",
            ),
        ),
    ),
    Planted(
        "a takeover shortens a pause",
        (Edit("nats_identify.schedule.pause:Paused.from_time_left", "now_ns + self.ends_ns", "now_ns"),),
    ),
    Planted(
        "a successor does not know of a resume",
        (Edit(f"{STATE}.restore", "self.paused = None if", "self.paused = self.paused if"),),
    ),
    Planted(
        "a command is done before it is committed",
        (
            Edit(
                f"{COMMANDS}:_done",
                "    state.keep_reply([*before, CommandReply(operator.reply_to, command, text)])\n    return []",
                "    return [*before, CommandReply(operator.reply_to, command, text)]",
            ),
        ),
    ),
    Planted(
        "a kicked request is queued again by its next renewal",
        (
            Edit(
                f"{COMMANDS}:_kick",
                "    state.end_request(request_id)\n    text",
                "    state.drop_request(request)\n    text",
            ),
        ),
    ),
    Planted(
        "a kick frees a granted turn",
        (
            Edit(
                f"{COMMANDS}:_kick",
                "    if request is not None and request.grant_id is not None:",
                "    granted = state.holds.for_request(request_id)\n"
                "    if granted is not None and granted.state in AWAITING:\n"
                "        state.refund(granted)\n        state.end_hold(granted)\n"
                "    if request is not None and request.grant_id is not None:",
            ),
        ),
    ),
    Planted(
        "a grant that was used is released",
        (Edit(f"{COMMANDS}:_release", "if hold.state not in AWAITING:", "if False:"),),
    ),
    Planted(
        "a released grant is given back twice",
        (
            Edit(
                f"{COMMANDS}:_release",
                "    state.decline(hold, now_ns)",
                "    state.decline(hold, now_ns)\n    state.budget.refund()",
            ),
        ),
    ),
    Planted(
        "a pardon is not in the ledger",
        (Edit(f"{STATE}.pardon", "self.is_leading and self.guard.forget(shard_id)", "self.is_leading"),),
        shape=Shape.LOOPS,
    ),
)
"""What an operator was told, and what no command may do."""
