"""What the simulation found in the product, each history by hand: told in a few lines, it stays found."""

from coordinator.core.ledger import WriteUnsettled
from nats_identify.schedule import model
from nats_identify.schedule.model import DAY, MS, SECOND, Limits, Outcome, Timing
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk, granted


def test_a_plain_grant_that_is_committed_again_holds_its_bucket_from_the_second_commit():
    """A successor kept the stamp of the first commit, and opened the bucket a second early."""
    timing = Timing(grace_ns=SECOND)
    cluster = Cluster("a", "b", timing=timing)
    cluster.pass_ms(2_000)
    cluster.hold_writes = True
    cluster.ask(0, managed=False)
    cluster.hold_writes = False
    cluster.frozen.add("a")
    cluster.release_held()  # the write is done, and b sees it; a hears nothing for most of a second
    cluster.frozen.clear()
    cluster.pass_ms(900)
    cluster.tell("a", WriteUnsettled())
    assert [body.shard_id for _, body in cluster.grant_log] == [0]  # after a second commit
    granted_ns = cluster.now_ns
    cluster.kill("a")
    cluster.ask(1, managed=False)
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(10)
    assert cluster.now_ns - granted_ns >= timing.plain_hold_ns


def test_a_static_day_begins_with_an_identify_not_with_a_turn_that_nobody_used():
    """Discord's day began 100 s later than the ledger's, and the ledger's budget was whole again so much too early."""
    cluster = Cluster("a", static=Limits(1, 2, 2))
    cluster.pass_ms(100)
    cluster.ask(0)
    cluster.pass_ms(100_000)
    cluster.ask(1)
    used_ns = cluster.now_ns
    assert [body.shard_id for _, body in cluster.grant_log] == [0, 1]
    cluster.answer(cluster.grant_log[1][1].grant_id)
    cluster.answer(cluster.grant_log[1][1].grant_id, Outcome.READY)
    cluster.pass_ms(1_000)
    assert cluster.ledger.remaining == 0
    assert cluster.now_ns + cluster.ledger.reset_in_ns >= used_ns + DAY


def test_a_static_day_whose_turns_nobody_answered_ends_a_day_after_the_last_of_them():
    cluster = Cluster("a", static=Limits(1, 2, 2))
    cluster.pass_ms(100)
    cluster.ask(0)
    cluster.pass_ms(11_000)
    cluster.ask(1)
    last_ns = cluster.now_ns
    view = cluster.view("a")
    assert (view.remaining, cluster.ledger.reset_in_ns) == (0, None)
    assert view.resets_at_ns is not None
    assert view.resets_at_ns >= last_ns + DAY
    cluster.now_ns = view.resets_at_ns
    cluster.pass_ms(4_000)  # the lease ran out long ago
    assert cluster.view("a").remaining == 2


def test_a_static_day_does_not_begin_with_an_identify_that_never_arrived():
    """The connection was lost behind it, and Discord's day began with the next one: seed 830016095."""
    cluster = Cluster("a", static=Limits(1, 2, 2))
    cluster.pass_ms(100)
    cluster.ask(0)
    cluster.answer(cluster.grant_log[0][1].grant_id)
    cluster.pass_ms(100_000)
    cluster.ask(1)
    arrived_ns = cluster.now_ns
    cluster.answer(cluster.grant_log[1][1].grant_id)
    cluster.answer(cluster.grant_log[1][1].grant_id, Outcome.READY)
    cluster.pass_ms(1_000)
    assert cluster.ledger.remaining == 0
    assert cluster.now_ns + cluster.ledger.reset_in_ns >= arrived_ns + DAY


