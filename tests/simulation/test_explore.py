"""The exploration: it finds nothing in the product, and planted faults by a shortest history."""

import pytest

from tests.simulation.explore.search import MIXED, SAME, explore, told
from tests.simulation.planted.hunt import CATALOGUE
from tests.simulation.planted.patching import planted

BY_NAME = {fault.name: fault for fault in CATALOGUE}

FOUND = {
    "a hold without use_within": ("window", 7, 0),
    "a hold without the window": ("window", 7, 0),
    "a shard that has identified forgets its grant": ("charge", 5, 1),
    "an unanswered turn is given back when its hold is over": ("charge", 4, 0),
    "a grant is charged twice": ("charge", 1, 0),
    "a grant is not charged": ("charge", 1, 0),
    "an unknown outcome is taken for failure, and something else is written": ("settle", 2, 0),
    "no compare-and-set": ("terms", 0, 0),
    "a reply leaves before its commit": ("commit", 0, 0),
}
"""By whom, after how many events, and with how many faults among them."""


@pytest.mark.parametrize(("timings", "depth", "faults"), [(SAME, 7, 0), (SAME, 4, 1), (MIXED, 4, 1), (SAME, 3, 2)])
def test_no_order_of_a_few_events_breaks_a_promise(timings, depth, faults):
    found = explore(timings, depth=depth, faults=faults)
    assert found.violation is None, told(timings, faults, found.history)
    assert found.states > 100
    assert found.is_complete


@pytest.mark.parametrize("name", FOUND)
def test_a_planted_fault_is_found_by_a_shortest_history(name):
    checker, events, faults = FOUND[name]
    with planted(*BY_NAME[name].edits):
        found = explore(SAME, depth=events, faults=faults)
        assert found.violation is not None
        assert (found.violation.checker, found.depth) == (checker, events)
        if found.history:
            assert f"VIOLATION {checker}" in told(SAME, faults, found.history)[-1]
        if events:
            assert explore(SAME, depth=events - 1, faults=faults).violation is None


def test_a_search_is_the_same_each_time():
    first, second = (explore(SAME, depth=3, faults=1) for _ in range(2))
    assert (first.states, first.transitions) == (second.states, second.transitions)
