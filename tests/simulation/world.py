"""One history: the cluster, the bot, Discord and everything between them, from a plan. It judges nothing itself."""

from collections.abc import Callable, Sequence
from typing import Any

from coordinator.core.settings import Settings
from nats_identify import wire
from nats_identify.schedule.model import Limits, Timing
from tests.simulation.chaos import Chaos
from tests.simulation.coordinator import Coordinator
from tests.simulation.discord import Discord
from tests.simulation.engine import Engine
from tests.simulation.operator import Operator
from tests.simulation.plain import PlainPod
from tests.simulation.plan import Plan, ReplicaPlan
from tests.simulation.rogue import PREFIX, Rogue
from tests.simulation.shards import Pod
from tests.simulation.store import FAIR, Stream
from tests.simulation.traffic import CALM, Traffic
from tests.simulation.witness import Witness

ENDLESS = 1_000_000
"""The budget that Discord gives once everything is well again, so that everybody's turn can come."""


def _no_outcome() -> None:
    """The default: READY has no receiver."""


class World:
    """Everything there is."""

    def __init__(self, plan: Plan, *, keep_lines: bool = False) -> None:
        self.plan = plan
        self.engine = Engine(plan.seed, keep_lines=keep_lines)
        self.traffic = Traffic(self.engine, plan.weather)
        self.stream = Stream(self.engine, plan.stream)
        self.discord = Discord(self.engine, plan.discord, min(timing.window_ns for timing in plan.timings))
        self.witness = Witness(self)
        self.stream.applied = self.witness.applied
        self.discord.judged = self.witness.judged
        self.chaos = Chaos(self)
        self.coordinators: dict[str, Coordinator] = {}
        self.pods: dict[str, Pod | PlainPod | Rogue] = {}
        self.is_open = True
        self._lives = 0
        self._replicas = {replica.name: replica for replica in plan.replicas}

    def start(self) -> None:
        """Begin, everybody within a second of the others."""
        for name in self._replicas:
            self.engine.after(self.engine.between(0, 1_000_000_000), self.start_coordinator, name)
        for index, shard_ids in enumerate(self.plan.pods):
            self.engine.after(self.engine.between(0, 1_000_000_000), self._start_pod, f"pod{index}", shard_ids)
        for index, shard_ids in enumerate(self.plan.plain_pods):
            self.engine.after(self.engine.between(0, 1_000_000_000), self._start_plain, f"plain{index}", shard_ids)
        for index in range(self.plan.mix.rogues):
            self.engine.after(self.engine.between(0, 1_000_000_000), self._start_rogue, f"{PREFIX}{index}")
        self.chaos.start()
        if self.plan.operator_mean_ns:
            Operator(self).start()

    def start_coordinator(self, name: str) -> None:
        """Start this replica, if it does not run."""
        running = self.coordinators.get(name)
        if running is not None and running.is_alive:
            return
        self._lives += 1
        replica = self._replicas[name]
        timing, lease_ns, static = self.engine.random.choice(self._variants(replica))
        settings = Settings(
            name="one" if self.plan.has_one_name else name,
            prefix="identify",
            instance=f"{name}{self._lives}",
            timing=timing,
            lease_ns=lease_ns,
            fresh_start=self.plan.fresh_start,
            static=static,
            reserve=replica.reserve,
            **_guard(self.plan),
        )
        self.coordinators[name] = coordinator = Coordinator(self, name, settings)
        self.engine.note(coordinator.name, "starts")
        coordinator.start()
        others = [other for other in self.coordinators.values() if other is not coordinator and other.can_give]
        if others and self.plan.copies_queue:
            coordinator.take_queue(self.engine.random.choice(others))

    def _variants(self, replica: ReplicaPlan) -> Sequence[tuple[Timing, int, Limits | None]]:
        """The settings that it may start with: once all is well, none whose total is lower than Discord's."""
        total = self.plan.discord.total
        whole = [variant for variant in replica.variants if variant[2] is None or variant[2].total == total]
        if self.is_open or whole:
            return replica.variants if self.is_open else whole
        return [
            (timing, lease_ns, Limits(self.plan.discord.max_concurrency, total, total))
            for timing, lease_ns, _ in replica.variants
        ]

    def restart_pod(self, name: str) -> None:
        """Start a pod again, in the place of one that has ended."""
        pod = self.pods.pop(name, None)
        if pod is None:
            return  # it was ended twice
        if pod.is_alive:
            pod.kill()
        place = name.partition("_")[0]
        if isinstance(pod, Rogue):
            self._start_rogue(place)
        elif isinstance(pod, Pod):
            self._start_pod(place, pod.shard_ids)
        else:
            self._start_plain(place, pod.shard_ids)

    def identify(
        self, grant: wire.Granted, request_id: str, *, is_broken: bool, has_it: Callable[[], None] = _no_outcome
    ) -> None:
        """A shard writes IDENTIFY to its socket; ``has_it`` is called once Discord has it."""
        self.witness.identified(grant, request_id)
        if is_broken:
            self.witness.left.broken(self.engine.now_ns)
        else:
            self.discord.identify(grant, has_it)

    def heal(self) -> None:
        """Let nothing fail any more, and nobody new ask."""
        self.engine.note("CHAOS", "everything is well again")
        self.is_open = False
        self.chaos.stop()
        self.traffic.weather, self.stream.weather = CALM, FAIR
        self.stream.away_until_ns = self.stream.refuses_until_ns = 0
        self.discord.fails = self.discord.nonsense = 0.0
        if not self.plan.is_static:
            self.discord.day.change(self.engine.now_ns, total=ENDLESS, remaining=ENDLESS)
            self.witness.left.healed(self.engine.now_ns)
        for coordinator in list(self.coordinators.values()):
            coordinator.line.mend()
            coordinator.store.cut(is_cut=False)
            coordinator.resume()
            static = coordinator.settings.static
            if static is not None and static.total != self.plan.discord.total:
                coordinator.kill()  # its total may be spent for good
        for name in self._replicas:
            self.start_coordinator(name)
        for pod in self.pods.values():
            pod.line.mend()
            pod.resume()

    def _start_pod(self, place: str, shard_ids: tuple[int, ...]) -> None:
        self._lives += 1
        knows = self.engine.chance(self.plan.knows_limits)
        pod = Pod(self, f"{place}_{self._lives}", shard_ids, self.discord.max_concurrency if knows else None)
        self._begin(pod)

    def _start_plain(self, place: str, shard_ids: tuple[int, ...]) -> None:
        self._lives += 1
        self._begin(PlainPod(self, f"{place}_{self._lives}", shard_ids))

    def _start_rogue(self, place: str) -> None:
        self._lives += 1
        self._begin(Rogue(self, f"{place}_{self._lives}"))

    def _begin(self, pod: Pod | PlainPod | Rogue) -> None:
        self.pods[pod.name] = pod
        self.engine.note(pod.name, "starts")
        pod.start()


def _guard(plan: Plan) -> dict[str, Any]:
    loops = plan.crash_loop
    return {} if loops is None else {"crash_loop_grants": loops.grants, "crash_loop_period_ns": loops.period_ns}
