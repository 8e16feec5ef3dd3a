"""Renewals and nudges: the pace, who is fresh, who is skipped when its bucket opens."""

import pytest

from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Reason
from tests.unit.desk import Desk, granted, only, replies


def test_the_wait_already_spent_is_told():
    desk = Desk()
    assert only(replies(desk.ask(0, waited_ns=7 * SECOND))).waited_ns == 7 * SECOND


def test_queued_tells_position_eta_and_pace():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    told = [only(replies(desk.ask(shard), model.Queued)) for shard in (1, 2, 30)]
    assert [body.position for body in told] == [1, 2, 3]
    assert [body.eta_ns for body in told] == [5_200 * MS, 10_400 * MS, 15_600 * MS]
    assert [body.renew_in_ns for body in told] == [2_600 * MS, 5_200 * MS, 7_800 * MS]
    assert {body.reason for body in told} == {Reason.WINDOW}


def test_the_pace_is_at_most_a_minute_and_at_least_the_nudge_lead():
    desk = Desk()
    desk.ask(0)
    for shard in range(1, 100):
        last = desk.ask(shard)
    assert only(replies(last, model.Queued)).renew_in_ns == 60 * SECOND
    desk.answer("g1")
    first = desk.ask(1, renewal=1, after_ms=4_000)
    assert only(replies(first, model.Queued)).renew_in_ns == 2 * SECOND


def test_the_head_is_nudged_two_seconds_before_its_bucket_opens():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    desk.ask(1)
    assert replies(desk.pass_ms(3_199), model.Queued) == []
    nudge = only(replies(desk.pass_ms(1), model.Queued))
    assert (nudge.nudge, nudge.renew_in_ns, nudge.position, nudge.eta_ns) == (True, 0, 1, 2 * SECOND)
    desk.ask(1, renewal=1)
    assert [body for body in replies(desk.pass_ms(1_999), model.Queued) if body.nudge] == []
    assert granted(desk.pass_ms(1)) == [1]


def test_a_hundred_dead_are_passed_before_the_bucket_opens():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    for shard in range(1, 101):
        desk.ask(shard)
    desk.ask(101)
    renewed = False
    for _ in range(5_200):
        for body in replies(desk.pass_ms(1), model.Queued):
            if body.nudge and body.shard_id == 101 and not renewed:
                renewed = True
                desk.ask(101, renewal=1)
    assert renewed
    assert granted(desk.said) == [0, 101]


def test_dead_inboxes_are_passed_at_once():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    for shard in range(1, 101):
        desk.ask(shard)
    said = desk.pass_ms(3_200)
    for _ in range(99):
        body = only([body for body in replies(said, model.Queued) if body.nudge])
        said = desk.tell(model.NudgeUndeliverable(body.request_id))
    assert only(replies(said, model.Queued)).shard_id == 100


def test_a_long_row_of_dead_is_passed_before_the_bucket_opens_however_slowly_their_503s_come():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    for shard in range(1, 201):
        desk.ask(shard)
    desk.ask(201)
    coming: dict[int, list[str]] = {}  # by the millisecond: who is known to be dead then
    renewal = 0
    for ms in range(5_200):
        if ms % 500 == 0:
            renewal += 1
            desk.ask(201, renewal=renewal)
        said = desk.pass_ms(1)
        for request_id in coming.pop(ms, ()):
            said = said + desk.tell(model.NudgeUndeliverable(request_id))
        for body in replies(said, model.Queued):
            if body.nudge and body.shard_id != 201:
                coming.setdefault(ms + 60, []).append(body.request_id)
    assert granted(desk.said) == [0, 201]


def test_a_stale_head_is_passed_over_and_keeps_its_place():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    desk.ask(1)
    desk.ask(2)
    desk.ask(2, renewal=1, after_ms=4_000)
    assert granted(desk.pass_ms(1_300)) == [2]
    desk.answer("g2")
    assert only(replies(desk.ask(1, renewal=1), model.Queued)).position == 1


