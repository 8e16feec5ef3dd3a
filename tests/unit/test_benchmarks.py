"""The benchmark's statistics, tables and judge: what its figures rest on."""

import io
import json
from itertools import pairwise

import pytest

from benchmarks.figures import percentile, ratio, up_at_end, up_since_s, up_steps
from benchmarks.judged_buckets import JudgedBuckets
from benchmarks.progress import Progress
from benchmarks.results import Outcome, Results, Row, show, table
from benchmarks.scenarios.every import EVERY
from nats_identify.clock import NS_PER_MS, NS_PER_S
from nats_identify.testing.events import BecameReady, Disconnected, HeartbeatMissed
from nats_identify.testing.judge import Day, Judge, Verdict


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 10.0), (10, 10.0), (11, 20.0), (50, 50.0), (90, 90.0), (99, 100.0), (100, 100.0)]
)
def test_a_percentile_is_the_smallest_value_that_so_much_does_not_exceed(percent, expected):
    shuffled = [70.0, 10.0, 100.0, 30.0, 50.0, 90.0, 20.0, 80.0, 40.0, 60.0]
    assert percentile(shuffled, percent) == expected


def test_a_percentile_of_nothing_is_not_known_and_of_more_than_all_is_an_error():
    assert percentile([], 50) is None
    with pytest.raises(ValueError, match="0 to 100"):
        percentile([1.0], 101)


def test_a_ratio_of_what_is_not_known_is_not_known():
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is ratio(3.0, None) is ratio(3.0, 0.0) is None


def gone(at_s, connection, shard_id):
    return Disconnected(at_s * NS_PER_S, connection, shard_id, 1006, by_gateway=False)


def ready(at_s, connection, shard_id):
    return BecameReady(at_s * NS_PER_S, connection, shard_id)


def test_a_shard_is_up_while_one_of_its_sessions_lives():
    events = [
        ready(2, 1, 0),
        HeartbeatMissed(2 * NS_PER_S, 9, None),
        gone(3, 9, None),
        ready(4, 2, 1),
        ready(5, 3, 1),
        gone(6, 2, 1),
        gone(7, 3, 1),
    ]
    assert up_steps(events, NS_PER_S) == [(1.0, 1), (3.0, 2), (4.0, 2), (5.0, 2), (6.0, 1)]


def test_up_since_counts_from_the_last_time_that_it_was_not():
    steps = [(1.0, 1), (2.0, 2), (3.0, 1), (4.0, 2), (5.0, 3)]
    assert up_since_s(steps, 2) == 4.0
    assert up_since_s(steps, 4) is None
    assert up_since_s([*steps, (6.0, 0)], 2) is None
    assert up_at_end(steps) == 3
    assert up_at_end([]) == 0


def test_bucket_by_bucket_the_verdicts_are_those_of_the_one_judge():
    window_ns = 5 * NS_PER_S
    buckets = 4
    times_ns = [number * 611 * NS_PER_MS for number in range(200)]
    one = Judge(Day(0, total=10**6), window_ns=window_ns)
    theirs = [one.identify(at_ns, 7 * number, buckets).verdict for number, at_ns in enumerate(times_ns)]
    many = JudgedBuckets(buckets)
    ours = [0]
    for number, at_ns in enumerate(times_ns):
        many.identify(number, 7 * number, at_ns, at_ns)
        ours.append(many.violations)
    assert [later > earlier for earlier, later in pairwise(ours)] == [
        verdict is not Verdict.ACCEPTED for verdict in theirs
    ]
    assert 0 < many.violations < 200


def test_late_counts_from_the_request_or_from_the_opening_of_its_bucket():
    judge = JudgedBuckets(1)
    assert judge.identify(0, 0, asked_ns=NS_PER_S, at_ns=3 * NS_PER_S) == 2 * NS_PER_S
    assert judge.identify(1, 1, asked_ns=NS_PER_S, at_ns=9 * NS_PER_S) == NS_PER_S - NS_PER_S // 5
    assert (judge.grants, judge.violations, judge.overtaken) == (2, 0, 0)


def test_a_request_that_is_granted_after_a_later_one_was_overtaken():
    judge = JudgedBuckets(1)
    for number, at_s in ((0, 0), (2, 6), (1, 12)):
        judge.identify(number, number, 0, at_s * NS_PER_S)
    assert judge.overtaken == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (20_000, "20,000"),
        (0.1234, "0.12"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        ("8 of 8", "8 of 8"),
    ],
)
def test_a_value_is_shown_with_three_digits_that_count(value, shown):
    assert show(value) == shown


def test_a_table_has_each_column_that_a_row_has_and_a_dash_where_one_has_none():
    rows = [Row("one", {"up": 1}), Row("two", {"late ms": 2.5}, "a | note")]
    assert table(rows).splitlines() == [
        "|  | up | late ms | note |",
        "| --- | ---: | ---: | --- |",
        "| one | 1 | - |  |",
        "| two | - | 2.50 | a / note |",
    ]


def test_the_results_name_what_was_left_out_and_keep_their_points():
    outcome = Outcome("start", "A start", "What it is.", [Row("one", {"up": 1}, series=[(0.5, 1.0)])])
    results = Results({"cores": "2"}, [outcome], {"twilight": "there is no cargo on PATH"}, 61.0)
    assert "- twilight: there is no cargo on PATH" in results.as_markdown()
    assert "## A start\n\nWhat it is.\n\n|  | up |" in results.as_markdown()
    assert json.loads(results.as_json())["outcomes"][0]["rows"][0]["series"] == [[0.5, 1.0]]


def test_without_a_terminal_the_same_part_is_not_told_again_at_once():
    output = io.StringIO()
    progress = Progress(output)
    progress.begin("a part")
    for number in range(1000):
        progress.say(f"{number} of 1000")
    progress.end("done")
    assert output.getvalue() == "a part\n  done\n"


def test_every_scenario_has_its_sentence():
    assert all(scenario.__doc__ for scenario in EVERY.values())
