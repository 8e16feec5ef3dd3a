"""Discord changes max_concurrency while hundreds wait: a strict judge over both numberings, and the order of asking."""

import pytest

from nats_identify.schedule import model
from nats_identify.schedule.model import DAY, SECOND, Limits
from nats_identify.testing.judge import Verdict
from tests.limits.fleet import Fleet

SHARDS = 300


@pytest.mark.parametrize("steps", [(16, 4, 16), (1, 16), (16, 1), (8, 12, 3), (4, 0, 4), (4, -1, 5_000, 4), (6, 6)])
def test_nothing_is_lost_no_window_broken_and_each_bucket_keeps_its_order(steps):
    fleet = Fleet(seed=5, max_concurrency=steps[0])

    def discord_says(number):
        fleet.tell(model.LimitsFetched(Limits(number, 10**6, 10**6, DAY)))
        if 1 <= number <= model.BUCKETS_MAX:
            fleet.max_concurrency = number

    for shard_id in range(SHARDS):
        fleet.after(shard_id * SECOND // 100, fleet.ask, shard_id)  # in the order of their numbers
    for index, number in enumerate(steps[1:]):
        fleet.after((12 + 25 * index) * SECOND, discord_says, number)
    fleet.run(SHARDS * 7 * SECOND)
    assert sorted(judgement.shard_id for judgement in fleet.judged) == list(range(SHARDS))
    assert {judgement.verdict for judgement in fleet.judged} == {Verdict.ACCEPTED}
    numbers = [number for number in steps if 1 <= number <= model.BUCKETS_MAX]
    assert fleet.schedule.state.max_concurrency == fleet.known == numbers[-1]
    changed_ns = (12 + 25 * len(steps[1:])) * SECOND
    for bucket in range(numbers[-1]):
        served = [judged.shard_id for judged in fleet.judged if judged.at_ns > changed_ns and judged.bucket == bucket]
        assert served == sorted(served)
    if len(set(numbers)) > 1:
        assert fleet.wishes  # somebody still claimed the old number
