"""Histories for ordinary CI: a fixed set, fresh ones, and the promise that a seed is one history."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.run import run
from tests.simulation.swarm import Tally

ROOT = Path(__file__).parents[2]
FIXED = range(320)  # twenty times every shape, in its share
AT_ONCE = 40
FRESH = 24
FOUND = (
    506895,
    20260098,
    20260175,
    20260479,
    20261795,
    20264351,
    20264773,
    30000310,
    30000606,
    30000637,
    40000555,
    118,
    1000352,
    1000480,
    2000507,
    2000665,
    2001143,
    2005376,
    2006053,
    3000976,
    3000988,
    3001995,
    3002662,
    3002990,
    3003353,
    3006979,
    3008670,
    3009093,
    5000309,
    372329145,
    143,
    335,
    710439,
    720801,
    720831,
    720002816,
    720005023,
    750001483,
    750001807,
    750002133,
    770003422,
    770005178,
    800000489,
    810004943,
    810009638,
    830005694,
    830015044,
    830016095,
    920003460,
    940002059,
    986001469,
    991008598,
    995003702,
    996001331,
    1001000350,
    1001000768,
    1003005358,
    1004005654,
    1004007895,
    1005011959,
    1005014530,
    1007005013,
    1012013214,
    1012016111,
)
"""Each broke a promise once, for a fault of the product or of the simulation; `test_found` tells the former by hand."""


def run_all(seeds):
    tally = Tally()
    for seed in seeds:
        report = run(seed)
        assert report.violation is None, f"{report.violation}\nreplay: {report.command}"
        tally.add(report)
    return tally


@pytest.mark.parametrize("first", FIXED[::AT_ONCE])
def test_fixed_histories_break_no_promise(first):
    tally = run_all(range(first, first + AT_ONCE))
    assert tally.grants >= 30 * tally.seeds  # of fifty in all that are fixed: the simulation is alive
    assert sum(tally.faults.values()) >= 5 * tally.seeds


def test_fresh_histories_break_no_promise():
    first = random.SystemRandom().randrange(10**9)
    run_all(range(first, first + FRESH))


@pytest.mark.parametrize("seed", FOUND)
def test_a_history_that_broke_a_promise_once_breaks_none(seed):
    run_all([seed])


@pytest.mark.parametrize("seed", [0, 1, 63])
def test_a_seed_is_one_history(seed):
    """In another process, with other hashes of strings, bit for bit."""
    digests = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--tail", "1"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
        digests.add(printed.stdout.rpartition("digest ")[2].strip())
    assert len(digests) == 1
    assert digests == {f"{run(seed).digest:08x}"}
