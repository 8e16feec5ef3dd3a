"""A grant, its hold and its confirm: when a bucket opens again, and for whom. Time is moved by hand."""

import pytest

from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Code, Outcome
from tests.unit.desk import Desk, events, granted, only, replies


def test_an_idle_bucket_grants_at_once():
    grant = only(replies(Desk().ask(0)))
    assert (grant.shard_id, grant.bucket, grant.renewal, grant.waited_ns) == (0, 0, 0, 0)
    assert grant.use_within_ns == 5 * SECOND
    assert grant.remaining == 999


def test_buckets_do_not_wait_for_each_other():
    desk = Desk(4)
    assert [granted(desk.ask(shard)) for shard in range(4)] == [[0], [1], [2], [3]]


def test_identified_opens_the_bucket_one_window_and_margin_later():
    desk = Desk()
    grant = only(replies(desk.ask(0)))
    desk.ask(1)
    desk.answer(grant.grant_id, after_ms=300)
    desk.ask(1, renewal=1, after_ms=5_000)
    assert granted(desk.pass_ms(199)) == []
    assert granted(desk.pass_ms(1)) == [1]


def test_a_silent_managed_grant_holds_for_use_within_window_and_margin():
    desk = Desk()
    desk.ask(0)
    desk.ask(1)
    desk.ask(1, renewal=1, after_ms=10_199)
    assert granted(desk.said) == [0]
    assert granted(desk.pass_ms(1)) == [1]


def test_a_silent_plain_grant_holds_for_window_and_grace():
    desk = Desk()
    desk.ask(0, managed=False)
    assert only(replies(desk.said)).use_within_ns == SECOND // 2
    desk.ask(1, managed=False)
    assert granted(desk.pass_ms(5_999)) == []
    assert granted(desk.pass_ms(1)) == [1]


def test_a_plain_answer_counts_the_same():
    desk = Desk()
    desk.ask(0, managed=False)
    desk.ask(1, managed=False)
    desk.answer("g1", after_ms=100)
    assert granted(desk.pass_ms(5_199)) == []
    assert granted(desk.pass_ms(1)) == [1]


def test_a_renewal_that_finds_its_grant_gets_the_same_one():
    desk = Desk()
    first = only(replies(desk.ask(0, renewal=2)))
    again = only(replies(desk.ask(0, renewal=3, after_ms=500)))
    assert (again.grant_id, again.renewal, again.remaining) == (first.grant_id, 2, first.remaining)
    desk.ask(1)
    desk.ask(1, renewal=1, after_ms=9_699)
    nudge = only(replies(desk.pass_ms(1), model.Queued))  # no longer hold: it is told that it is next again
    assert (nudge.nudge, nudge.shard_id) == (True, 0)
    assert granted(desk.pass_ms(200)) == [1]


def test_identified_spends_the_request():
    desk = Desk()
    desk.ask(0)
    assert events(desk.answer("g1")) == ["identified"]
    said = desk.ask(0, renewal=1)
    refused = only(replies(said, model.Refused))
    assert (refused.request_id, refused.code) == ("r0", Code.ENDED)
    assert "new request_id" in refused.message
    assert events(said) == ["refused"]
    left = desk.view.remaining
    desk.pass_ms(60_000)
    said = desk.ask(0, renewal=2)
    assert only(replies(said, model.Refused)).code is Code.ENDED
    assert events(said) == []  # the event was published once
    assert granted(desk.said) == [0]
    assert desk.view.remaining == left


def test_an_answer_is_final():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    opens_ns = desk.view.opens_at_ns[0]
    assert desk.answer("g1", after_ms=100) == []
    assert desk.answer("g1", Outcome.DECLINED) == []
    assert desk.view.opens_at_ns[0] == opens_ns


def test_declined_frees_the_bucket_gives_back_and_keeps_the_place():
    desk = Desk()
    desk.ask(0)
    desk.ask(1)
    said = desk.answer("g1", Outcome.DECLINED, after_ms=1)
    assert granted(said) == [1]
    assert desk.view.remaining == 999
    assert granted(desk.pass_ms(1)) == []  # shard 0 has not renewed
    desk.answer("g2", Outcome.DECLINED)
    assert granted(desk.ask(0, renewal=1)) == [0]


