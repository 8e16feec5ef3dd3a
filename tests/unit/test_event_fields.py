"""What an event says of a shard: its bucket, its client and how long it waited, as far as this replica knows."""

import pytest

from nats_identify.schedule import model
from nats_identify.schedule.model import Outcome
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk, busy, replies

CLIENT = "shards-4"


def facts(actions, name):
    """The fields of the one event of this name."""
    (found,) = [action.fields for action in actions if isinstance(action, model.Event) and action.name == name]
    return found


def check(fields, *, waited_ms, shard_id=0):
    assert (fields["shard_id"], fields["bucket"], fields["client"]) == (shard_id, 0, CLIENT)
    assert fields["waited_ms"] == waited_ms


def granted_after(waited_ms):
    """A desk on which shard 0 has just been granted, after this time."""
    desk = Desk()
    if waited_ms:
        desk.ask(0, request_id="used")
        desk.answer("g1", Outcome.IDENTIFIED)
        desk.pass_ms(5200 - waited_ms)
    desk.ask(0, request_id="one", client=CLIENT)
    renewals = int(waited_ms > 0)
    if renewals:
        desk.pass_ms(waited_ms - 1)
        desk.ask(0, request_id="one", client=CLIENT, renewal=1)
        desk.pass_ms(1)
    return desk, f"g{1 + renewals}"


@pytest.mark.parametrize("waited_ms", [0, 1000])
@pytest.mark.parametrize("outcome", [Outcome.IDENTIFIED, Outcome.DECLINED, Outcome.READY, Outcome.REJECTED])
def test_a_grant_and_what_became_of_it(outcome, waited_ms):
    desk, grant_id = granted_after(waited_ms)
    desk.pass_ms(300)
    check(facts(desk.said[-3:], "granted"), waited_ms=waited_ms)
    check(facts(desk.answer(grant_id, outcome), outcome), waited_ms=waited_ms)


def test_a_ready_that_comes_after_its_window():
    desk, grant_id = granted_after(1000)
    desk.answer(grant_id, Outcome.IDENTIFIED)
    desk.pass_ms(20_000)
    check(facts(desk.answer(grant_id, Outcome.READY), "ready"), waited_ms=1000)


def test_a_grant_without_a_receiver():
    desk, grant_id = granted_after(0)
    check(facts(desk.tell(model.Undeliverable(grant_id)), "undeliverable"), waited_ms=0)


def test_one_that_waits_no_more():
    desk = busy()
    for number in (1, 2):
        desk.ask(number, request_id=f"r{number}", client=CLIENT)
    check(facts(desk.tell(model.Cancel("r1"), after_ms=700), "cancelled"), waited_ms=700, shard_id=1)
    expired = facts(desk.pass_ms(60_000), "expired")
    check(expired, waited_ms=expired["waited_ms"], shard_id=2)
    assert 11_000 < expired["waited_ms"] < 40_000  # three renewals, and at least 12 s


def test_a_name_that_is_not_known_is_left_out():
    desk = Desk()
    desk.ask(0, request_id="one")
    assert "client" not in facts(desk.answer("g1"), "identified")


def test_a_successor_knows_whose_an_inherited_grant_is():
    cluster = Cluster("a", "b")
    cluster.pass_ms(100)
    cluster.ask(0, request_id="one", client=CLIENT)
    cluster.pass_ms(100)
    cluster.kill("a")
    cluster.pass_ms(6000)
    assert cluster.leader == "b"
    before = len(cluster.said["b"])
    cluster.ask(0, request_id="one", client=CLIENT, renewal=1)
    (again,) = replies(cluster.said["b"][before:])
    assert again.waited_ns == cluster.now_ns - 5_000_100_000_000  # and not the age of the machine
    cluster.answer(again.grant_id, Outcome.IDENTIFIED)
    check(facts(cluster.said["b"], "identified"), waited_ms=0)
    cluster.answer(again.grant_id, Outcome.READY)
    check(facts(cluster.said["b"], "ready"), waited_ms=0)


def test_one_that_never_knew_the_request_leaves_out_what_it_does_not_know():
    cluster = Cluster("a")
    cluster.pass_ms(100)
    cluster.ask(0, request_id="one", client=CLIENT)
    cluster.start("b")
    cluster.watch()
    cluster.pass_ms(100)
    cluster.kill("a")
    cluster.pass_ms(4000)
    assert cluster.leader == "b"
    (grant_id,) = [name for name, hold in cluster.view("b").holds.items() if hold.request_id == "one"]
    cluster.answer(grant_id, Outcome.IDENTIFIED)
    fields = facts(cluster.said["b"], "identified")
    assert fields["shard_id"] == 0
    assert not {"client", "waited_ms"} & fields.keys()
