"""The judge, against Discord's rules alone: no clock, no socket."""

import random

import pytest

from nats_identify.clock import NS_PER_MS, NS_PER_S
from nats_identify.testing.judge import DAY_NS, WINDOW_NS, Day, Judge, Verdict

ACCEPTED, TOO_EARLY, OVER_LIMIT = Verdict.ACCEPTED, Verdict.TOO_EARLY, Verdict.OVER_LIMIT


def judge_with(total: int = 1000, remaining: int | None = None) -> Judge:
    return Judge(Day(0, total=total, remaining=remaining))


def test_exactly_one_window_is_allowed_and_one_nanosecond_less_is_not() -> None:
    assert WINDOW_NS == 5_000_000_000
    judge = judge_with()
    assert judge.identify(7, 0, 1).verdict is ACCEPTED
    assert judge.identify(7 + WINDOW_NS, 1, 1).verdict is ACCEPTED
    assert judge.identify(7 + 2 * WINDOW_NS - 1, 2, 1).verdict is TOO_EARLY


def test_buckets_do_not_hold_each_other_back() -> None:
    judge = judge_with()
    verdicts = [judge.identify(shard_id, shard_id, 16).verdict for shard_id in range(17)]
    assert verdicts == [ACCEPTED] * 16 + [TOO_EARLY]


def test_a_refused_identify_restarts_its_window() -> None:
    judge = judge_with()
    judge.identify(0, 0, 1)
    assert judge.identify(WINDOW_NS - 1, 0, 1).verdict is TOO_EARLY
    again = judge.identify(WINDOW_NS, 0, 1)
    assert (again.verdict, again.gap_ns) == (TOO_EARLY, 1)


def test_the_gap_is_told_beyond_the_window_too() -> None:
    judge = judge_with()
    assert judge.identify(0, 0, 2).gap_ns is None
    assert judge.identify(1, 1, 2).gap_ns is None
    assert judge.identify(9 * NS_PER_S, 2, 2).gap_ns == 9 * NS_PER_S


@pytest.mark.parametrize(
    ("earlier", "later", "verdict"),
    [
        ((0, 2), (4, 4), TOO_EARLY),  # buckets 0 and 0 under both
        ((0, 2), (2, 4), TOO_EARLY),  # 0 and 2 under 4, but 0 and 0 under 2
        ((0, 4), (2, 2), TOO_EARLY),  # the same, the other way round
        ((0, 3), (4, 4), TOO_EARLY),  # 0 and 1 under 3, but 0 and 0 under 4
        ((0, 2), (1, 4), ACCEPTED),  # apart under both
        ((0, 4), (2, 4), ACCEPTED),  # two under 4 are judged by 4 alone
    ],
)
def test_across_a_change_of_max_concurrency_both_numberings_bind(
    earlier: tuple[int, int], later: tuple[int, int], verdict: Verdict
) -> None:
    judge = judge_with()
    judge.identify(0, *earlier)
    assert judge.identify(WINDOW_NS - 1, *later).verdict is verdict


def test_a_third_numbering_binds_nobody_who_did_not_use_it() -> None:
    judge = judge_with()
    judge.identify(0, 0, 4)
    judge.identify(1, 3, 2)
    assert judge.identify(2, 2, 4).verdict is ACCEPTED  # 0 and 2 share a bucket under 2, which neither used


def test_after_a_window_the_old_numbering_is_forgotten() -> None:
    judge = judge_with()
    judge.identify(0, 0, 2)
    assert judge.identify(WINDOW_NS, 2, 4).verdict is ACCEPTED


