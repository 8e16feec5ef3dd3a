"""The commands of an operator, as the core applies them: what changes, what is said, and when."""

import pytest

from coordinator.core.ledger import Handover, Stop
from coordinator.core.replica import Role
from coordinator.edge.ledger_json import LedgerWriter, decode
from nats_identify.schedule import model
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import MS, SECOND, Code, CommandReply, Operator, Outcome, Reason
from tests.unit.cluster import Cluster, shards
from tests.unit.desk import Desk, busy, events, granted, line_of, only, replies
from tests.view import up_in_ms

ALICE = Operator("alice", "deploy", "inbox.alice")


def said_to(actions):
    """The replies to operators: whether it was done, and the message."""
    return [(one.command, one.code) for one in actions if isinstance(one, CommandReply)]


def command(desk, event, **more):
    return desk.tell(event, **more)


# --- pause and resume


def test_a_pause_grants_nothing_and_a_resume_grants_the_same_order():
    desk = busy()
    desk.ask(1)
    desk.ask(2, after_ms=10)
    assert said_to(command(desk, model.Pause(ALICE))) == [("pause", None)]
    for renewal in range(1, 5):
        said = [*desk.ask(1, renewal=renewal, after_ms=2_000), *desk.ask(2, renewal=renewal)]
        assert granted(said) == []
        assert {(body.reason, body.eta_ns) for body in replies(said, model.Queued)} == {(Reason.PAUSED, None)}
    assert line_of(desk) == ["r1", "r2"]
    said = command(desk, model.Resume(ALICE))
    assert (granted(said), events(said)) == ([1], ["resumed", "granted"])


def test_a_paused_bucket_is_not_nudged_and_its_heads_are_at_once_when_it_resumes():
    desk = busy()
    desk.ask(1)
    command(desk, model.Pause(ALICE))
    assert [body for body in replies(desk.pass_ms(9_000), model.Queued) if body.nudge] == []
    said = command(desk, model.Resume(ALICE))
    assert only(replies(said, model.Queued)).nudge
    assert granted(desk.ask(1, renewal=1, after_ms=10)) == [1]


def test_a_pause_below_a_priority_lets_the_others_pass():
    desk = Desk()
    command(desk, model.Pause(ALICE, below_priority=1))
    assert granted(desk.ask(0)) == []
    assert granted(desk.ask(1, priority=1)) == [1]
    desk.answer("g1")
    (body,) = replies(desk.ask(0, renewal=1), model.Queued)
    assert body.reason is Reason.PAUSED


def test_a_timed_pause_is_counted_in_and_ends_by_itself_with_an_event():
    desk = Desk()
    command(desk, model.Pause(ALICE, for_ns=60 * SECOND))
    (body,) = replies(desk.ask(0), model.Queued)
    assert (body.reason, body.eta_ns, body.renew_in_ns) == (Reason.PAUSED, 60 * SECOND, 30 * SECOND)
    assert granted(desk.ask(0, renewal=1, after_ms=59_000)) == []
    said = desk.pass_ms(1_000)
    (ended,) = [one for one in said if isinstance(one, model.Event) and one.name == "resumed"]
    assert (ended.fields["by"], granted(said)) == ("timer", [0])


def test_a_second_pause_replaces_the_first():
    desk = Desk()
    command(desk, model.Pause(ALICE, for_ns=SECOND))
    command(desk, model.Pause(ALICE, for_ns=10 * SECOND))
    desk.ask(0)
    assert granted(desk.pass_ms(9_000)) == []
    desk.ask(0, renewal=1)
    assert granted(desk.pass_ms(1_100)) == [0]
    command(desk, model.Pause(ALICE))
    desk.answer("g1")
    desk.ask(1, after_ms=8_000)
    assert granted(command(desk, model.Pause(ALICE, below_priority=0))) == [1], "the second covers fewer"


def test_a_resume_without_a_pause_is_done_and_says_so():
    desk = Desk()
    (reply,) = [one for one in command(desk, model.Resume(ALICE)) if isinstance(one, CommandReply)]
    assert reply.code is None
    assert "no pause" in reply.message


