"""The states of a replica: its role, its write and its read change by tables alone, and one that is stopped leaves."""

import ast
from pathlib import Path

import pytest

from coordinator.core.ledger import (
    Ledger,
    LedgerRead,
    LedgerUnreadable,
    Read,
    Stop,
    Stopped,
    TrafficReceived,
    Write,
    WriteUnsettled,
    Written,
)
from coordinator.core.read_state import RETRY_NS, ReadDue, Reading
from coordinator.core.replica import ROLE_CHANGES, Replica, Role
from coordinator.core.settings import Settings
from coordinator.core.write_state import REFUSED_MAX_NS, Idle, InFlight, Unsettled, refused_pause_ns
from nats_identify.schedule.model import MS, SECOND, Event, Limits, Timing
from tests.unit.cluster import Cluster

LEASE_NS = 3 * SECOND
SOURCE = Path(__file__).parents[2] / "coordinator" / "core" / "replica.py"
FIELDS_MAX = 10


def new_replica():
    return Replica(Settings("a", "identify", "ai", Timing(), LEASE_NS, fresh_start=True, static=Limits(1, 9, 9)))


class Desk:
    """One replica, told by hand; it has read that there is no ledger, and its takeover's write is in flight."""

    def __init__(self):
        self.now_ns = 100 * SECOND
        self.replica = new_replica()
        assert self.tell(TrafficReceived()) == [Read()]
        (self.write,) = self.tell(LedgerRead(None, 0, never_written=True))
        assert isinstance(self.write, Write)

    def tell(self, event, *, after_ns=0):
        self.now_ns += after_ns
        return self.replica.handle(event, self.now_ns)

    @property
    def states(self):
        return type(self.replica._write_state), type(self.replica._read_state)


def changes():
    """The fields that a method of `Replica` assigns, with these methods; `__init__` apart."""
    (replica,) = [
        node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.ClassDef) and node.name == "Replica"
    ]
    found, flags = dict[str, set[str]](), set[str]()
    for method in [node for node in replica.body if isinstance(node, ast.FunctionDef)]:
        for node in ast.walk(method):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.setdefault(ast.unparse(node), set()).add(method.name)
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, bool)
            ):
                flags.update(ast.unparse(target) for target in node.targets)
    changed = {name: methods - {"__init__"} for name, methods in found.items() if methods != {"__init__"}}
    return changed, flags


def test_few_fields_change_and_no_flag_is_written_in_two_methods():
    changed, flags = changes()
    assert 0 < len(changed) <= FIELDS_MAX, sorted(changed)
    assert {name: changed[name] for name in flags & changed.keys() if len(changed[name]) > 1} == {}
    assert changed["self.role"] == {"_become"}


@pytest.mark.parametrize("before", Role)
@pytest.mark.parametrize("after", Role)
def test_a_role_changes_by_the_table(before, after):
    replica = new_replica()
    replica.role = before
    if before is Role.LEAVING:
        replica._become(after)
        assert replica.role is Role.LEAVING
    elif after in ROLE_CHANGES[before]:
        replica._become(after)
        assert replica.role is after
    else:
        with pytest.raises(AssertionError):
            replica._become(after)


def test_a_write_goes_from_in_flight_to_unsettled_and_is_sent_again():
    desk = Desk()
    assert desk.states == (InFlight, ReadDue)
    assert desk.tell(WriteUnsettled()) == [Read()]
    assert desk.states == (Unsettled, Reading)
    started_ns = desk.now_ns
    assert desk.tell(LedgerUnreadable(), after_ns=MS) == []
    assert desk.states == (Unsettled, ReadDue)
    assert desk.replica.next_deadline_ns() == desk.now_ns + RETRY_NS
    assert desk.tell(TrafficReceived(), after_ns=RETRY_NS) == [Read()]
    started_ns = desk.now_ns
    assert desk.tell(LedgerRead(None, 0, never_written=True), after_ns=MS) == [desk.write]
    assert desk.states == (InFlight, ReadDue)
    desk.tell(Written(1), after_ns=MS)
    assert desk.states == (Idle, ReadDue)
    assert desk.replica.role is Role.LEADER
    assert desk.replica.lease_until_ns == started_ns + LEASE_NS  # from before the read that let it be sent again


def test_an_answer_to_no_read_changes_nothing():
    desk = Desk()
    other = Ledger("identify", "z", "zi", 7, 1, LEASE_NS)
    assert desk.tell(LedgerRead(other, 5)) == []
    assert desk.states == (InFlight, ReadDue)
    assert desk.replica.role is Role.CANDIDATE


def test_an_outcome_of_no_write_changes_nothing():
    replica = new_replica()
    now_ns = 100 * SECOND
    replica.handle(TrafficReceived(), now_ns)
    for event in (WriteUnsettled(is_refused=True), Written(3)):
        assert replica.handle(event, now_ns) == []
        assert replica._write_state == Idle()
    assert replica.role is Role.STANDBY


def test_the_pause_after_a_refusal_doubles_up_to_its_bound():
    pauses = [refused_pause_ns(refusals, 30 * SECOND) for refusals in range(12)]
    assert pauses[:3] == [RETRY_NS, 2 * RETRY_NS, 4 * RETRY_NS]
    assert set(pauses[2:]) == {REFUSED_MAX_NS}
    assert refused_pause_ns(9, 600 * MS) == 200 * MS


def test_refusals_are_counted_until_a_write_is_accepted():
    desk = Desk()
    desk.tell(WriteUnsettled(is_refused=True))
    desk.tell(TrafficReceived(), after_ns=RETRY_NS)
    assert desk.tell(LedgerRead(None, 0, never_written=True)) == [desk.write]
    assert desk.replica._write_state.refusals == 1
    desk.tell(Written(1))
    assert desk.replica._write_state.refusals == 0


# --- one that is stopped


def test_a_standby_that_is_stopped_takes_over_no_more():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.tell("b", Stop())
    assert cluster.left == {"b"}
    cluster.kill("a")
    cluster.pass_ms(10_000)
    assert cluster.replicas["b"].role is Role.LEAVING
    assert not cluster.replicas["b"].is_leader
    assert cluster.ledger.instance.startswith("a")


def test_a_candidate_that_is_stopped_releases_the_lock_that_its_write_takes():
    desk = Desk()
    assert desk.tell(Stop()) == []
    assert desk.replica.role is Role.LEAVING
    event, release = desk.tell(Written(1))
    assert isinstance(event, Event)
    assert event.name == "leader"  # as its entry says
    assert isinstance(release, Write)
    assert release.ledger.leader is None
    assert desk.replica.is_leading(desk.now_ns)
    assert desk.tell(Written(2)) == [Stopped()]
    assert not desk.replica.is_leader


def test_a_candidate_that_is_stopped_and_loses_does_not_lead():
    desk = Desk()
    desk.tell(Stop())
    assert desk.tell(WriteUnsettled()) == [Read()]
    other = Ledger("identify", "z", "zi", 7, 1, LEASE_NS)
    assert desk.tell(LedgerRead(other, 5)) == [Stopped()]
    assert desk.replica.role is Role.LEAVING


def test_a_leader_that_is_stopped_sends_the_replies_of_the_write_in_flight():
    cluster = Cluster("a")
    cluster.hold_writes = True
    cluster.ask(0)
    cluster.tell("a", Stop())
    cluster.tell("a", Stop())
    assert cluster.grant_log == []
    cluster.release_held()
    assert [body.shard_id for _, body in cluster.grant_log] == [0]
    cluster.release_held()
    assert cluster.left == {"a"}
    assert cluster.ledger.leader is None
