"""What must hold of a schedule's state after each event: `check` raises AssertionError, in a sentence, if it does not.

It reads private fields on purpose, so that an index that contradicts another is found before it does harm. It changes
nothing. It looks at everything, so its time grows with the queue: harnesses call it below `CHECKED_MAX` requests.
"""

from collections import Counter
from itertools import pairwise

from coordinator.core.replica import Replica, Role
from nats_identify.schedule.bucket_queue import BucketQueue, QueuedRequest
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.grants import GlobalHold, Hold, HoldState, HoldTable
from nats_identify.schedule.requests import ENDED_MAX, RequestTable
from nats_identify.schedule.scheduler import Scheduler
from nats_identify.schedule.senders import digest_of, sender_of
from nats_identify.schedule.state import EARLY_CONFIRMS_MAX, ScheduleState
from nats_identify.schedule.timers import SPARE_MAX, Timer, TimerKind, Timers

CHECKED_MAX = 100
"""With more requests the harnesses of the unit tests check no more: some tests are about a hundred thousand."""


def check_small(schedule: Scheduler) -> None:
    """Check the state if few requests are known."""
    if len(schedule.state.requests.by_id) <= CHECKED_MAX:
        check(schedule.state)


def check_replica(replica: Replica) -> None:
    """A replica leads with a lease, and its schedule knows it; one that leaves may still have the lock."""
    is_leader = bool(replica.lease_until_ns)
    state = replica.schedule.state
    assert state.is_leading is is_leader, f"a {replica.role.value} whose schedule has is_leading {state.is_leading}"
    may_lead = replica.role in {Role.LEADER, Role.LEAVING}
    assert may_lead or not is_leader, f"a {replica.role.value} with a lease"
    assert is_leader or replica.role is not Role.LEADER, "a leader without a lease"
    assert is_leader or not replica.schedule.has_unsent, f"a {replica.role.value} with replies that wait for a commit"
    seen = replica.view.ledger
    age = (0, 0) if seen is None else seen.age
    assert replica.view.newest_age >= age, f"an entry of age {age} is newer than the newest seen"
    assert not is_leader or seen is None or replica.term >= seen.term, f"a leader of term {replica.term} after a newer"
    check_small(replica.schedule)


def check(state: ScheduleState) -> None:
    """The requests, the holds, the budget and the timers agree with each other, and each with itself."""
    check_requests(state.requests)
    check_holds(state.holds)
    check_budget(state.budget)
    check_timers(state.timers)
    buckets = state.max_concurrency or 1
    assert state.requests.max_concurrency == buckets, (
        f"{buckets} buckets, and queues of {state.requests.max_concurrency}"
    )
    assert state.holds._max_concurrency == buckets, f"{buckets} buckets, and holds of {state.holds._max_concurrency}"
    _check_links(state)
    timers = state.timers._set
    requests, timed = state.requests.by_id.keys(), timers[TimerKind.REQUEST].keys()
    assert requests == timed, f"these requests have no timer, or these timers no request: {requests ^ timed}"
    for each in state.holds.all():
        assert _id(each) in timers[TimerKind.HOLD], f"the hold of {_id(each)} has no timer: it would never end"
    is_timed = state.budget.resets_at_ns is None or bool(timers[TimerKind.BUDGET])
    assert is_timed or not state.is_leading, "the day has an end, and no timer"
    for kept in (state._used, state._early_confirms):
        assert len(kept) <= EARLY_CONFIRMS_MAX, f"{len(kept)} grants or confirms are kept, {EARLY_CONFIRMS_MAX} at most"
    assert state.is_leading or not state.unsent, "a standby keeps replies for a commit"
    ends_ns = None if state.paused is None else state.paused.ends_ns
    assert ends_ns is None or not state.is_leading or bool(timers[TimerKind.PAUSE]), (
        "the pause has an end, and no timer"
    )


def _check_links(state: ScheduleState) -> None:
    """A request that has a grant is the one that the grant serves, and the reverse."""
    for name, request in state.requests.by_id.items():
        if request.grant_id is None:
            continue
        hold = state.holds.get(request.grant_id)
        assert isinstance(hold, Hold), f"{name} has the grant {request.grant_id}, which has no hold"
        assert hold.grant.request_id == name, f"{name} has the grant {request.grant_id} of {hold.grant.request_id}"
        assert hold.state.outcome is None, f"{name} still waits, and its grant is {hold.state}"
    for hold in state.holds:
        name, request_id = hold.grant.grant_id, hold.grant.request_id
        served = state.requests.get(request_id)
        assert served is None or served.grant_id is not None, f"{request_id} is queued, and has the grant {name}"
        is_own = hold.state in {HoldState.UNCOMMITTED, HoldState.UNANSWERED}
        assert state.is_leading or not is_own, f"a standby has the grant {name}, {hold.state}"
        assert hold.state is not HoldState.INHERITED or not hold.publish_count, f"{name} is inherited and published"