def test_the_days_limit_is_said_before_a_pause():
    desk = Desk(total=1)
    desk.ask(0)
    desk.answer("g1")
    command(desk, model.Pause(ALICE))
    (body,) = replies(desk.ask(1), model.Queued)
    assert (body.reason, body.eta_ns) == (Reason.SESSION_LIMIT, None)


def test_a_plain_request_waits_through_a_pause():
    desk = Desk()
    command(desk, model.Pause(ALICE, for_ns=5 * SECOND))
    assert desk.ask(0, managed=False) == [] or granted(desk.said) == []
    assert granted(desk.pass_ms(5_000)) == [0]


def test_a_pause_changes_no_hold_and_a_promise_is_kept():
    desk = busy()
    desk.ask(1)
    desk.pass_ms(3_500)
    desk.ask(1, renewal=1)  # it is next, and near
    before = desk.view.opens_at_ns
    command(desk, model.Pause(ALICE))
    assert desk.view.opens_at_ns == before
    desk.ask(2, waited_ns=60 * SECOND)  # of the same priority, asked earlier, received later
    assert line_of(desk) == ["r1", "r2"]
    command(desk, model.Resume(ALICE), after_ms=5_000)
    desk.ask(2, renewal=1)
    assert granted(desk.ask(1, renewal=2)) == [1]


def test_a_projection_counts_a_pause():
    desk = Desk()
    command(desk, model.Pause(ALICE, for_ns=60 * SECOND))
    desk.ask(0)
    desk.ask(1)
    assert up_in_ms(desk.schedule, desk.now_ns) == 65_200
    command(desk, model.Pause(ALICE))
    assert up_in_ms(desk.schedule, desk.now_ns) is None
    command(desk, model.Pause(ALICE, below_priority=0))
    assert up_in_ms(desk.schedule, desk.now_ns, 1) == 10_200


# --- the ledger


def test_a_pause_survives_a_killed_leader_and_is_not_shortened():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.tell_all(model.Pause(ALICE, for_ns=20 * SECOND))
    ends_ns = cluster.now_ns + 20 * SECOND
    assert said_to(cluster.said["a"]) == [("pause", None)]
    assert said_to(cluster.said["b"]) == []
    cluster.kill("a")
    cluster.pass_ms(4_000)
    assert cluster.leader == "b"
    assert (cluster.ledger.paused.by, cluster.ledger.paused.why) == ("alice", "deploy")
    cluster.ask(0)
    cluster.pass_ms((ends_ns - cluster.now_ns) / MS - 100)
    assert shards(cluster) == []
    cluster.ask(0, renewal=1)
    cluster.pass_ms(200)
    assert shards(cluster) == [0]
    assert events(cluster.said["b"]).count("resumed") == 1
    assert cluster.ledger.paused is None


def test_a_pause_survives_a_restart_of_all():
    cluster = Cluster("a")
    cluster.tell_all(model.Pause(ALICE))
    cluster.kill("a")
    cluster.start("b")
    cluster.pass_ms(15_000)
    assert cluster.leader == "b"
    cluster.ask(0)
    assert shards(cluster) == []
    cluster.tell_all(model.Resume(ALICE))
    assert shards(cluster) == [0]


def test_a_pause_that_ended_between_two_leaders_is_reported_by_the_second():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.tell_all(model.Pause(ALICE, for_ns=SECOND))
    cluster.kill("a")
    cluster.pass_ms(4_000)
    assert events(cluster.said["b"]) == ["leader", "resumed"]


@pytest.mark.parametrize("ends_ns", [None, 1])
def test_a_pause_is_written_and_read_back_rounded_up(ends_ns):
    cluster = Cluster("a")
    cluster.tell_all(model.Pause(Operator("ä\n", '"'), for_ns=ends_ns, below_priority=-3))
    ledger = cluster.ledger
    read = decode(LedgerWriter().write(ledger), ledger.lineage)
    assert read.paused == ledger.paused._replace(ends_ns=None if ends_ns is None else MS)


def test_an_entry_without_a_pause_is_that_of_an_older_coordinator():
    cluster = Cluster("a")
    assert b"paused" not in LedgerWriter().write(cluster.ledger)


COMMANDS = [
    model.Pause(ALICE),
    model.Resume(ALICE),
    model.Kick(ALICE, "r1"),
    model.Release(ALICE, "the grant"),
    model.Pardon(ALICE, 5),
    Handover(ALICE),
]