def test_two_snapshots_put_back_one_after_the_other_are_no_movement_to_one_that_has_just_started():
    """Snapshots of the stream have their headers and their revisions: only the jump between them shows."""
    cluster = Cluster("a")
    cluster.pass_ms(2_000)
    older = cluster.ledger, cluster.revision, cluster.written_on
    cluster.pass_ms(3_000)
    newer = cluster.ledger, cluster.revision, cluster.written_on
    assert newer[1] > older[1] + 1
    cluster.ask(0)
    granted_ns = cluster.now_ns
    cluster.kill("a")
    cluster.ledger, cluster.revision, cluster.written_on = older
    cluster.start("b")
    cluster.pass_ms(500)
    cluster.ledger, cluster.revision, cluster.written_on = newer
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(100)
        cluster.ask(1, renewal=cluster.now_ns // (100 * MS))
    assert cluster.now_ns - granted_ns >= Timing().managed_hold_ns


def test_a_static_day_does_not_begin_with_a_plain_turn_that_nobody_answered():
    """It may never have been used: seed 720005023, where a plain grant got lost and the day ended 5 s too early."""
    cluster = Cluster("a", static=Limits(1, 2, 2))
    cluster.pass_ms(100)
    cluster.ask(0, managed=False)
    cluster.pass_ms(100_000)
    cluster.ask(1)
    used_ns = cluster.now_ns
    cluster.answer(cluster.grant_log[-1][1].grant_id)
    cluster.answer(cluster.grant_log[-1][1].grant_id, Outcome.READY)
    cluster.pass_ms(1_000)
    assert cluster.ledger.remaining == 0
    assert cluster.now_ns + cluster.ledger.reset_in_ns >= used_ns + DAY


def test_a_copy_from_before_a_loss_is_not_believed_however_new_it_looks():
    """The key was deleted while nobody ran, and begun anew; then somebody brought the old ledger back."""
    cluster = Cluster("a", fresh=True)
    for other in "bc":  # the first life of the ledger: terms rise
        cluster.start(other)
        cluster.pass_ms(100)
        cluster.kill("a" if other == "b" else "b")
        cluster.pass_ms(4_000)
    from_before, highest = cluster.ledger, cluster.ledger.age
    cluster.kill("c")
    cluster.ledger, cluster.revision = None, cluster.revision + 1
    cluster.start("d")
    cluster.pass_ms(15_000)
    cluster.start("e")
    cluster.ask(0)
    cluster.pass_ms(10)
    granted_ns = cluster.now_ns
    assert [body.shard_id for _, body in cluster.grant_log] == [0]
    assert cluster.ledger.term < highest[0]
    cluster.kill("d")
    cluster.ask(1)
    cluster.restore(from_before)
    while len(cluster.grant_log) < 2:
        cluster.pass_ms(10)
        cluster.ask(1, renewal=cluster.now_ns // SECOND)
    assert cluster.now_ns - granted_ns >= Timing().managed_hold_ns


def test_a_fresh_copied_request_is_granted_at_once():
    """A leader that had just started took the queue from another, and looked at no bucket for two seconds."""
    cluster = Cluster("a")
    cluster.pass_ms(100)
    copy = model.RequestReceived("r0", 0, 0, "inbox.r0", managed=True, is_copy=True, renewed_at_ns=cluster.now_ns)
    cluster.tell("a", copy)
    assert [body.shard_id for _, body in cluster.grant_log] == [0]


def test_a_bucket_that_opens_behind_a_dead_head_is_not_left_open():
    """The hold of the head's unanswered turn ran out; it was told, and nobody looked again whether it had answered."""
    cluster = Cluster("a")
    cluster.pass_ms(100)
    for shard_id in range(3):
        cluster.ask(shard_id)
    cluster.pass_ms(1_000)
    cluster.ask(0, renewal=1)  # and gets the same grant once more, and is heard no more
    cluster.pass_ms(7_700)
    cluster.ask(1, renewal=1)  # half a second after it was told: so the one behind it was told too
    cluster.pass_ms(2_000)
    assert [body.shard_id for _, body in cluster.grant_log] == [0, 0, 1]


def test_the_last_turn_of_a_day_that_is_given_back_is_granted_in_any_bucket():
    """Only its own bucket was looked at; whoever waited in another had to renew first."""
    cluster = Cluster("a", static=Limits(2, 1, 1))
    cluster.pass_ms(100)
    cluster.ask(0)
    cluster.ask(1)
    (_, granted), *_ = cluster.grant_log
    cluster.answer(granted.grant_id, Outcome.DECLINED)
    assert [body.shard_id for _, body in cluster.grant_log] == [0, 1]


def test_a_head_that_is_told_again_has_a_step_from_then_and_the_next_one_is_granted_after_it():
    """It was told again after a lost commit; the look that fell a step after the first telling was the last one."""
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    for shard_id in (1, 2):
        desk.ask(shard_id)
    desk.pass_ms(5_300)  # both are told, and neither answers: the bucket is open
    desk.schedule.on_commit_unknown(desk.now_ns)
    desk.ask(3)  # the first ones are told again
    desk.pass_ms(10)
    desk.schedule.on_commit_unknown(desk.now_ns)
    assert granted(desk.ask(2, renewal=1)) == []  # and the very first once more
    assert granted(desk.pass_ms(400)) == [2]