def check_requests(table: RequestTable) -> None:
    """Each request is either in the queue of its bucket, once, or granted; each is counted for its sender."""
    queued: set[str] = set()
    for bucket, queue in table.queues.items():
        check_queue(queue)
        assert len(queue) > 0, f"bucket {bucket} has an empty queue"
        for request in queue:
            name, right = request.message.request_id, request.message.shard_id % table.max_concurrency
            assert bucket == request.bucket == right, f"{name} is queued in bucket {bucket} and belongs to {right}"
            assert table.by_id.get(name) is request, f"{name} is queued and not known"
            assert request.grant_id is None, f"{name} is queued and granted"
            queued.add(name)
    for name, request in table.by_id.items():
        assert name == request.message.request_id, f"{request.message.request_id} is known as {name}"
        assert name in queued or request.grant_id is not None, f"{name} is neither queued nor granted"
        assert name not in table._ended, f"{name} has ended and is still known"
    assert len(table.by_id) <= table.max_waiting, f"{len(table.by_id)} requests, {table.max_waiting} at most"
    assert len(table._ended) <= ENDED_MAX, f"{len(table._ended)} ended requests, {ENDED_MAX} at most"
    subjects = Counter(request.message.reply_to for request in table.by_id.values())
    senders: Counter[int] = Counter()
    for subject, count in subjects.items():
        senders[digest_of(sender_of(subject))] += count
    counted = table._senders._counts
    assert counted == dict(senders), (
        f"counted by sender: {sorted(counted.values())}; waiting: {sorted(senders.values())}"
    )


def check_queue(queue: BucketQueue) -> None:
    """It is in order, and its sources and promises are those of the requests that are in it."""
    requests = {request.message.request_id: request for request in queue}
    assert len(requests) == len(queue), "a request is in a queue twice"
    for place, after in pairwise(queue._places):
        assert place[:-1] < after[:-1], f"{_name(after[-1])} is queued behind {_name(place[-1])}, against the order"
    for place in queue._places:
        assert place == queue._place(place[-1]), f"{_name(place[-1])} has changed and kept its place"
    for name, request in queue._promised.items():
        assert requests.get(name) is request, f"{name} was promised its turn and is not queued"
    kept = 0
    for priority, families in queue._siblings.items():
        assert families, f"no source is left in priority {priority}, and it is kept"
        for source, family in families.items():
            siblings = family if isinstance(family, list) else [family]
            assert siblings, f"no request is left of source {source}, and it is kept"
            kept += len(siblings)
            for one in siblings:
                assert requests.get(_name(one)) is one, f"{_name(one)} is kept for its source and is not queued"
                own = (one.message.priority, one.message.source)
                assert own == (priority, source), f"{_name(one)} of {own} is kept for {(priority, source)}"
                assert not one.deferred_until_ns, f"{_name(one)} is deferred and kept for its source"
            for one, later in pairwise(siblings):
                is_in_order = one.message.asked_us <= later.message.asked_us and one.place_ns <= later.place_ns
                assert is_in_order, f"{_name(one)} and {_name(later)} of one source are not in the order they were made"
    of_a_source = sum(1 for one in queue if one.message.source and not one.deferred_until_ns)
    assert kept == of_a_source, f"{of_a_source} requests have a source, and {kept} are kept by source"


def check_holds(table: HoldTable) -> None:
    """Each hold is in each index once, and blocks its buckets for as long as it says."""
    placed: dict[str, Hold | GlobalHold] = dict(table._global)
    for blocked in (table._here, table._elsewhere):
        for (step, residue), holds in blocked.items():
            assert holds, f"bucket {residue} modulo {step} is blocked by nothing"
            placed |= holds
    assert placed == table._holds, f"these holds block nothing, or have ended: {placed.keys() ^ table._holds.keys()}"
    for request_id, hold in table._by_request.items():
        name = hold.grant.grant_id
        is_live = table._holds.get(name) is hold and hold.grant.request_id == request_id
        assert is_live, f"{request_id} is served by {name}, which has ended or serves {hold.grant.request_id}"
    uncommitted: set[int] = set()
    for hold in table:
        name = hold.grant.grant_id
        assert table._holds.get(name) is hold, f"the hold of {name} is kept under another name"
        assert hold.grant.request_id in table._by_request, f"{name} is live, and its request is served by none"
        is_confirmed = hold.state.outcome is not None
        assert is_confirmed is (hold.identified_at_ns is not None), f"{name} is {hold.state}, and its confirm says else"
        if hold.state is HoldState.UNCOMMITTED:
            assert hold.grant.bucket not in uncommitted, f"bucket {hold.grant.bucket} has two uncommitted grants"
            uncommitted.add(hold.grant.bucket)
    for each in table.all():
        for bucket in table.buckets_of(each):
            assert table.opens_at_ns(bucket) >= each.opens_at_ns, f"bucket {bucket} opens before {_id(each)} ends"


def check_budget(budget: SessionBudget) -> None:
    """Its figures agree."""
    assert budget.remaining is None or budget.total is not None, f"{budget.remaining} are left of an unknown total"
    assert not budget.is_begun or budget.resets_at_ns is not None, "the day has begun, and has no end"
    assert budget.day.late >= 0, f"{budget.day.late} grants are charged to the next day"
    assert not budget.day.late or budget.day.first_ns is not None, "grants are charged to the day after none"
    left = None if budget.known is None else max(0, budget.known)
    assert budget.left == left, f"{budget.left} are left for people, and {left} in truth"


def check_timers(timers: Timers) -> None:
    """Each timer that is set falls due, and not too many that were replaced are kept."""
    heap = set(timers._heap)
    for kind, keys in timers._set.items():
        for key, at_ns in keys.items():
            assert Timer(at_ns, kind, key) in heap, f"the timer of {kind.name} {key} is set and would never be due"
    standing = sum(map(len, timers._set.values()))
    assert len(timers._heap) <= 2 * standing + SPARE_MAX, f"{len(timers._heap)} timers are kept for {standing}"


def _name(request: QueuedRequest) -> str:
    return request.message.request_id


def _id(hold: Hold | GlobalHold) -> str:
    return hold.grant_id if isinstance(hold, GlobalHold) else hold.grant.grant_id