@pytest.mark.parametrize("event", COMMANDS, ids=lambda event: type(event).__name__)
def test_done_leaves_after_the_commit_alone(event):
    cluster = Cluster("a", "b")
    cluster.pass_ms(3_500)
    cluster.ask(0)
    cluster.ask(1)
    if isinstance(event, model.Release):
        event = model.Release(ALICE, cluster.grant_log[0][1].grant_id)
    cluster.hold_writes = True
    cluster.tell_all(event)
    assert said_to(cluster.said["a"]) == []
    cluster.hold_writes = False
    cluster.release_held()
    name = type(event).__name__.lower()
    assert said_to(cluster.said["a"]) == [(name, None)]
    assert said_to(cluster.said["b"]) == []


@pytest.mark.parametrize("event", COMMANDS, ids=lambda event: type(event).__name__)
def test_a_leader_that_was_deposed_before_the_commit_says_nothing(event):
    cluster = Cluster("a", "b")
    cluster.pass_ms(4_000)
    cluster.ask(1)
    cluster.hold_writes = True
    cluster.tell("a", event)
    cluster.frozen.add("a")
    cluster.hold_writes = False
    cluster.pass_ms(4_000)
    assert cluster.replicas["b"].role is Role.LEADER
    cluster.frozen.clear()
    cluster.release_held()
    cluster.pass_ms(4_000)
    assert cluster.leader == "b"
    assert [code for _, code in said_to(cluster.said["a"]) if code is None] == []


# --- kick


def test_a_kicked_request_is_refused_and_never_granted():
    desk = busy()
    desk.ask(1)
    desk.ask(2)
    said = command(desk, model.Kick(ALICE, "r1"))
    (body,) = replies(said, model.Refused)
    assert (body.request_id, body.code) == ("r1", Code.ENDED)
    assert (events(said), said_to(said)) == (["kicked"], [("kick", None)])
    assert line_of(desk) == ["r2"]
    (again,) = replies(desk.ask(1, renewal=1), model.Refused)
    assert again.code is Code.ENDED
    assert said_to(command(desk, model.Kick(ALICE, "r1"))) == [("kick", Code.ENDED)]


def test_a_plain_request_that_is_kicked_gets_its_one_reply_once():
    cluster = Cluster("a", "b")
    cluster.ask(0)
    cluster.ask(1, managed=False)
    cluster.pass_ms(2_000)
    cluster.tell_all(model.Kick(ALICE, "r1"))
    assert [body.code for body in replies(cluster.said["a"], model.Refused)] == [Code.ENDED]
    assert "r1" in dict(cluster.ledger.replied)
    cluster.kill("a")
    cluster.pass_ms(4_000)
    cluster.ask(1, managed=False)
    assert replies(cluster.said["b"], model.Refused) == []
    assert shards(cluster) == [0]


def test_a_granted_request_is_not_kicked():
    desk = Desk()
    desk.ask(0)
    said = command(desk, model.Kick(ALICE, "r0"))
    (reply,) = [one for one in said if isinstance(one, CommandReply)]
    assert (reply.code, "release" in reply.message) == (Code.BAD_REQUEST, True)
    assert "g1" in desk.view.holds
    assert len(replies(desk.ask(0, renewal=1))) == 1, "it gets its grant again"


def test_an_unknown_request_is_not_kicked_and_may_come_later():
    desk = Desk()
    assert said_to(command(desk, model.Kick(ALICE, "r7"))) == [("kick", Code.BAD_REQUEST)]
    assert granted(desk.ask(7)) == [7]


def test_a_standby_ends_its_copy_of_a_kicked_request():
    cluster = Cluster("a", "b")
    cluster.ask(0)
    cluster.ask(1)
    cluster.pass_ms(2_000)
    cluster.tell_all(model.Kick(ALICE, "r1"))
    assert "r1" not in cluster.view("b").requests
    assert said_to(cluster.said["b"]) == []


# --- release


