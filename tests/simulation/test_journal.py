"""A swarm goes on where the last one stopped."""

from tests.simulation.journal import NAME, Journal


def test_a_swarm_begins_behind_all_that_were_run(tmp_path):
    journal = Journal(tmp_path)
    journal.note(500, 520, [503])
    journal.note(100, 110, [])
    assert Journal(tmp_path).next_seed() == 520
    assert (tmp_path / NAME).read_text().splitlines() == ["unknown 500 520 503", "unknown 100 110"]


def test_the_first_swarm_begins_anywhere(tmp_path):
    assert Journal(tmp_path).next_seed() != Journal(tmp_path).next_seed()
