"""Which copies of the ledger a replica takes for the newest entry. Each of these has broken a history."""

from dataclasses import replace

from coordinator.core.ledger import Ledger
from coordinator.core.ledger_view import LedgerView
from nats_identify.schedule.model import SECOND

LEASE_NS = 3 * SECOND
FIRST = Ledger("identify", "a", "a1", term=2, sequence=4, lease_ns=LEASE_NS, lineage="one")


def view_of(*sightings):
    """A view that has seen these (entry, revision), one second apart, the last one just now."""
    view = LedgerView(LEASE_NS, 15 * SECOND)
    for index, (ledger, revision) in enumerate(sightings):
        view.observe(ledger, revision, index * SECOND)
    return view


def test_an_entry_that_moves_on_is_trusted():
    assert view_of((FIRST, 7), (replace(FIRST, sequence=5), 8)).is_trusted


def test_a_copy_of_another_lineage_at_the_same_age_and_revision_is_a_change():
    other = replace(FIRST, instance="b1", lineage="two")
    second = replace(FIRST, sequence=5)
    view = view_of((FIRST, 7), (second, 8), (replace(other, sequence=5), 8))
    assert not view.is_trusted
    assert view.last_change_ns == 2 * SECOND


def test_a_copy_of_another_instance_at_the_same_age_and_revision_is_a_change():
    second = replace(FIRST, sequence=5)
    assert not view_of((FIRST, 7), (second, 8), (replace(second, instance="b1"), 8)).is_trusted


def test_a_newer_entry_at_a_lower_revision_is_of_another_stream():
    assert not view_of((FIRST, 23), (replace(FIRST, sequence=11), 11)).is_trusted
