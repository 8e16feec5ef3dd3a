"""How a request ends: cancelled, expired, timed out, refused; and which ids are spent."""

import pytest

from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Code, Outcome
from tests.unit.desk import Desk, events, granted, only, replies


def test_cancel_ends_a_wait_and_nothing_else():
    desk = Desk()
    desk.ask(0)
    desk.ask(1)
    desk.ask(2)
    assert events(desk.tell(model.Cancel("r1"))) == ["cancelled"]
    assert only(replies(desk.ask(1, renewal=1), model.Refused)).code is Code.ENDED  # and is not brought back
    desk.tell(model.Cancel("r0"))  # granted: frees nothing
    desk.ask(2, renewal=1, after_ms=10_199)
    assert granted(desk.said) == [0]
    assert granted(desk.pass_ms(1)) == [2]


def test_a_cancel_that_overtakes_its_request_counts():
    desk = Desk()
    desk.tell(model.Cancel("r0"))
    said = desk.ask(0)
    assert only(replies(said, model.Refused)).code is Code.ENDED
    assert granted(said) == []


@pytest.mark.parametrize("after_ms", [0, 1_000, 7_000, 60_000], ids=lambda after_ms: f"after {after_ms} ms")
@pytest.mark.parametrize("is_answered", [True, False], ids=["answered", "silent"])
def test_a_plain_id_that_is_used_twice_is_refused_and_never_granted_again(is_answered, after_ms):
    desk = Desk()
    desk.ask(0, managed=False, request_id="p")
    if is_answered:
        desk.answer("g1")
    said = desk.ask(0, managed=False, request_id="p", reply_to="inbox.again", after_ms=after_ms)
    assert [a.to for a in said if isinstance(a, model.Reply)] == ["inbox.again"]
    assert only(replies(said, model.Refused)).code is Code.ENDED
    desk.pass_ms(60_000)
    assert granted(desk.said) == [0]


def test_a_plain_id_that_was_granted_is_spent_also_where_its_turn_came_back_unused():
    """Its one reply was final. A copy of its message is not answered again; another message with its id is refused."""
    desk = Desk()
    desk.ask(0, managed=False, request_id="p", reply_to="_INBOX.a")
    desk.answer("g1", Outcome.DECLINED)
    assert replies(desk.ask(0, managed=False, request_id="p", reply_to="_INBOX.a"), model.Refused) == []
    again = desk.ask(0, managed=False, request_id="p", reply_to="_INBOX.b")
    assert only(replies(again, model.Refused)).code is Code.ENDED