def test_it_agrees_with_a_judge_that_compares_every_pair() -> None:
    draw = random.Random(5)
    for _ in range(200):
        judge, earlier, at_ns = judge_with(), list[tuple[int, int, int]](), 0
        for _ in range(30):
            at_ns += draw.choice((0, 1, NS_PER_S, WINDOW_NS - 1, WINDOW_NS))
            shard_id, m = draw.randrange(8), draw.choice((1, 2, 3, 4))
            conflicts = any(
                at_ns - then < WINDOW_NS and (shard_id % m == other % m or shard_id % n == other % n)
                for then, other, n in earlier
            )
            expected = TOO_EARLY if conflicts else ACCEPTED
            assert judge.identify(at_ns, shard_id, m).verdict is expected
            earlier.append((at_ns, shard_id, m))


def test_the_last_start_of_a_day_is_allowed_and_the_next_is_over_the_limit() -> None:
    judge = judge_with(total=1000, remaining=2)
    verdicts = [judge.identify(n * WINDOW_NS, 0, 1).verdict for n in range(4)]
    assert verdicts == [ACCEPTED, ACCEPTED, OVER_LIMIT, OVER_LIMIT]


def test_a_refused_identify_is_spent() -> None:
    judge = judge_with(total=10)
    judge.identify(0, 0, 1)
    judge.identify(0, 0, 1)
    assert judge.day.remaining(0) == 8


def test_a_day_begins_with_its_first_identify_and_ends_on_time() -> None:
    judge = judge_with(total=1)
    assert judge.day.reset_after_ms(NS_PER_S) == 0
    judge.identify(NS_PER_S, 0, 1)
    assert judge.day.reset_after_ms(NS_PER_S) == DAY_NS // NS_PER_MS
    assert judge.day.reset_after_ms(NS_PER_S + DAY_NS - 1) == 1
    assert judge.identify(NS_PER_S + DAY_NS - 1, 0, 1).verdict is OVER_LIMIT
    assert judge.day.remaining(NS_PER_S + DAY_NS) == 1
    assert judge.day.reset_after_ms(NS_PER_S + DAY_NS) == 0


def test_a_day_that_was_used_before_the_start_is_running() -> None:
    day = Day(0, total=1000, remaining=999, length_ns=NS_PER_S)
    assert day.reset_after_ms(0) == 1000
    assert day.remaining(NS_PER_S) == 1000


def test_changed_figures_hold_at_once_and_what_is_not_named_stays() -> None:
    day = Day(0, total=1000)
    day.change(0, remaining=5)
    assert (day.total, day.remaining(0), day.reset_after_ms(0)) == (1000, 5, DAY_NS // NS_PER_MS)
    day.change(0, total=3)
    assert day.remaining(0) == 3
    day.change(0, length_ns=NS_PER_S)
    assert day.reset_after_ms(0) == 1000
    day.reset()
    assert (day.remaining(0), day.reset_after_ms(0)) == (3, 0)


@pytest.mark.parametrize("figures", [{"total": 0}, {"remaining": -1}, {"total": 5, "remaining": 6}, {"length_ns": 0}])
def test_figures_that_cannot_be_are_refused_and_change_nothing(figures: dict[str, int]) -> None:
    day = Day(0, total=1000, remaining=10)
    with pytest.raises(ValueError, match="give 0 <= remaining <= total"):
        day.change(0, **figures)
    assert (day.total, day.remaining(0)) == (1000, 10)


def test_arguments_that_cannot_be_are_refused() -> None:
    judge = judge_with()
    judge.identify(5, 0, 1)
    with pytest.raises(ValueError, match="judge in order"):
        judge.identify(4, 0, 1)
    with pytest.raises(ValueError, match="no bucket"):
        judge.identify(5, -1, 1)
    with pytest.raises(ValueError, match="no bucket"):
        judge.identify(5, 0, 0)
    with pytest.raises(ValueError, match="window"):
        Judge(Day(0), window_ns=0)


def test_memory_is_bounded_by_one_window_and_one_numbering() -> None:
    judge = Judge(Day(0, total=1_000_000))
    for n in range(2000):
        judge.identify(n * NS_PER_S, n, 1 + n % 7)
    assert len(judge._within_window) <= 5
    assert len(judge._latest_ns_of_bucket) <= 7
