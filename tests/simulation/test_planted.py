"""The simulation bites: faults planted into the product are found, by the checker that is there for them."""

from pathlib import Path

import pytest

from tests.simulation.planted.hunt import CATALOGUE, hunt, short_first
from tests.simulation.planted.patching import Edit, StaleEditError, planted

BY_NAME = {fault.name: fault for fault in CATALOGUE}

SEEDS = short_first(range(24))[:12]
"""Short histories: a fault of `KNOWN` is found within five of them."""

KNOWN = {
    "a grant is charged twice": "charge",
    "a grant is not charged": "charge",
    "a turn is given back twice": "charge",
    "an unanswered turn is given back when its hold is over": "charge",
    "a figure ignores what was granted since it was asked for": "figure",
    "a figure counts what has just been confirmed as if Discord had counted it": "figure",
    "an entry tells nothing of its leader's hold": "holds",
    "a reply leaves before its commit": "commit",
    "no compare-and-set": "terms",
    "a takeover keeps the term": "terms",
    "two commits in flight": "one write",
    "a refused write is repeated at once": "pace",
    "an unknown outcome is taken for failure, and something else is written": "settle",
    "a lease counts from when its renewal was acknowledged": "lease",
    "replies leave after the lease": "lease",
    "standbys speak": "lease",
    "a standby reads no quiet ledger": "ends",
    "a standby takes over without a last look": "one write",
    "the ledger carries instants of its writer's clock": "ends",
    "a leader whose traffic is dead leads on": "sleeps",
    "a renewal of a granted request gets a new grant, with a commit of its own": "freed",
    "a new leader drops the unanswered grants of the old one": "freed",
    "a confirm counts from the grant": "freed",
    "a hold without the margin": "window",
    "a bucket opens at READY, without the window": "freed",
    "a window counts from the grant once READY has come": "window",
    "stale renewals are granted": "fresh",
    "priority counts for nothing": "overtaken",
    "a new leader drops the queue": "fresh",
    "a stale head is passed over, whether it was asked or not": "overtaken",
    "a bucket is not evaluated again when it opens": "idle",
    "a stale head blocks its bucket": "idle",
}
"""Of the table in docs/simulation.md, those that are found at once, and by whom."""


IN_ONE_HISTORY = {
    "the day's end refills the budget without a figure": ("charge", 49),
    "a successor does not know which plain requests had a reply": ("one reply", 21),
    "a renewal of an ended request is answered with silence": ("ends", 0),
    "a shard whose request has ended never asks anew": ("ends", 60),
    "a plain grant that is refused costs one": ("charge", 28),
    "an unknown outcome is taken for success": ("lease", 4),
    "the answer to a read that a later entry overtook is taken for the ledger": ("charge", 995003702),
    "an unknown day counts as spent by the settings' own total alone": ("budget", 1012016111),
    "a plain request that comes after its grant is refused": ("one reply", 1007005013),
    "a later lead forgets for how long an earlier one believes no figure": ("figure", 1005014530),
    "the order of one process counts for nothing": ("order", 5),
    "the last to come is the first": ("promised", 16),
    "a withdrawn grant is answered as used, a used one as withdrawn": ("window", 28),
    "a leader that grants looks at no pause": ("paused", 14),
    "a pause is not in the ledger": ("done", 14),
    "a pause ends with its leader": ("pause kept", 14),
    "a takeover shortens a pause": ("pause kept", 14),
    "a successor does not know of a resume": ("pause kept", 14),
    "a command is done before it is committed": ("done", 14),
    "a kicked request is queued again by its next renewal": ("overtaken", 174),
    "a kick frees a granted turn": ("freed", 124),
    "a grant that was used is released": ("charge", 14),
    "a released grant is given back twice": ("charge", 69),
    "a pardon is not in the ledger": ("pardoned", 14),
}
"""Those that need a history of their own: by whom, and in which."""


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.name)
def test_every_planted_fault_fits_the_product_of_today(fault):
    with planted(*fault.edits):
        pass


def test_an_edit_that_does_not_fit_is_refused():
    for where in ("coordinator.core.replica:Replica._advance", "coordinator.core.replica:Replica.no_such"):
        with pytest.raises(StaleEditError), planted(Edit(where, "no such text", "")):
            pass


def test_the_table_in_the_docs_has_a_row_for_each():
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
    rows = [line.split("|")[2].strip() for line in page.splitlines() if line.count("|") == 6]
    assert rows == ["fault", "---", *BY_NAME]


def test_each_rule_is_taken_away():
    assert {fault.rule for fault in CATALOGUE} - {None} == set(range(1, 11))


@pytest.mark.parametrize("name", IN_ONE_HISTORY)
def test_a_planted_fault_is_found_in_a_history_of_its_own(name):
    checker, seed = IN_ONE_HISTORY[name]
    found = hunt(BY_NAME[name], [seed])
    assert (found.checker, found.is_clean_without) == (checker, True)


@pytest.mark.parametrize("name", KNOWN)
def test_a_planted_fault_is_found_by_its_checker_and_nothing_is_found_without_it(name):
    found = hunt(BY_NAME[name], SEEDS)
    assert found.checker == KNOWN[name], f"by {found.checker} in history {found.seed}, after {found.tried}"
    assert found.is_clean_without
