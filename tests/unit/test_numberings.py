"""A change of max_concurrency holds no bucket that the two numberings of the judge leave free."""

from itertools import product
from math import gcd, lcm

import pytest

from nats_identify.schedule.grants import Grant, Hold, HoldState, HoldTable
from nats_identify.testing.judge import Day, Judge, Verdict

NUMBERS = (1, 2, 3, 4, 6, 8)
PAIRS = [(m, n) for m, n in product(NUMBERS, NUMBERS) if m != n]


def blocked(shard_id, m, n):
    """Today's buckets, of n, that a grant made under m holds."""
    table = HoldTable(m)
    grant = Grant("g", "r", shard_id, shard_id % m, m, 0, 1)
    table.add(Hold(grant=grant, state=HoldState.IDENTIFIED, opens_at_ns=1))
    table.renumber(n)
    return {bucket for bucket in range(n) if table.opens_at_ns(bucket)}


def conflicts(shard_id, m, other_id, n):
    """Whether the judge finds an IDENTIFY under n too early, right after one under m."""
    judge = Judge(Day(0))
    judge.identify(0, shard_id, m)
    return judge.identify(1, other_id, n).verdict is Verdict.TOO_EARLY


@pytest.mark.parametrize(("m", "n"), PAIRS)
def test_a_bucket_is_held_exactly_if_a_shard_of_it_would_be_too_early(m, n):
    for shard_id in range(lcm(m, n)):
        early = {other % n for other in range(lcm(m, n)) if conflicts(shard_id, m, other, n)}
        assert blocked(shard_id, m, n) == early


@pytest.mark.parametrize(("m", "n"), [(m, n) for m, n in PAIRS if gcd(m, n) == min(m, n)])
def test_where_one_number_divides_the_other_every_shard_of_a_held_bucket_would_be_too_early(m, n):
    for shard_id, other in product(range(lcm(m, n)), range(lcm(m, n))):
        assert conflicts(shard_id, m, other, n) is (other % n in blocked(shard_id, m, n))
