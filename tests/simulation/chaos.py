"""Makes things go wrong, each kind at its own mean interval, until it is told to stop. It judges nothing."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from nats_identify.schedule.model import MS, SECOND
from tests.simulation.coordinator import SUBJECTS, Coordinator
from tests.simulation.key import PutBack
from tests.simulation.plan import Fault
from tests.simulation.process import Process
from tests.simulation.shards import Pod

if TYPE_CHECKING:
    from tests.simulation.world import World

RESTORE_AGE_NS: Final = 4 * SECOND
"""A restored copy was replaced at least a lease and so long ago: an operator and a backup are not faster.

A standby in touch with the ledger has then seen something newer than the copy, and knows it for old.
"""


RECREATE_REVISION_MIN: Final = 30
"""A bucket that is made anew counts from 1 again: a ledger of some age, so that the two counts do not meet at once."""


class Chaos:
    """All that goes wrong in one history."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._engine = world.engine
        self._is_over = False
        self.counts: Counter[str] = Counter()
        self._strike: dict[Fault, Callable[[], bool]] = {
            Fault.KILL: lambda: self._kill(self._any_coordinator()),
            Fault.KILL_LEADER: lambda: self._kill(self._leader()),
            Fault.STOP: self._stop,
            Fault.PAUSE: lambda: self._pause(self._any_coordinator()),
            Fault.PAUSE_LEADER: lambda: self._pause(self._leader()),
            Fault.CUT_TRAFFIC: self._cut_traffic,
            Fault.CUT_LEDGER: self._cut_ledger,
            Fault.CUT_POD: self._cut_pod,
            Fault.AWAY: self._away,
            Fault.DELETE: self._delete,
            Fault.RECREATE: self._recreate,
            Fault.RESTORE: self._restore,
            Fault.KILL_POD: self._kill_pod,
            Fault.LEAVE_POD: self._leave_pod,
            Fault.PAUSE_POD: lambda: self._pause(self._any_pod()),
            Fault.CHANGE_LIMITS: self._change_limits,
            Fault.DISCORD_AWAY: self._discord_away,
            Fault.EVERYBODY: self._everybody,
            Fault.BESIDE: self._beside,
            Fault.REFRESH: self._refresh,
            Fault.REFUSE: self._refuse,
        }

    def start(self) -> None:
        """Let every fault of the plan strike again and again."""
        for fault, mean_ns in self._world.plan.faults:
            self._engine.after(self._engine.about(mean_ns), self._strike_again, fault, mean_ns)
        if self._world.plan.cancel_mean_ns:
            self._engine.after(self._engine.about(self._world.plan.cancel_mean_ns), self._cancel)

    def stop(self) -> None:
        """Strike no more."""
        self._is_over = True

    def stalls(self, coordinator: Coordinator) -> bool:
        """Whether this one is paused now, between what it has decided and what it does about it."""
        if self._is_over or not self._engine.chance(self._world.plan.stall):
            return False
        self._count("stall", coordinator.name)
        return self._pause(coordinator)

    def granted(self, coordinator: Coordinator) -> None:
        """A grant has just left this one: a good moment to die."""
        if not self._is_over and self._engine.chance(self._world.plan.dies_after_grant):
            self._count("dies after a grant", coordinator.name)
            self._engine.after(self._engine.between(0, 60 * MS), self._kill, coordinator)

    # --- inside

    def _count(self, what: str, whom: str) -> None:
        self.counts[what] += 1
        if self._engine.lines is not None:
            self._engine.note("CHAOS", f"{what} {whom}")

    def _strike_again(self, fault: Fault, mean_ns: int) -> None:
        if self._is_over:
            return
        if self._strike[fault]():
            self._count(fault, "")
        self._engine.after(SECOND + self._engine.about(mean_ns), self._strike_again, fault, mean_ns)

    def _later(self, least_ns: int, max_ns: int, call: Callable[..., None], *args: object) -> None:
        self._engine.after(self._engine.between(least_ns, max_ns), call, *args)

    def _any_coordinator(self) -> Coordinator | None:
        there = [c for c in self._world.coordinators.values() if c.is_alive]
        return self._engine.random.choice(there) if there else None

    def _leader(self) -> Coordinator | None:
        for coordinator in self._world.coordinators.values():
            if coordinator.is_alive and coordinator.replica.is_leader:
                return coordinator
        return None

    def _any_pod(self) -> Process | None:
        there = [pod for pod in self._world.pods.values() if pod.is_alive]
        return self._engine.random.choice(there) if there else None

    def _cancel(self) -> None:
        """Somebody withdraws requests that are not his, of shards that wait, or a shard's each new one for a while."""
        if self._is_over:
            return
        waiting = [(pod, entry) for pod in self._pods() for entry in pod.entries.values()]
        if waiting:
            pod, entry = self._engine.random.choice(waiting)
            self._count("a request is cancelled by another", entry.requester.request_id)
            pod.line.publish(SUBJECTS.cancel(0), entry.requester.request_id)
        pause_ns = self._world.plan.cancel_mean_ns // self._engine.random.choice((1, 1, 20))
        self._engine.after(self._engine.about(pause_ns), self._cancel)

    def _pods(self) -> list[Pod]:
        return [pod for pod in self._world.pods.values() if isinstance(pod, Pod) and pod.is_alive]

    def _kill(self, coordinator: Coordinator | None) -> bool:
        if coordinator is None or not coordinator.is_alive or self._is_over:
            return False
        self._engine.note(coordinator.name, "is killed")
        coordinator.kill()
        self._restart(coordinator)
        return True

    def _restart(self, coordinator: Coordinator) -> None:
        self._later(100 * MS, 8 * SECOND, self._world.start_coordinator, coordinator.place)

    def _stop(self) -> bool:
        coordinator = self._any_coordinator()
        if coordinator is None:
            return False
        self._engine.note(coordinator.name, "is told to stop")
        coordinator.stop()
        self._engine.after(5 * SECOND, self._end_stopped, coordinator)
        return True

    def _end_stopped(self, coordinator: Coordinator) -> None:
        if coordinator.is_alive:
            coordinator.kill()
        self._world.start_coordinator(coordinator.place)

    def _pause(self, process: Process | None) -> bool:
        if process is None or process.is_paused:
            return False
        process.pause()
        self._engine.note(process.name, "is paused")
        max_ns = self._engine.random.choice((200 * MS, 2 * SECOND, 12 * SECOND))
        self._later(max_ns // 10, max_ns, self._resume, process)
        return True

    def _resume(self, process: Process) -> None:
        if process.is_paused and process.is_alive:
            self._engine.note(process.name, "runs again")
            process.resume()

    def _cut_traffic(self) -> bool:
        coordinator = self._any_coordinator()
        if coordinator is None:
            return False
        self._engine.note(coordinator.name, "traffic is cut")
        coordinator.line.cut(holds=self._engine.chance(0.4))
        self._later(300 * MS, 10 * SECOND, coordinator.line.mend)
        return True

    def _cut_ledger(self) -> bool:
        coordinator = self._any_coordinator()
        if coordinator is None:
            return False
        self._engine.note(coordinator.name, "ledger is cut")
        coordinator.store.cut(is_cut=True)
        self._later(300 * MS, 10 * SECOND, lambda: coordinator.store.cut(is_cut=False))
        return True

    def _cut_pod(self) -> bool:
        pod = self._any_pod()
        if pod is None:
            return False
        self._engine.note(pod.name, "is cut off")
        line = self._world.pods[pod.name].line
        line.cut(holds=self._engine.chance(0.5))
        self._later(300 * MS, 10 * SECOND, line.mend)
        return True

    def _away(self) -> bool:
        stream = self._world.stream
        stream.away_until_ns = self._engine.now_ns + self._engine.between(300 * MS, 8 * SECOND)
        return True

    def _refuse(self) -> bool:
        stream = self._world.stream
        stream.refuses_until_ns = self._engine.now_ns + self._engine.between(300 * MS, 12 * SECOND)
        stream.grants_most = self._engine.random.choice((-1, -1, 0, 1, 3))
        return True

    def _delete(self) -> bool:
        key = self._world.stream.key
        if key.ledger is None:
            return False
        key.delete(self._engine.now_ns)
        self._world.witness.lost("deleted")
        return True

    def _recreate(self) -> bool:
        if self._world.stream.key.revision < RECREATE_REVISION_MIN:
            return False
        self._world.stream.key.recreate(self._engine.now_ns)
        self._world.witness.lost("recreated")
        return True

    def _restore(self) -> bool:
        engine, key = self._engine, self._world.stream.key
        oldest_ns = engine.now_ns - self._world.plan.lease_max_ns - RESTORE_AGE_NS
        copies = [copy for copy in key.copies if copy.until_ns < oldest_ns]
        if not copies:
            return False
        copy = engine.random.choice(copies)
        how = engine.random.choice((PutBack.SNAPSHOT, PutBack.SNAPSHOT, PutBack.BARE, PutBack.COMPARED))
        near = key.revision + engine.random.randrange(1, 5)
        revision = engine.random.choice((copy.revision, key.revision, near))
        key.restore(copy, max(1, revision), engine.now_ns, how)
        self._world.witness.lost(f"restored to {copy.ledger.age} at revision {revision}")
        if engine.chance(0.5):
            self._world.stream.show()
        return True

    def _kill_pod(self) -> bool:
        return self._end_pod(lambda pod: pod.kill())

    def _leave_pod(self) -> bool:
        return self._end_pod(lambda pod: getattr(pod, "leave", pod.kill)())

    def _end_pod(self, end: Callable[[Process], None]) -> bool:
        pod = self._any_pod()
        if pod is None or pod.is_paused:
            return False
        self._engine.note(pod.name, "is ended")
        end(pod)
        self._later(100 * MS, 10 * SECOND, self._world.restart_pod, pod.name)
        return True

    def _change_limits(self) -> bool:
        discord = self._world.discord
        discord.max_concurrency = self._engine.random.choice((1, 2, 3, 4, 6, 8))
        self._engine.note("DISCORD", f"max_concurrency is {discord.max_concurrency}")
        return True

    def _discord_away(self) -> bool:
        self._world.discord.fails = 1.0
        self._later(SECOND, 20 * SECOND, self._discord_back)
        return True

    def _discord_back(self) -> None:
        if not self._is_over:
            self._world.discord.fails = self._world.plan.discord.fails

    def _refresh(self) -> bool:
        leader = self._leader()
        if leader is None or leader.fetcher is None:
            return False
        leader.meet(leader.fetcher.request_refresh)
        return True

    def _beside(self) -> bool:
        world, now_ns = self._world, self._engine.now_ns
        day = world.discord.day
        left = day.remaining(now_ns)
        count = min(self._engine.random.randrange(1, 4), left)
        if not count:
            return False
        if self._engine.chance(0.5) and day.total > count + 1:
            world.witness.left.lowered(count, now_ns)
            day.change(now_ns, total=day.total - count, remaining=left - count)
        else:
            world.witness.left.beside(count, now_ns)
            for _ in range(count):
                day.spend(now_ns)
        return True

    def _everybody(self) -> bool:
        for coordinator in list(self._world.coordinators.values()):
            self._kill(coordinator)
        return True
