"""Every pair of a hold's state and an event does what the table of grants.py says."""

import pytest

from nats_identify.schedule import grants, model
from nats_identify.schedule.grants import GlobalHold, Grant, Hold, HoldRecord, HoldState, HoldTable
from nats_identify.schedule.model import SECOND, Outcome
from tests.unit.desk import Desk

ENDS = "*ends*"
EVENTS = ("committed", "identified", "declined", "ready", "rejected", "503", "rolled back", "resigned", "expired")


def table():
    """The table of the docstring: what each event makes of each state."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in grants.__doc__.splitlines() if line[:1] == "|"]
    assert rows[0] == ["state", *EVENTS]
    return {(HoldState[row[0]], event): cell for row in rows[2:] for event, cell in zip(EVENTS, row[1:], strict=True)}


TABLE = table()


def hold_in(state):
    """A desk, and a hold that has come into this state on its own way."""
    desk = Desk(1)
    if state is HoldState.INHERITED:
        record = HoldRecord(Grant("g1", "r0", 0, 0, 1, 1, 5 * SECOND), 10 * SECOND)
        desk.schedule.state.restore_holds([record], desk.now_ns)
        return desk, desk.schedule.state.holds.get("g1")
    desk.schedule.handle(model.RequestReceived("r0", 0, 0, "inbox", managed=True), desk.now_ns)
    (hold,), _ = desk.schedule.grant_due(desk.now_ns)
    if state is not HoldState.UNCOMMITTED:
        desk.schedule.on_committed([hold], desk.now_ns)
    if state.outcome is not None:
        desk.answer(hold.grant.grant_id, state.outcome)
    return desk, hold


def happens(desk, hold, event):
    schedule, name = desk.schedule, hold.grant.grant_id
    match event:
        case "committed":
            if hold.state is HoldState.UNCOMMITTED:  # a commit is reported for these alone
                schedule.on_committed([hold], desk.now_ns)
        case "503":
            schedule.handle(model.Undeliverable(name), desk.now_ns)
        case "rolled back":
            schedule.step_down([hold])
        case "resigned":
            schedule.step_down([])
        case "expired":
            desk.now_ns = hold.opens_at_ns
            schedule.handle(model.Wake(), desk.now_ns)
        case _:
            schedule.handle(model.Confirmation(name, Outcome(event)), desk.now_ns)


def test_the_table_names_every_state():
    assert TABLE.keys() == {(state, event) for state in HoldState for event in EVENTS}


@pytest.mark.parametrize(("state", "event"), TABLE, ids=lambda value: getattr(value, "name", value))
def test_each_event_does_to_each_state_what_the_table_says(state, event):
    desk, hold = hold_in(state)
    assert hold.state is state
    happens(desk, hold, event)
    expected = TABLE[state, event]
    if (state, event) == (HoldState.UNANSWERED, "rolled back"):
        expected = HoldState.INHERITED.name  # stepping down is one call: what is committed is resigned
    assert (hold.grant.grant_id not in desk.view.holds) is (expected == ENDS)
    if expected != ENDS:
        assert hold.state is (HoldState[expected] if expected else state)


def test_a_503_proves_nothing_once_a_grant_was_published_twice():
    desk, hold = hold_in(HoldState.UNANSWERED)
    desk.ask(0, renewal=1)
    assert hold.publish_count == 2
    happens(desk, hold, "503")
    assert hold.grant.grant_id in desk.view.holds


def test_a_global_hold_blocks_every_bucket_of_any_number_and_is_recorded_without_a_request():
    holds = HoldTable(4)
    grant = Grant("g1", "r", shard_id=1, bucket=1, max_concurrency=4, renewal=0, use_within_ns=5 * SECOND)
    holds.add(GlobalHold(grant_id="all", use_within_ns=5 * SECOND, opens_at_ns=10 * SECOND))
    holds.add(Hold(grant=grant, state=HoldState.UNANSWERED, opens_at_ns=12 * SECOND))
    holds.renumber(16)
    assert [holds.opens_at_ns(bucket) // SECOND for bucket in range(6)] == [10, 12, 10, 10, 10, 12]
    records = grants.records_of(holds, 9 * SECOND)
    assert [(r.grant.grant_id, r.grant.request_id, r.hold_ns // SECOND, r.outcome) for r in records] == [
        ("all", "", 1, Outcome.IDENTIFIED),
        ("g1", "r", 3, None),
    ]
    assert [r.grant.max_concurrency for r in records] == [1, 4]
    back = [grants.hold_of(record, 20 * SECOND) for record in records]
    assert [type(hold) for hold in back] == [GlobalHold, Hold]
    assert [hold.opens_at_ns // SECOND for hold in back] == [21, 23]