def test_a_renewal_number_sent_twice_counts_from_its_first_sending():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    desk.ask(1, renewal=3)
    desk.ask(1, renewal=3, after_ms=5_000)
    assert granted(desk.pass_ms(300)) == []
    grant = only(replies(desk.ask(1, renewal=4)))
    assert grant.renewal == 4


def test_an_old_renewal_is_ignored():
    desk = Desk()
    desk.ask(0)
    desk.ask(1, renewal=5)
    assert desk.ask(1, renewal=4) == []


def test_a_copy_keeps_its_place_and_is_granted_when_it_renews():
    desk = Desk()
    copies = [
        model.RequestReceived(f"r{n}", n, 0, "in", renewal=4, waited_ns=n * SECOND, managed=True, is_copy=True)
        for n in (1, 2)
    ]
    told = [body for copy in copies for body in replies(desk.tell(copy), model.Queued)]
    assert [(body.shard_id, body.nudge) for body in told] == [(1, True), (2, True)]  # each when it was the first
    assert granted(desk.ask(1, renewal=5)) == []  # the other has waited longer, and may answer yet
    assert granted(desk.pass_ms(200)) == [1]
    assert only(replies(desk.ask(3), model.Queued)).position == 2


def test_the_head_that_has_just_been_told_goes_first_though_its_neighbour_is_heard_before_it():
    """After an outage, whoever's renewal arrives first is not the first in line."""
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    for n in (1, 2):
        desk.ask(n)
    desk.pass_ms(5_150)
    desk.schedule.become_leader(desk.now_ns)  # as after a takeover: no nudge of the leader before counts
    assert granted(desk.ask(2, renewal=1, after_ms=100)) == []
    assert granted(desk.ask(1, renewal=1, after_ms=50)) == [1]


def test_a_head_that_was_told_in_vain_is_passed_over_a_step_later():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    for n in (1, 2):
        desk.ask(n)
    desk.pass_ms(5_000)
    desk.schedule.on_reconnected(desk.now_ns)
    assert granted(desk.pass_ms(700)) == []
    assert granted(desk.ask(2, renewal=1)) == []  # the bucket is open, and shards are on their way back
    assert granted(desk.pass_ms(299)) == []
    assert granted(desk.pass_ms(1)) == [2]


def test_what_was_said_before_an_outage_counts_for_nothing():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    for n in (1, 2):
        desk.ask(n)
    desk.pass_ms(4_900)  # both were told, and neither has answered
    desk.schedule.on_commit_unknown(desk.now_ns)
    assert granted(desk.ask(2, renewal=1, after_ms=300)) == []
    assert granted(desk.ask(1, renewal=1, after_ms=100)) == [1]


@pytest.mark.parametrize("is_slow", [False, True], ids=["quick", "slow"])
def test_who_was_told_right_before_a_slow_commit_has_a_step_after_it(is_slow):
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    for n in (1, 2):
        desk.ask(n)
    desk.pass_ms(5_100)
    desk.schedule.become_leader(desk.now_ns)
    desk.pass_ms(200)  # the bucket is open; the first was told right now
    desk.ask(2, renewal=1)
    desk.pass_ms(50)
    if is_slow:
        desk.schedule.on_slow_commit(desk.now_ns)
    assert granted(desk.pass_ms(160)) == ([] if is_slow else [2])
    assert granted(desk.ask(1, renewal=1)) == ([1] if is_slow else [])


def test_a_copy_is_as_fresh_as_it_was_where_it_comes_from():
    """Else one behind it that renews here sooner would be granted first."""
    desk = Desk()

    copy = model.RequestReceived("r0", 0, 0, "in", renewal=4, waited_ns=SECOND, managed=True, is_copy=True)
    desk.tell(copy._replace(renewed_at_ns=desk.now_ns - SECOND))
    desk.tell(model.RequestReceived("r1", 1, 0, "in", renewal=9, managed=True))
    assert granted(desk.said) == [0]
