"""The schedule alone against a dumb model: a list of every IDENTIFY, and a list of every turn. It knows no hold."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nats_identify.schedule import model
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.grants import Hold
from nats_identify.schedule.model import DAY, MS, SECOND, Granted, Limits, Outcome, Reply, Timing
from nats_identify.schedule.scheduler import Scheduler
from tests.view import knows_request, remaining_of

TIMING = Timing(window_ns=2 * SECOND, margin_ns=100 * MS, use_within_ns=1500 * MS)
LATE_MAX_MS = 200
QUIET_ROUNDS = 40
"""Of 300 ms: 12 s, longer than every hold. After so long without a grant there will be none."""


@dataclass
class Turn:
    """What a shard knows of one grant."""

    grant: Granted
    use_by_ns: int
    decided: Outcome | None = None


@dataclass
class Shard:
    """One request, as its requester keeps it."""

    shard_id: int
    priority: int
    first_asked_ns: int
    sent_ns: list[int] = field(default_factory=list)  # by renewal
    heard_ns: int = 0
    is_over: bool = False
    passes: bool = False  # it declined, or was not reached, and has not renewed since
    is_promised: bool = False  # it was told that it is next
    is_behind: bool = False  # when it was first heard of, another one had been told so


class ScheduleMachine(RuleBasedStateMachine):
    """Shards, a commit that takes time, answers that are late, lost or doubled, and a number that changes."""

    @initialize(number=st.integers(1, 4), total=st.sampled_from([3, 8, 100]))
    def begin(self, number, total):
        self.now_ns = 10 * SECOND
        self.number, self.total = number, total
        budget = SessionBudget(static=False)
        budget.set(Limits(number, total, total, DAY), unconfirmed_count=0, now_ns=self.now_ns)
        names = iter(range(10**6))
        self.schedule = Scheduler(TIMING, budget, max_concurrency=number, name_grant=lambda: f"g{next(names)}")
        self.schedule.become_leader(self.now_ns)
        self.shards: dict[str, Shard] = {}
        self.turns: dict[str, Turn] = {}
        self.identifies: list[tuple[int, int, int]] = []  # when, which shard, under which number
        self.answers: list[tuple[str, Outcome]] = []
        self.committing: list[Hold] = []
        self.uncommitted = 0
        self.asked_figure: int | None = None

    # --- what shards do

    @rule(shard_id=st.integers(0, 11), priority=st.sampled_from([0, 0, 0, 1]), late_ms=st.integers(0, LATE_MAX_MS))
    def ask(self, shard_id, priority, late_ms):
        request_id = f"r{len(self.shards)}"
        self.shards[request_id] = Shard(shard_id, priority, self.now_ns)
        self.send(request_id, late_ms)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), late_ms=st.integers(0, LATE_MAX_MS))
    def renew(self, data, late_ms):
        self.send(data.draw(st.sampled_from(self.waiting())), late_ms)

    @precondition(lambda self: self.usable())
    @rule(data=st.data(), is_told=st.sampled_from(["at once", "later", "never"]))
    def identify(self, data, is_told):
        turn = self.turns[data.draw(st.sampled_from(self.usable()))]
        self.judge(turn.grant)
        turn.decided = Outcome.IDENTIFIED
        self.shards[turn.grant.request_id].is_over = True
        if is_told == "at once":
            self.tell(model.Confirmation(turn.grant.grant_id, Outcome.IDENTIFIED))
        elif is_told == "later":
            self.answers.append((turn.grant.grant_id, Outcome.IDENTIFIED))

    @precondition(lambda self: self.usable())
    @rule(data=st.data())
    def identify_at_the_last_moment(self, data):
        """And die: nobody is told."""
        turn = self.turns[data.draw(st.sampled_from(self.usable()))]
        self.pass_until(turn.use_by_ns)
        self.judge(turn.grant)
        turn.decided = Outcome.IDENTIFIED
        self.shards[turn.grant.request_id].is_over = True

    @precondition(lambda self: self.usable())
    @rule(data=st.data())
    def decline(self, data):
        turn = self.turns[data.draw(st.sampled_from(self.usable()))]
        turn.decided = Outcome.DECLINED
        self.shards[turn.grant.request_id].passes = True
        self.tell(model.Confirmation(turn.grant.grant_id, Outcome.DECLINED))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), is_kept=st.booleans())
    def answer_arrives(self, data, is_kept):
        answer = data.draw(st.sampled_from(self.answers))
        if not is_kept:  # otherwise it comes twice
            self.answers.remove(answer)
        self.tell(model.Confirmation(*answer))

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def withdraw(self, data):
        request_id = data.draw(st.sampled_from(self.waiting()))
        self.shards[request_id].is_over = True
        self.tell(model.Cancel(request_id))

    # --- what happens to them

    @rule(ms=st.sampled_from([1, 50, 300, 1_000, 4_000]))
    def pass_time(self, ms):
        self.pass_until(self.now_ns + ms * MS)

    def pass_until(self, end_ns):
        while (due_ns := self.schedule.next_deadline_ns()) is not None and due_ns <= end_ns and not self.committing:
            self.now_ns = max(self.now_ns, due_ns)
            self.tell(model.Wake())
        self.now_ns = end_ns
        self.tell(model.Wake())

    @precondition(lambda self: self.committing)
    @rule()
    def commit(self):
        holds, self.committing = self.committing, []
        self.hear(self.schedule.on_committed(holds, self.now_ns))
        self.release()

    @rule(number=st.integers(1, 4))
    def limits_change(self, number):
        """Discord is asked and answers at once, of what it has counted: the IDENTIFYs that were sent."""
        self.number = number
        self.tell(model.LimitsFetchStarted())
        left = max(0, self.total - len(self.identifies))
        self.tell(model.LimitsFetched(Limits(number, self.total, left, DAY)))

    # --- the model

    def waiting(self):
        return [request_id for request_id, shard in self.shards.items() if not shard.is_over]

    def usable(self):
        return [
            grant_id
            for grant_id, turn in self.turns.items()
            if turn.decided is None and not self.shards[turn.grant.request_id].is_over and self.now_ns <= turn.use_by_ns
        ]

    def judge(self, grant):
        now_ns, shard_id, number = self.now_ns, grant.shard_id, grant.max_concurrency
        for at_ns, other_id, other in self.identifies:
            shares = shard_id % number == other_id % number or shard_id % other == other_id % other
            assert not shares or now_ns - at_ns >= TIMING.window_ns, "two IDENTIFYs within a window"
        self.identifies.append((now_ns, shard_id, number))
        assert len(self.identifies) <= self.total, "over the day's limit"

    def send(self, request_id, late_ms):
        shard = self.shards[request_id]
        shard.sent_ns.append(self.now_ns)
        waited_ns = self.now_ns - shard.first_asked_ns
        self.now_ns += late_ms * MS
        shard.heard_ns, shard.passes = self.now_ns, False
        renewal, bucket = len(shard.sent_ns) - 1, shard.shard_id % self.number
        is_heard_of_anew = not knows_request(self.schedule, request_id)  # for the first time, or it had expired
        shard.is_behind = (is_heard_of_anew or shard.is_behind) and self.is_promised_before(shard, bucket)
        options = {"max_concurrency": self.number, "priority": shard.priority, "managed": True, "renewal": renewal}
        options["waited_ns"] = waited_ns
        self.tell(model.RequestReceived(request_id, shard.shard_id, bucket, request_id, **options))

    def tell(self, event):
        self.hear(self.schedule.handle(event, self.now_ns))
        self.release()

    def release(self):
        """As a coordinator's loop: one commit at a time."""
        if self.committing:
            return
        holds, actions = self.schedule.grant_due(self.now_ns)
        for hold in holds:
            self.is_first(hold.grant)
        self.committing = list(holds)
        self.hear(actions)

    def is_first(self, grant):
        """Nobody fresh of its bucket stands before it."""
        mine = self.shards[grant.request_id]
        served = {turn.grant.request_id for turn in self.turns.values() if self.now_ns <= turn.use_by_ns}
        served |= {hold.grant.request_id for hold in self.committing}
        assert self.now_ns - mine.heard_ns <= TIMING.fresh_ns, "a stale renewal is granted"
        for request_id, other in self.shards.items():
            if other.is_over or other.passes or request_id in served or request_id == grant.request_id:
                continue
            if other.shard_id % self.number != grant.bucket or self.now_ns - other.heard_ns > TIMING.fresh_ns:
                continue
            before = (-other.priority, other.first_asked_ns + LATE_MAX_MS * MS) < (-mine.priority, mine.first_asked_ns)
            before = before and not (other.is_behind and other.priority == mine.priority)
            assert not before or self.may_be_silent(request_id), f"{grant.request_id} overtakes {request_id}"

    def is_promised_before(self, shard, bucket):
        """One of its bucket was told that it is next, and may be waiting: who is heard of later stands behind it."""
        return any(
            other is not shard and other.is_promised and other.shard_id % self.number == bucket
            for other in self.shards.values()
            if not other.is_over and other.priority == shard.priority
        )

    def may_be_silent(self, request_id):
        """Its last turn may have come to nothing: a newer renewal than the one granted brings it back."""
        renewal = len(self.shards[request_id].sent_ns) - 1
        return any(t.grant.request_id == request_id and t.grant.renewal >= renewal for t in self.turns.values())

    def hear(self, actions):
        for action in actions:
            if isinstance(action, Reply) and isinstance(action.body, model.Queued) and action.body.position == 1:
                self.shards[action.body.request_id].is_promised = True
            if isinstance(action, Reply) and isinstance(action.body, Granted):
                grant = action.body
                known = self.turns.get(grant.grant_id)
                if known is not None:
                    assert identity_of(known.grant) == identity_of(grant), "another grant of the same name"
                    continue
                sent_ns = self.shards[grant.request_id].sent_ns[grant.renewal]
                self.turns[grant.grant_id] = Turn(grant, sent_ns + grant.use_within_ns)

    @invariant()
    def what_is_left_was_left_by_somebody(self):
        """What may still be granted, what may still be used, and what was used, are the day's limit at most."""
        if not hasattr(self, "schedule"):
            return
        left = remaining_of(self.schedule)
        assert left is not None
        assert left + len(self.usable()) + len(self.committing) + len(self.identifies) <= self.total

    def teardown(self):
        """All is well again: everybody who waits has a turn, and no more than the day allows."""
        if not hasattr(self, "schedule"):
            return
        self.commit()
        quiet_rounds = 0
        while self.waiting() and quiet_rounds < QUIET_ROUNDS:
            before = len(self.turns)
            for grant_id in self.usable():
                turn = self.turns[grant_id]
                self.judge(turn.grant)
                turn.decided = Outcome.IDENTIFIED
                self.shards[turn.grant.request_id].is_over = True
                self.tell(model.Confirmation(grant_id, Outcome.IDENTIFIED))
            for request_id in self.waiting():
                self.send(request_id, 0)
            self.pass_time(300)
            self.commit()
            quiet_rounds = 0 if len(self.turns) > before else quiet_rounds + 1
        remaining = remaining_of(self.schedule)
        assert remaining is not None
        assert not self.waiting() or remaining <= 0


def identity_of(grant):
    return (grant.request_id, grant.renewal, grant.bucket, grant.use_within_ns, grant.max_concurrency)


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    deadline=None,  # two noisy cores
    derandomize=True,  # the same examples in every run; the simulation is there for fresh ones
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
