"""The simulation bites: faults planted into the product are found, by the checker that is there for them."""

import pytest

from tests.simulation.planted.hunt import CATALOGUE
from tests.simulation.planted.patching import Edit, StaleEditError, planted
from tests.simulation.run import run

BY_NAME = {fault.name: fault for fault in CATALOGUE}

KNOWN: dict[str, tuple[str, int]] = {}
"""Of the table in docs/simulation.md: who finds which fault in which history; those that are quick to run."""


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.name)
def test_every_planted_fault_fits_the_product_of_today(fault):
    with planted(*fault.edits):
        pass


def test_an_edit_that_does_not_fit_is_refused():
    for where in ("coordinator.core.replica:Replica._go_on", "coordinator.core.replica:Replica.no_such"):
        with pytest.raises(StaleEditError), planted(Edit(where, "no such text", "")):
            pass


def test_each_rule_of_the_design_is_taken_away():
    assert {fault.rule for fault in CATALOGUE} - {None} == set(range(1, 11))


@pytest.mark.parametrize("name", KNOWN)
def test_a_planted_fault_is_found_by_its_checker_and_by_nothing_else(name):
    checker, seed = KNOWN[name]
    with planted(*BY_NAME[name].edits):
        violation = run(seed).violation
    assert violation is not None
    assert violation.checker == checker
    assert run(seed).violation is None  # with nothing planted