def test_a_released_grant_frees_its_bucket_and_is_refunded_once():
    desk = Desk()
    desk.ask(0)
    said = command(desk, model.Release(ALICE, "g1"))
    assert (events(said), said_to(said), desk.view.remaining) == (["released"], [("release", None)], 1000)
    assert granted(said) == [], "it has not renewed since"
    assert said_to(command(desk, model.Release(ALICE, "g1"))) == [("release", None)]
    assert desk.view.remaining == 1000
    assert granted(desk.ask(0, renewal=1)) == [0]


def test_an_identified_grant_is_not_released():
    desk = busy()
    before = desk.view.holds["g1"]
    assert said_to(command(desk, model.Release(ALICE, "g1"))) == [("release", Code.BAD_REQUEST)]
    assert (desk.view.holds["g1"], desk.view.remaining) == (before, 999)


def test_an_unknown_grant_is_not_released():
    assert said_to(command(Desk(), model.Release(ALICE, "g9"))) == [("release", Code.ENDED)]


def test_a_standby_leaves_a_release_to_the_leader_and_learns_it_from_the_ledger():
    """Its copy of `identified` may still be under way: the leader, which has it, refuses the release."""
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.ask(0)
    grant_id = cluster.grant_log[0][1].grant_id
    cluster.tell("a", model.Confirmation(grant_id, Outcome.IDENTIFIED))
    cluster.tell_all(model.Release(ALICE, grant_id))
    assert grant_id in cluster.view("b").holds
    cluster.kill("a")
    cluster.pass_ms(4_000)
    assert cluster.view("b").opens_at_ns[0] > cluster.now_ns


def test_a_release_survives_a_killed_leader():
    cluster = Cluster("a", "b")
    cluster.pass_ms(2_000)
    cluster.ask(0)
    cluster.tell_all(model.Release(ALICE, cluster.grant_log[0][1].grant_id))
    cluster.kill("a")
    cluster.pass_ms(4_000)
    assert (cluster.ledger.grants, cluster.ledger.remaining) == ((), 1000)
    cluster.ask(0, renewal=1)
    assert shards(cluster) == [0, 0]


# --- pardon


def looped(desk):
    for turn in range(3):
        desk.ask(0, request_id=f"turn{turn}", after_ms=6_000)
        desk.answer(f"g{turn + 1}")


def test_a_pardoned_shard_has_its_place_back_at_once():
    desk = Desk(guard=CrashLoopGuard(3))
    looped(desk)
    desk.ask(0, after_ms=1_000)
    desk.ask(1)
    assert line_of(desk) == ["r1", "r0"]
    said = command(desk, model.Pardon(ALICE, 0))
    assert (events(said), said_to(said), line_of(desk)) == (["pardoned"], [("pardon", None)], ["r0", "r1"])
    desk.pass_ms(3_000)
    desk.ask(1, renewal=1)
    desk.ask(0, renewal=1)
    assert granted(desk.pass_ms(2_000)) == [0]


def test_a_pardon_of_a_shard_without_grants_is_done_and_says_so():
    desk = Desk(guard=CrashLoopGuard(3))
    said = command(desk, model.Pardon(ALICE, 3))
    (reply,) = [one for one in said if isinstance(one, CommandReply)]
    assert (reply.code, reply.message, events(said)) == (None, "nothing was held against shard 3", [])


def test_a_pardon_survives_a_killed_leader():
    cluster = Cluster("a", "b", crash_loop_grants=2)
    for turn in range(2):
        cluster.ask(0, request_id=f"turn{turn}")
        cluster.answer(cluster.grant_log[-1][1].grant_id)
        cluster.pass_ms(6_000)
    cluster.ask(0)
    assert len(cluster.ledger.crash_loops) == 1
    cluster.tell_all(model.Pardon(ALICE, 0))
    assert [len(history.granted_ns) for history in cluster.ledger.crash_loops] == [1], "the turn that came of it"
    cluster.kill("a")
    cluster.pass_ms(4_000)
    assert shards(cluster) == [0, 0, 0]
    assert [len(history.granted_ns) for history in cluster.ledger.crash_loops] == [1]


def test_a_leader_that_stops_keeps_the_pause_in_the_ledger():
    cluster = Cluster("a")
    cluster.tell_all(model.Pause(ALICE))
    cluster.tell("a", Stop())
    assert (cluster.ledger.leader, cluster.ledger.paused is None) == (None, False)