def test_a_renewal_that_overtakes_its_decline_counts():
    desk = Desk()
    for shard in (0, 1, 2):
        desk.ask(shard)
    desk.ask(0, renewal=1)
    assert granted(desk.answer("g1", Outcome.DECLINED)) == [0]
    desk.answer("g2", Outcome.DECLINED)
    assert granted(desk.said) == [0, 0, 0, 1]  # g1, its copy, g2, and then the next


def test_declined_plain_has_had_its_one_reply():
    desk = Desk()
    desk.ask(0, managed=False)
    desk.answer("g1", Outcome.DECLINED)
    assert granted(desk.pass_ms(20_000)) == []


def test_503_passes_the_turn_and_gives_back():
    desk = Desk()
    desk.ask(0)
    desk.ask(1)
    assert granted(desk.tell(model.Undeliverable("g1"))) == [1]
    assert desk.view.remaining == 999


def test_503_of_a_copy_proves_nothing():
    desk = Desk()
    desk.ask(0)
    desk.ask(0, renewal=1)
    desk.ask(1)
    assert desk.tell(model.Undeliverable("g1")) == []
    assert desk.view.remaining == 999


def test_503_of_another_leaders_grant_proves_nothing():
    desk = Desk()
    desk.ask(0)
    desk.schedule.step_down(())
    assert desk.tell(model.Undeliverable("g1")) == []


def test_plain_503_is_retried_after_1_2_4_and_8_seconds():
    desk = Desk()
    desk.ask(0, managed=False)
    waits = []
    for attempt in range(1, 5):
        desk.tell(model.Undeliverable(f"g{attempt}"))
        start_ns = desk.now_ns
        while not granted(desk.pass_ms(100)):
            pass
        waits.append((desk.now_ns - start_ns) // SECOND)
    assert waits == [1, 2, 4, 8]
    desk.tell(model.Undeliverable("g5"))
    assert granted(desk.pass_ms(60_000)) == []
    assert desk.view.remaining == 1000


def test_ready_and_rejected_are_told_even_after_the_hold():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    assert events(desk.answer("g1", Outcome.READY, after_ms=6_000)) == ["ready"]
    assert events(desk.answer("g1", Outcome.READY)) == []


def test_a_stranger_s_answer_changes_nothing():
    desk = Desk()
    desk.ask(0)
    opens_ns = desk.view.opens_at_ns[0]
    for outcome in Outcome:
        assert desk.answer("nobody", outcome) == []
    assert desk.view.opens_at_ns[0] == opens_ns


@pytest.mark.parametrize("outcome", list(Outcome))
def test_answers_before_the_commit_are_not_believed(outcome):
    desk = Desk()
    desk.schedule.handle(model.RequestReceived("r0", 0, 0, "inbox", managed=True), desk.now_ns)
    grants, _ = desk.schedule.grant_due(desk.now_ns)
    assert desk.schedule.handle(model.Confirmation(grants[0].grant.grant_id, outcome), desk.now_ns) == []
    assert grants[0].state.outcome is None


def test_a_late_commit_is_committed_again_for_plain_requesters_and_refused_in_the_end():
    desk = Desk()
    desk.schedule.handle(model.RequestReceived("r0", 0, 0, "inbox"), desk.now_ns)
    for _ in range(4):
        grants, _ = desk.schedule.grant_due(desk.now_ns)
        assert [hold.grant.grant_id for hold in grants] == ["g1"]
        desk.now_ns += 501 * MS
        said = desk.schedule.on_committed(grants, desk.now_ns)
        assert granted(said) == []
    assert only(replies(said, model.Refused)).code is Code.OVERLOADED
    assert desk.view.remaining == 1000  # no requester can have used it
    assert len(desk.view.holds) == 0


def test_out_of_lease_no_grant_leaves_and_a_renewal_finds_it():
    desk = Desk()
    desk.schedule.handle(model.RequestReceived("r0", 0, 0, "inbox", managed=True), desk.now_ns)
    grants, _ = desk.schedule.grant_due(desk.now_ns)
    assert desk.schedule.on_committed(grants, desk.now_ns, in_time=False) == []
    assert only(replies(desk.ask(0, renewal=1))).grant_id == "g1"


def test_a_plain_retry_is_not_forgotten_for_an_earlier_look_at_its_bucket():
    desk = Desk()
    desk.ask(0, managed=False, request_id="p")
    desk.ask(7, request_id="m")
    desk.pass_ms(4_000)  # m is stale: it will be told, and its bucket looked at a step later
    desk.tell(model.Undeliverable("g1"))
    assert granted(desk.pass_ms(1_300)) == [0]
