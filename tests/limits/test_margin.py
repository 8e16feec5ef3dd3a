"""The margin over a calm and over a rough network: what Discord refuses, and what the caution costs.

One bucket that is always busy, a strict Discord, and a latency drawn for each message. All figures are printed.
"""

from dataclasses import dataclass
from itertools import pairwise

import pytest

from nats_identify.schedule import confirmations
from nats_identify.schedule.model import MS, SECOND, Timing
from nats_identify.testing.judge import Verdict
from tests.limits.fleet import Fleet

HOURS = 6
FIRST_NS = 600 * SECOND
SHARDS = 30
QUICK_MS = (0, 0)
SLOW_MS = (1_000, 4_000)  # as of a large bot: the margin is over before


@dataclass(slots=True)
class Figures:
    """What one run came to."""

    first: int  # violations in the first ten minutes
    later: int  # and afterwards
    turns: int
    mean_gap_s: float
    margin_ms: float


def live(fleet, shard_id):
    """A session lives for minutes: somebody always waits."""
    fleet.after(fleet.random.uniform(30, 120) * SECOND, fleet.ask, shard_id)


def measure(latency_ms, seed, ready_ms=QUICK_MS, **options):
    fleet = Fleet(seed=seed, latency_ms=latency_ms, ready_ms=ready_ms, up=live, **options)
    for shard_id in range(SHARDS):
        fleet.after(fleet.random.uniform(0, 5) * SECOND, fleet.ask, shard_id)
    fleet.run(HOURS * 3_600 * SECOND)
    early = [judgement for judgement in fleet.judged if judgement.verdict is not Verdict.ACCEPTED]
    gaps = [later.at_ns - earlier.at_ns for earlier, later in pairwise(fleet.judged)]
    return Figures(
        first=sum(judgement.at_ns <= FIRST_NS for judgement in early),
        later=sum(judgement.at_ns > FIRST_NS for judgement in early),
        turns=len(fleet.judged),
        mean_gap_s=sum(gaps) / len(gaps) / SECOND,
        margin_ms=fleet.schedule.state.timing.margin_ns / MS,
    )


def measure_all(name, latency_ms, seeds=range(3), **options):
    runs = [measure(latency_ms, seed, **options) for seed in seeds]
    for run in runs:
        print(
            f"\n{name}: {run.first} violations in the first ten minutes, {run.later} in the rest of {HOURS} h"
            f" ({run.turns} turns), mean gap {run.mean_gap_s:.3f} s, margin at last {run.margin_ms:.0f} ms",
            end="",
        )
    print()
    return runs


def test_over_a_calm_network_the_margin_narrows_where_ready_is_slow():
    (slow,) = measure_all("20-60 ms, READY after 1-4 s", (20, 60), seeds=range(1), ready_ms=SLOW_MS)
    (quick,) = measure_all("20-60 ms", (20, 60), seeds=range(1))
    assert slow.first == slow.later == quick.first == quick.later == 0
    assert 100 <= slow.margin_ms < 150  # half of the setting is the floor
    assert quick.margin_ms == 200  # no bucket waited for it
    assert quick.mean_gap_s < slow.mean_gap_s


@pytest.mark.parametrize("latency_ms", [(0, 300), (0, 1_000)])
def test_ready_alone_is_enough_whatever_the_network_does(latency_ms):
    never = Timing(margin_ns=60 * SECOND)  # of no use: each bucket opens by READY
    (run,) = measure_all(f"0-{latency_ms[1]} ms, by READY alone", latency_ms, seeds=range(1), timing=never)
    assert run.first == run.later == 0


def test_over_a_rough_network_one_in_hundreds_is_refused(monkeypatch):
    measure_all("0-300 ms", (0, 300))
    tuned = measure_all("0-300 ms, READY after 1-4 s", (0, 300), ready_ms=SLOW_MS)
    monkeypatch.setattr(confirmations, "_adapt_margin", lambda *_args, **_options: None)
    name = "0-300 ms, READY after 1-4 s, margin fixed at 200 ms"
    (fixed,) = measure_all(name, (0, 300), seeds=range(1), ready_ms=SLOW_MS)
    most = max(run.first + run.later for run in tuned)
    assert fixed.first + fixed.later > 10 * most
    assert most * 300 <= fixed.turns
    assert max(run.mean_gap_s for run in tuned) < 6.2  # the ceiling: a second more than the setting


@pytest.mark.parametrize("ready_ms", [QUICK_MS, SLOW_MS])
def test_over_a_network_that_no_margin_covers_it_stays_at_its_ceiling_and_goes_on(ready_ms):
    (run,) = measure_all(f"0-1000 ms, READY after {ready_ms} ms", (0, 1_000), seeds=range(1), ready_ms=ready_ms)
    assert run.margin_ms <= 1_200
    assert run.turns > HOURS * 3_600 / 6.5
