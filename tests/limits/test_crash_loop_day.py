"""Ten pods in a crash loop for a day beside a hundred healthy shards: what is spent, and who waits for whom."""

from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import DAY, SECOND
from tests.limits.fleet import Fleet

LOOPING = range(10)
HEALTHY = range(10, 110)
BUDGET = 1_000
TURN_NS = 5 * SECOND + 200_000_000  # window and margin: one turn of a bucket


def up(fleet, shard_id):
    """A looping shard lives for some seconds, and claims the highest priority when it comes back."""
    if shard_id in LOOPING:
        fleet.after(fleet.random.uniform(1, 20) * SECOND, fleet.ask, shard_id, 10)


def a_day(guard, *, max_concurrency=1, seed=1):
    fleet = Fleet(seed=seed, max_concurrency=max_concurrency, total=BUDGET, reserve=10, guard=guard, up=up)
    for shard_id in LOOPING:
        fleet.after(fleet.random.uniform(0, 60) * SECOND, fleet.ask, shard_id, 10)
    for shard_id in HEALTHY:
        for _ in range(2):
            fleet.after(fleet.random.uniform(0, DAY), fleet.ask, shard_id)
    fleet.run(DAY)
    return fleet


def spent_by(fleet, shards):
    return sum(judgement.shard_id in shards for judgement in fleet.judged)


def report(fleet, name):
    healthy = [wait for wait in fleet.waits if wait.shard_id in HEALTHY]
    waits = [(wait.granted_at_ns - wait.asked_at_ns) / SECOND for wait in healthy]
    delayed = [wait for wait in healthy if wait.grants_meanwhile]
    print(
        f"\n{name}: {spent_by(fleet, LOOPING)} of {BUDGET} spent by the ten, {spent_by(fleet, HEALTHY)} by the others;"
        f" {len(waits)} healthy turns, {len(delayed)} behind another, the longest wait {max(waits, default=0):.2f} s"
    )


def test_ten_looping_pods_spend_a_fifth_of_the_day_at_most_and_delay_nobody():
    for max_concurrency in (1, 4):
        fleet = a_day(CrashLoopGuard(10), max_concurrency=max_concurrency)
        report(fleet, f"with the guard, max_concurrency {max_concurrency}")
        assert spent_by(fleet, LOOPING) <= BUDGET // 5
        assert spent_by(fleet, HEALTHY) == 2 * len(HEALTHY)
        for wait in fleet.waits:
            if wait.shard_id in HEALTHY:
                waited_ns = wait.granted_at_ns - wait.asked_at_ns
                assert waited_ns <= (wait.grants_meanwhile + 1) * TURN_NS
        looped = {happened.fields["shard_id"] for _, happened in fleet.happened if happened.name == "crash_loop"}
        assert looped == set(LOOPING)


def test_without_the_guard_they_spend_the_whole_day():
    fleet = a_day(None)
    report(fleet, "without")
    assert spent_by(fleet, LOOPING) > BUDGET * 4 // 5
    assert spent_by(fleet, HEALTHY) < len(HEALTHY)


def test_hundreds_of_healthy_shards_are_never_held_back():
    """Two deploys an hour apart, and two restarts of each besides."""
    fleet = Fleet(seed=3, max_concurrency=16, total=10_000, guard=CrashLoopGuard(10))
    for shard_id in range(500):
        for at_ns in (0, 3_600 * SECOND, fleet.random.uniform(0, DAY), fleet.random.uniform(0, DAY)):
            fleet.after(at_ns, fleet.ask, shard_id)
    fleet.run(DAY)
    assert len(fleet.judged) == 2_000
    assert not [happened for _, happened in fleet.happened if happened.name == "crash_loop"]
    assert fleet.schedule.state.guard.ages(fleet.now_ns) == ()
