"""An operator who gives all six commands by chance, and resumes in the end. The dice are not those of the history."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from coordinator.core.ledger import Handover
from nats_identify.schedule.grants import HoldRecord
from nats_identify.schedule.model import MS, SECOND, Kick, Pardon, Pause, Release, Resume
from nats_identify.schedule.model import Operator as Who
from tests.simulation.broker import Delivery
from tests.simulation.coordinator import SUBJECTS, Command
from tests.simulation.plan import Fault
from tests.simulation.process import Process
from tests.simulation.rogue import PREFIX
from tests.simulation.shards import Pod
from tests.simulation.traffic import Line

if TYPE_CHECKING:
    from tests.simulation.world import World

RESUMES_EVERY_NS: Final = 3 * SECOND
"""Once all is well it resumes again and again: a pause that was late may arrive after a resume."""

LOOKS_EVERY_NS: Final = 300 * MS
RELEASES: Final = 0.8
ERRS: Final = 0.03
"""How often it acts at a look that shows a grant which it may release, and at one that shows none."""

LOSSES: Final = {Fault.DELETE, Fault.RECREATE, Fault.RESTORE}


class Operator(Process):
    """One person with a command line; each command has a reply subject, and a reason, of its own.

    It releases only what its shard provably does not use, or what the ledger has as identified: of another grant a
    release may make an IDENTIFY early, and the operator alone is to blame for it.
    """

    def __init__(self, world: "World") -> None:
        super().__init__(world.engine, "operator")
        self.world = world
        self.line = Line(world.traffic, self, self._hear)
        self.done = 0
        self._random = random.Random(f"operator-{world.plan.shape}-{world.plan.seed}")
        self._given = 0
        self._kicked: list[str] = []
        self._may_err = not LOSSES & {fault for fault, _ in world.plan.faults}  # what was identified stays known
        self._commands: tuple[Callable[[Who], Command], ...] = (
            self._pause,
            self._pause,
            Resume,
            self._kick,
            self._release,
            self._release,
            self._pardon,
            Handover,
        )

    def start(self) -> None:
        """Connect, and begin."""
        self.line.subscribe("_INBOX.operator.*")
        self.line.connect()
        self._go_on()
        self._look()

    def _look(self) -> None:
        """Release what a shard that has died will not use, before its hold is over; seldom what was identified."""
        if self.world.is_open:
            if self._random.random() < (RELEASES if self._releasable() else ERRS):
                self._give(self._release(self._who()))
            self.engine.after(LOOKS_EVERY_NS, self._look)

    def _go_on(self) -> None:
        mean_ns = self.world.plan.operator_mean_ns
        if self.world.is_open:
            self._give(self._random.choice(self._commands)(self._who()))
            self.engine.after(int(self._random.expovariate(1.0) * mean_ns), self._go_on)
        else:
            self._give(Resume(self._who()))
            self.engine.after(RESUMES_EVERY_NS, self._go_on)

    def _who(self) -> Who:
        self._given += 1
        return Who("operator", str(self._given), f"_INBOX.operator.{self._given}")

    def _give(self, command: Command) -> None:
        name = type(command).__name__.lower()
        self.engine.note("OPERATOR", f"{name} {command}")
        self.world.chaos.counts[f"operator: {name}"] += 1
        self.line.publish(SUBJECTS.command(name), command, command.operator.reply_to)

    def _hear(self, delivery: Delivery) -> None:
        if not delivery.nobody:
            self.done += delivery.payload.code is None
            self.engine.note("OPERATOR", f"is answered {delivery.payload}")

    # --- what it commands

    def _pause(self, who: Who) -> Pause:
        for_ns = self._random.choice((None, 1, 3, 15))
        below = self._random.choice((None, None, 0, 1, 1, 2))
        return Pause(who, None if for_ns is None else for_ns * SECOND, below)

    def _kick(self, who: Who) -> Kick:
        waiting = [name for pod in self._pods() for name in pod.entries]
        waiting += [name.removeprefix("_INBOX.") for pod in self.world.pods.values() for name in _plain(pod)]
        choices = [*waiting, *self._kicked[-1:], "unknown"]
        self._kicked.append(self._random.choice(choices))
        return Kick(who, self._kicked[-1])

    def _release(self, who: Who) -> Release:
        ledger = self.world.stream.key.ledger
        identified = [r.grant.grant_id for r in ledger.grants if r.outcome is not None] if ledger is not None else []
        names = self._releasable() or (identified if self._may_err else [])
        return Release(who, self._random.choice(names or ["unknown"]))

    def _releasable(self) -> list[str]:
        """The grants that no IDENTIFY was sent on, nor will be: their shards have died, or have withdrawn."""
        ledger = self.world.stream.key.ledger
        return [r.grant.grant_id for r in ledger.grants if self._may_release(r)] if ledger is not None else []

    def _may_release(self, record: HoldRecord) -> bool:
        request_id = record.grant.request_id
        if record.outcome is not None or not request_id or not record.grant.managed:
            return False
        is_waiting = any(request_id in pod.entries for pod in self._pods())
        is_used = self.world.witness.identifies.is_used(request_id)
        return not (is_waiting or is_used or request_id.startswith(PREFIX))

    def _pardon(self, who: Who) -> Pardon:
        ledger = self.world.stream.key.ledger
        looping = [history.shard_id for history in ledger.crash_loops] if ledger is not None else []
        shards = looping or [shard_id for pod in self.world.plan.pods for shard_id in pod]
        return Pardon(who, self._random.choice(shards or [0]))

    def _pods(self) -> list[Pod]:
        return [pod for pod in self.world.pods.values() if isinstance(pod, Pod) and pod.is_alive]


def _plain(pod: Process) -> list[str]:
    return list(getattr(pod, "waiting", ()))