def test_a_granted_request_that_is_cancelled_ends_and_its_bucket_stays_shut():
    """The shard that never received its grant learns it from its renewal, and the hold is what it was."""
    desk = Desk()
    desk.ask(0)
    desk.tell(model.Cancel("r0"))
    opens_ns = desk.view.opens_at_ns[0]
    assert only(replies(desk.ask(0, renewal=1), model.Refused)).code is Code.ENDED
    assert desk.view.opens_at_ns[0] == opens_ns
    assert granted(desk.ask(0, request_id="anew", after_ms=(opens_ns - desk.now_ns) // MS)) == [0]


def test_a_standby_knows_which_ids_have_ended():
    """It heard every cancel and every answer: what it leads with is what its predecessor knew."""
    leader, standby = Desk(), Desk()
    for desk in (leader, standby):
        desk.tell(model.Cancel("gone"))
    standby.schedule.become_leader(standby.now_ns)
    assert only(replies(standby.ask(0, request_id="gone"), model.Refused)).code is Code.ENDED


def test_managed_expires_after_three_missed_renewals():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    desk.ask(1)  # told to renew in 2.6 s: three of these are less than the least, 12 s
    assert "expired" not in events(desk.pass_ms(11_999))
    assert "expired" in events(desk.pass_ms(1))
    assert "r1" not in desk.view.requests


def test_expiry_frees_no_turn():
    desk = Desk()
    desk.ask(0)
    desk.pass_ms(10_199)
    assert desk.view.opens_at_ns[0] > desk.now_ns


def test_plain_times_out_with_a_word():
    desk = Desk()
    desk.ask(0, managed=False)
    desk.ask(1, managed=False, timeout_ns=2 * SECOND)
    refused = only(replies(desk.pass_ms(2_000), model.Refused))
    assert refused.code is Code.TIMEOUT


def test_a_managed_timeout_counts_from_the_first_message():
    desk = Desk()
    desk.ask(0)
    desk.ask(1, timeout_ns=3 * SECOND)
    desk.ask(1, timeout_ns=3 * SECOND, renewal=1, after_ms=2_000)
    assert only(replies(desk.pass_ms(1_001), model.Refused)).code is Code.TIMEOUT


def test_what_was_waited_elsewhere_counts_for_the_timeout_too_but_a_copy_tells_what_is_left():
    desk = Desk()
    desk.ask(0)
    waited = {"timeout_ns": 3 * SECOND, "waited_ns": 2 * SECOND}
    desk.ask(1, **waited)
    desk.ask(2, **waited, is_copy=True)
    assert [body.request_id for body in replies(desk.pass_ms(1_001), model.Refused)] == ["r1"]
    assert [body.request_id for body in replies(desk.pass_ms(2_000), model.Refused)] == ["r2"]


def test_wrong_bucket_names_the_right_one():
    refused = only(replies(Desk(4).ask(6, bucket=3), model.Refused))
    assert refused.code is Code.WRONG_BUCKET
    assert refused.max_concurrency == 4
    assert "bucket 2" in refused.message


def test_a_bucket_of_another_max_concurrency_is_moved_and_discord_is_asked():
    desk = Desk(4)
    said = desk.ask(6, bucket=0, max_concurrency=2)
    assert only(replies(said)).bucket == 2
    assert any(isinstance(action, model.FetchLimits) for action in said)


def test_more_than_max_waiting_is_refused():
    desk = Desk(max_waiting=2)
    desk.ask(0)
    desk.ask(1)
    assert only(replies(desk.ask(2), model.Refused)).code is Code.OVERLOADED
    assert replies(desk.ask(1, renewal=1), model.Refused) == []


def test_early_late_and_repeated_wakeups_are_harmless():
    desk = Desk()
    desk.ask(0)
    desk.ask(1, managed=False)
    for _ in range(50):
        assert granted(desk.tell(model.Wake())) == []
    assert granted(desk.pass_ms(60_000)) == [1]


def test_a_request_id_that_names_another_shard_moves_to_its_bucket():
    desk = Desk(2)
    desk.ask(1, request_id="x1")
    desk.answer("g1")
    desk.ask(0, request_id="x0")
    desk.answer("g2")
    desk.ask(2, request_id="r")
    desk.ask(3, request_id="r", renewal=1)
    desk.pass_ms(3_000)
    desk.ask(3, request_id="r", renewal=2)
    desk.pass_ms(3_000)
    assert [(body.shard_id, body.bucket) for body in replies(desk.said)] == [(1, 1), (0, 0), (3, 1)]


def test_a_wait_without_end_leaves_no_alarm_behind_for_long():
    desk = Desk()
    for n in range(100):
        desk.ask(0, request_id=f"p{n}", managed=False, timeout_ns=30 * 86_400 * SECOND)
        desk.tell(model.Cancel(f"p{n}"))
    desk.pass_ms(601_000)
    deadline_ns = desk.schedule.next_deadline_ns()
    assert deadline_ns is None or deadline_ns > desk.now_ns + 3_600 * SECOND


def test_a_copy_of_one_that_is_known_or_has_ended_changes_nothing():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    desk.ask(1, renewal=3)
    desk.tell(model.RequestReceived("r0", 0, 0, "in", managed=True, is_copy=True))
    desk.tell(model.RequestReceived("r1", 1, 0, "in", renewal=9, waited_ns=SECOND, managed=True, is_copy=True))
    assert "r0" not in desk.view.requests
    assert desk.view.requests["r1"].renewal == 3
