"""A leader hands over to an operator's command: who leads next, what is kept, and what each operator is answered."""

from coordinator.core.handover_policy import YIELDS_LEASES
from coordinator.core.ledger import Handover
from coordinator.core.replica import Role
from nats_identify.schedule import commands, model, unsent
from nats_identify.schedule.model import Code, Limits
from tests.unit.cluster import Cluster, shards
from tests.unit.desk import events
from tests.unit.test_commands import ALICE, said_to

LATE = [("handover", Code.OVERLOADED)]


def test_a_handover_gives_the_lead_to_a_standby_at_once():
    cluster = Cluster("a", "b")
    cluster.ask(0)
    cluster.pass_ms(3_500)
    cluster.tell_all(Handover(ALICE))  # "b" leads when it receives it, and does not hand over in its turn
    assert (cluster.leader, said_to(cluster.said["a"]), said_to(cluster.said["b"])) == ("b", [("handover", None)], LATE)
    assert events(cluster.said["a"])[-1] == "handover"
    cluster.kill("b")
    cluster.pass_ms(3_500)
    assert cluster.leader == "a", "it does not wait for longer than a lease once another has led"


def test_a_second_handover_meanwhile_is_answered_too():
    cluster = Cluster("a", "b")
    cluster.pass_ms(3_500)
    cluster.hold_writes = True
    cluster.tell_all(Handover(ALICE))
    cluster.tell_all(Handover(ALICE))
    assert said_to(cluster.said["a"]) == LATE, "the second has its reply, and the first when it is recorded"
    cluster.hold_writes = False
    cluster.release_held()
    assert (cluster.leader, said_to(cluster.said["a"])) == ("b", [*LATE, ("handover", None)])


def test_a_leader_that_can_keep_no_more_replies_says_so(monkeypatch):
    monkeypatch.setattr(unsent, "UNSENT_MAX", 1)
    cluster = Cluster("a", "b")
    cluster.pass_ms(3_500)
    cluster.hold_writes = True
    cluster.tell_all(model.Pause(ALICE))  # its reply is in the entry that is being written
    cluster.tell_all(model.Pause(ALICE))
    cluster.tell_all(Handover(ALICE))
    (reply,) = [said for said in cluster.said["a"] if isinstance(said, model.CommandReply)]
    assert (reply.command, reply.message) == ("handover", commands.TOO_MANY_UNSENT)


def test_alone_it_leads_again_after_two_leases():
    cluster = Cluster("a")
    cluster.pass_ms(3_500)
    cluster.tell_all(Handover(ALICE))
    assert cluster.ledger.leader is None
    cluster.pass_ms(YIELDS_LEASES * 3_000 - 100)
    assert cluster.roles(Role.LEADER) == []
    cluster.pass_ms(200)
    assert (cluster.leader, cluster.replicas["a"].term) == ("a", 2)


def test_a_handover_keeps_every_hold_and_the_pause():
    cluster = Cluster("a", "b", static=Limits(2, 1000, 1000))
    cluster.pass_ms(3_500)
    cluster.ask(0)
    cluster.tell_all(model.Pause(ALICE))
    before = cluster.view("a").opens_at_ns
    cluster.tell_all(Handover(ALICE))
    assert cluster.leader == "b"
    assert cluster.view("b").opens_at_ns == before
    cluster.ask(1)
    assert shards(cluster) == [0]
