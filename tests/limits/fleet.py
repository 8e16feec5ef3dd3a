"""A fleet in virtual time: the real schedule, a strict Discord, and a network between all of them. It asserts nothing.

Every message takes its time, each time another; what Discord refuses, its shard says and asks again.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from nats_identify.schedule import model
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import DAY, MS, SECOND, Limits, Outcome, Timing
from nats_identify.schedule.scheduler import Scheduler
from nats_identify.testing.judge import Day, Judge, Judgement, Verdict


@dataclass(slots=True)
class Wait:
    """One request that was granted: by whom, when it asked and when its turn came, and how many had one meanwhile."""

    shard_id: int
    asked_at_ns: int
    granted_at_ns: int
    grants_meanwhile: int


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One request under way."""

    shard_id: int
    request_id: str
    priority: int
    asked_at_ns: int
    grants_before: int
    renewal: int = 0
    is_granted: bool = False
    renewals: set[int] = field(default_factory=set)


class Fleet:
    """Shards, schedule and Discord.

    Args:
        latency_ms: of an IDENTIFY on its way to Discord, from the lowest to the highest; ``hop_ms``: of a message
            between a shard and the queue. ``ready_ms``: what Discord takes to answer an IDENTIFY, beside the way.
        timing: of the schedule.
        up: what a shard does once it is up.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        max_concurrency: int = 1,
        total: int = 10**6,
        reserve: int = 0,
        guard: CrashLoopGuard | None = None,
        latency_ms: tuple[float, float] = (20, 60),
        hop_ms: tuple[float, float] = (0.5, 3),
        ready_ms: tuple[float, float] = (0, 0),
        timing: Timing = Timing(),  # noqa: B008  # frozen
        up: Callable[["Fleet", int], None] = lambda _fleet, _shard_id: None,
    ) -> None:
        self.now_ns = 0
        self.random = random.Random(seed)
        self.max_concurrency = max_concurrency  # what Discord allows
        self.known = max_concurrency  # what the shards have heard of
        self.latency_ms, self.hop_ms, self.ready_ms, self.up = latency_ms, hop_ms, ready_ms, up
        budget = SessionBudget(reserve=reserve, static=True)
        budget.set(Limits(max_concurrency, total, total), unconfirmed_count=0, now_ns=0)
        names = count(1)
        self.schedule = Scheduler(
            timing, budget, guard, max_concurrency=max_concurrency, name_grant=lambda: f"g{next(names)}"
        )
        self.judge = Judge(Day(0, total=total, length_ns=DAY))
        self.judged: list[Judgement] = []
        self.waits: list[Wait] = []
        self.happened: list[tuple[int, model.Event]] = []
        self.grants = 0
        self.wishes = 0
        self._under_way: dict[str, QueuedRequest] = {}
        self._requests = count(1)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def after(self, delay_ns: float, call: Callable[..., None], *args: object) -> None:
        heapq.heappush(self._heap, (self.now_ns + int(delay_ns), next(self._order), call, args))

    def run(self, until_ns: int) -> None:
        """Let time pass: what is due first comes first, a message or the schedule's own deadline."""
        while True:
            deadline_ns = self.schedule.next_deadline_ns()
            first_ns = self._heap[0][0] if self._heap else None
            due = [at_ns for at_ns in (deadline_ns, first_ns) if at_ns is not None]
            if not due or min(due) > until_ns:
                break
            self.now_ns = max(self.now_ns, min(due))
            if first_ns is not None and first_ns <= self.now_ns:
                _, _, call, args = heapq.heappop(self._heap)
                call(*args)
            else:
                self.tell(model.Wake())
        self.now_ns = until_ns

    def ask(self, shard_id: int, priority: int = 0) -> None:
        """A shard wants a session."""
        request_id = f"r{next(self._requests)}"
        request = QueuedRequest(shard_id, request_id, priority, self.now_ns, self.grants)
        self._under_way[request_id] = request
        self._send(request)

    def tell(self, event: model.ScheduleEvent) -> None:
        actions = self.schedule.handle(event, self.now_ns)
        grants, more = self.schedule.grant_due(self.now_ns)
        self._perform([*actions, *more, *self.schedule.on_committed(grants, self.now_ns)])

    # --- messages

    def _hop_ns(self) -> float:
        return self.random.uniform(*self.hop_ms) * MS

    def _send(self, request: QueuedRequest) -> None:
        bucket, name = request.shard_id % self.known, request.request_id
        ask = model.RequestReceived(
            *(name, request.shard_id, bucket, name),
            managed=True,
            priority=request.priority,
            renewal=request.renewal,
            max_concurrency=self.known,
        )
        self.after(self._hop_ns(), self.tell, ask)

    def _renew(self, request: QueuedRequest, renewal: int) -> None:
        if not request.is_granted and request.renewal == renewal:
            request.renewal += 1
            self._send(request)

    def _perform(self, actions: list[model.ScheduleAction]) -> None:
        for action in actions:
            match action:
                case model.Event("granted"):
                    self.grants += 1
                case model.Reply(to, model.Granted() as body) if to in self._under_way:
                    self.after(self._hop_ns(), self._granted, self._under_way[to], body)
                case model.Reply(to, model.Queued(renew_in_ns=renew_in_ns)) if to in self._under_way:
                    request = self._under_way[to]
                    self.known = action.body.max_concurrency or self.known
                    self.after(renew_in_ns + self._hop_ns(), self._renew, request, request.renewal)
                case model.Event():
                    self.happened.append((self.now_ns, action))
                case model.FetchLimits():
                    self.wishes += 1

    def _granted(self, request: QueuedRequest, body: model.Granted) -> None:
        if request.is_granted:
            return
        request.is_granted = True
        del self._under_way[request.request_id]
        meanwhile = self.grants - request.grants_before - 1
        self.waits.append(Wait(request.shard_id, request.asked_at_ns, self.now_ns, meanwhile))
        self.after(self._hop_ns(), self.tell, model.Confirmation(body.grant_id, Outcome.IDENTIFIED))
        self.after(self.random.uniform(*self.latency_ms) * MS, self._arrive, request, body.grant_id)

    def _arrive(self, request: QueuedRequest, grant_id: str) -> None:
        judgement = self.judge.identify(self.now_ns, request.shard_id, self.max_concurrency)
        self.judged.append(judgement)
        back_ns = (self.random.uniform(*self.latency_ms) + self.random.uniform(*self.ready_ms)) * MS
        self.after(back_ns, self._heard, request, grant_id, judgement.verdict is Verdict.ACCEPTED)

    def _heard(self, request: QueuedRequest, grant_id: str, is_accepted: bool) -> None:  # called by the heap alone
        outcome = Outcome.READY if is_accepted else Outcome.REJECTED
        self.after(self._hop_ns(), self.tell, model.Confirmation(grant_id, outcome))
        if is_accepted:
            self.up(self, request.shard_id)
        else:
            self.after(self.random.uniform(1, 5) * SECOND, self.ask, request.shard_id, 1)  # as Discord's docs want
