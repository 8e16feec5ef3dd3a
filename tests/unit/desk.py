"""A schedule on a desk: time moved by hand, a ledger that always agrees. It asserts only what must always hold."""

from itertools import count

from nats_identify.schedule import model
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.model import MS, SECOND, Limits, Outcome, Timing
from nats_identify.schedule.scheduler import Scheduler
from tests.invariants import check_small
from tests.view import buckets_of, view_of


class Desk:
    """A leading schedule whose every grant is committed at once, and all that it ever said."""

    def __init__(
        self,
        max_concurrency=1,
        *,
        total=1000,
        remaining=None,
        reserve=0,
        timing=None,
        static=True,
        max_waiting=1000,
        guard=None,
    ):
        self.timing = timing or Timing()
        budget = SessionBudget(reserve=reserve, static=static)
        if total is not None:
            left = total if remaining is None else remaining
            budget.set(Limits(max_concurrency, total, left), unconfirmed_count=0, now_ns=0)
        names = count(1)
        self.schedule = Scheduler(
            self.timing,
            budget,
            guard,
            max_concurrency=max_concurrency,
            name_grant=lambda: f"g{next(names)}",
            max_waiting=max_waiting,
        )
        self.now_ns = 1_000 * SECOND
        self.said: list[model.ScheduleAction] = []

    def tell(self, event, *, after_ms=0):
        """Let time pass, tell one event, and return what is said from then on."""
        self.pass_ms(after_ms)
        before = len(self.said)
        self.said += self.schedule.handle(event, self.now_ns)
        self._release()
        return self.said[before:]

    def pass_ms(self, duration_ms):
        """Move time forward, stopping at every deadline on the way."""
        before = len(self.said)
        end_ns = self.now_ns + int(duration_ms * MS)
        while (deadline_ns := self.schedule.next_deadline_ns()) is not None and deadline_ns <= end_ns:
            self.now_ns = max(self.now_ns, deadline_ns)
            self.said += self.schedule.handle(model.Wake(), self.now_ns)
            self._release()
        self.now_ns = end_ns
        return self.said[before:]

    @property
    def view(self):
        """What the schedule has now."""
        return view_of(self.schedule)

    def ask(self, shard_id, *, after_ms=0, **fields):
        """Ask for a managed turn; the request is named after the shard unless named otherwise."""
        m = buckets_of(self.schedule)
        fields = {"request_id": f"r{shard_id}", "managed": True, "bucket": shard_id % m, **fields}
        fields.setdefault("reply_to", f"inbox.{fields['request_id']}")
        return self.tell(model.RequestReceived(shard_id=shard_id, **fields), after_ms=after_ms)

    def answer(self, grant_id, outcome=Outcome.IDENTIFIED, *, after_ms=0):
        return self.tell(model.Confirmation(grant_id, outcome), after_ms=after_ms)

    def _release(self):
        grants, actions = self.schedule.grant_due(self.now_ns)
        self.said += actions
        self.said += self.schedule.on_committed(grants, self.now_ns)
        check_small(self.schedule)


def replies(actions, kind=model.Granted):
    """The reply bodies of one kind."""
    return [a.body for a in actions if isinstance(a, model.Reply) and isinstance(a.body, kind)]


def granted(actions):
    """The shards granted, in order."""
    return [body.shard_id for body in replies(actions)]


def events(actions):
    """The names of what happened."""
    return [a.name for a in actions if isinstance(a, model.Event)]


def only(bodies):
    assert len(bodies) == 1, bodies
    return bodies[0]


def line_of(desk, bucket=0):
    """The requests of a bucket, in their order."""
    return list(desk.view.queues.get(bucket, ()))


def busy(max_concurrency=1):
    """A desk whose first bucket was used right now by somebody else."""
    desk = Desk(max_concurrency)
    desk.ask(0, request_id="used")
    desk.answer("g1")
    return desk
