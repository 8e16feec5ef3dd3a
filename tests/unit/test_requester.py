"""One request's life at the shard, told by hand: time is moved by hand, and nothing waits."""

import pytest

from nats_identify import wire
from nats_identify.client.requester import (
    Decline,
    Identified,
    Place,
    Reconnected,
    ReportProgress,
    SendAnswer,
    SendCancel,
    Source,
    State,
    Tick,
    Withdraw,
)
from nats_identify.reason import Reason
from nats_identify.schedule.model import SECOND, Code, Outcome
from tests.unit.shard_in_hand import NAME, Shard, answers, handed_over, renewals, requests

# --- asking


def test_it_asks_in_its_bucket_with_all_that_a_coordinator_needs():
    sent = Shard(priority=1, client="pod-0").begin()
    assert sent.bucket == 1
    assert sent.request == wire.Request(
        shard_id=5, request_id=NAME, max_concurrency=4, priority=1, managed=True, client="pod-0"
    )


def test_without_a_known_max_concurrency_it_asks_in_bucket_0_and_claims_nothing():
    sent = Shard(max_concurrency=None).begin()
    assert (sent.bucket, sent.request.max_concurrency) == (0, None)


def test_renewals_count_up_and_tell_how_long_it_has_waited():
    shard = Shard()
    shard.begin()
    sent = requests(shard.pass_ms(7_000))
    assert [request.renewal for request in sent] == list(range(1, len(sent) + 1))
    assert {request.request_id for request in sent} == {NAME}
    assert [request.waited_ms for request in sent] == sorted(request.waited_ms for request in sent)
    assert sent[0].waited_ms == 1_500  # the middle between the floor and 2 s


def test_a_reply_names_the_pace():
    shard = Shard()
    shard.begin()
    shard.queued(renew_in_ms=10_000, after_ms=100)
    assert renewals(shard.pass_ms(9_999)) == []
    assert renewals(shard.pass_ms(1)) == [1]


def test_a_pace_holds_for_one_renewal_and_silence_brings_back_its_own():
    shard = Shard()
    shard.begin()
    shard.queued(renew_in_ms=10_000)
    assert renewals(shard.pass_ms(10_000)) == [1]
    assert renewals(shard.pass_ms(2_400)) == [2]


def test_the_newest_pace_is_obeyed_and_0_means_now():
    shard = Shard()
    shard.begin()
    shard.queued(renew_in_ms=10_000)
    assert renewals(shard.queued(renew_in_ms=0, after_ms=10)) == [1]
    shard.queued(renew_in_ms=1_000)
    shard.queued(renew_in_ms=30_000)
    assert renewals(shard.pass_ms(29_999)) == []


def test_early_and_repeated_ticks_are_harmless():
    shard = Shard()
    shard.begin()
    assert [shard.tell(Tick()) for _ in range(5)] == [[]] * 5


def test_a_reconnect_renews_the_head_at_once():
    shard = Shard()
    shard.begin()
    shard.queued(position=1, renew_in_ms=60_000)
    assert renewals(shard.tell(Reconnected(), after_ms=500)) == [1]


def test_a_reconnect_asks_for_nothing_while_a_grant_is_held_or_all_is_over():
    shard = Shard()
    shard.begin()
    shard.granted()
    assert shard.tell(Reconnected()) == []
    shard.tell(Identified())
    assert shard.tell(Reconnected()) == []


# --- what is told about the place


def test_each_reply_tells_the_place():
    shard = Shard()
    shard.begin()
    assert shard.queued(position=3, eta_ms=15_000) == [ReportProgress(3, 15_000, Reason.WINDOW, near=False)]


def test_near_is_told_when_the_head_has_two_seconds_to_go():
    shard = Shard()
    shard.begin()
    assert shard.queued(position=1, eta_ms=3_000, renew_in_ms=5_000) == [
        ReportProgress(1, 3_000, Reason.WINDOW, near=False)
    ]
    assert shard.pass_ms(999) == []
    assert shard.pass_ms(1) == [ReportProgress(1, 2_000, Reason.WINDOW, near=True)]
    assert shard.pass_ms(1_000) == []  # once


def test_the_head_with_less_than_two_seconds_to_go_is_near_at_once():
    shard = Shard()
    shard.begin()
    assert shard.queued(position=1, eta_ms=2_000)[0] == ReportProgress(1, 2_000, Reason.WINDOW, near=True)


@pytest.mark.parametrize("place", [{"position": 2, "eta_ms": 100}, {"position": 1, "eta_ms": None}])
def test_who_is_not_next_or_has_no_end_in_sight_is_not_near(place):
    shard = Shard()
    shard.begin()
    said = shard.queued(**place, renew_in_ms=60_000) + shard.pass_ms(59_000)
    assert [action.near for action in said if isinstance(action, ReportProgress)] == [False]


def test_whoever_was_next_and_is_no_more_is_not_told_near():
    shard = Shard()
    shard.begin()
    shard.queued(position=1, eta_ms=3_000, renew_in_ms=60_000)
    shard.queued(position=2, eta_ms=8_000, renew_in_ms=60_000)  # somebody of higher priority came
    assert shard.pass_ms(50_000) == []


# --- the grant


def test_a_grant_may_be_used_so_long_after_its_renewal_was_first_sent():
    shard = Shard()
    begun_at_ns = shard.now_ns
    shard.begin()
    shard.queued(renew_in_ms=2_000)
    shard.pass_ms(2_000)
    action = handed_over(shard.granted(renewal=1, after_ms=300))
    assert action.use_by_ns == begun_at_ns + 2 * SECOND + 5 * SECOND
    assert shard.requester.state is State.HOLDING
    assert shard.requester.next_deadline_ns() is None


def test_it_counts_from_the_renewal_that_is_echoed_not_from_the_newest():
    shard = Shard()
    begun_at_ns = shard.now_ns
    shard.begin()
    shard.tell(Reconnected(), after_ms=1_000)
    assert handed_over(shard.granted(renewal=0)).use_by_ns == begun_at_ns + 5 * SECOND


def test_identified_answers_and_ends():
    shard = Shard()
    shard.begin()
    shard.granted()
    assert shard.tell(Identified()) == [SendAnswer("confirm.g1", Outcome.IDENTIFIED)]
    assert shard.requester.state is State.OVER
    assert shard.pass_ms(60_000) == []


def test_declined_answers_and_withdraws():
    shard = Shard()
    shard.begin()
    shard.granted()
    assert shard.tell(Decline()) == [SendAnswer("confirm.g1", Outcome.DECLINED), SendCancel(1, NAME)]
    assert shard.requester.state is State.OVER


def test_a_copy_of_an_undecided_grant_is_neither_handed_over_again_nor_answered():
    shard = Shard()
    shard.begin()
    shard.granted()
    assert shard.granted(after_ms=100) == []
    assert answers(shard.tell(Identified())) == [("confirm.g1", Outcome.IDENTIFIED)]


@pytest.mark.parametrize(("decision", "outcome"), [(Identified(), Outcome.IDENTIFIED), (Decline(), Outcome.DECLINED)])
def test_a_copy_of_a_decided_grant_is_given_the_same_answer(decision, outcome):
    shard = Shard()
    shard.begin()
    shard.granted()
    shard.tell(decision)
    assert shard.granted(to="elsewhere") == [SendAnswer("elsewhere", outcome)]
    assert shard.granted(after_ms=60_000) == [SendAnswer("confirm.g1", outcome)]


def test_decided_once_is_decided_for_good():
    shard = Shard()
    shard.begin()
    shard.granted()
    shard.tell(Identified())
    assert shard.tell(Decline()) == []
    assert shard.tell(Withdraw()) == []
    assert answers(shard.granted()) == [("confirm.g1", Outcome.IDENTIFIED)]


def test_a_grant_that_comes_too_late_is_declined_and_the_asking_goes_on():
    shard = Shard()
    shard.begin()
    shard.queued(renew_in_ms=60_000)
    said = shard.granted(after_ms=5_001)
    assert answers(said) == [("confirm.g1", Outcome.DECLINED)]
    assert renewals(said) == [1]
    assert shard.requester.state is State.ASKING
    assert handed_over(shard.granted("g2", renewal=1)).grant.grant_id == "g2"


def test_a_grant_at_its_last_moment_is_in_time():
    shard = Shard()
    shard.begin()
    shard.queued(renew_in_ms=60_000)
    assert handed_over(shard.granted(after_ms=5_000)).use_by_ns == shard.now_ns


def test_a_grant_that_became_late_in_hand_is_declined_and_the_asking_goes_on():
    shard = Shard()
    shard.begin()
    shard.granted()
    said = shard.tell(Decline(goes_on=True), after_ms=6_000)
    assert answers(said) == [("confirm.g1", Outcome.DECLINED)]
    assert renewals(said) == [1]
    assert requests(said)[0].waited_ms == 6_000
    assert answers(shard.granted()) == [("confirm.g1", Outcome.DECLINED)]  # its copy is dead too


def test_a_second_grant_while_one_is_held_is_declined():
    shard = Shard()
    shard.begin()
    shard.granted("g1")
    assert shard.granted("g2") == [SendAnswer("confirm.g2", Outcome.DECLINED)]
    assert answers(shard.tell(Identified())) == [("confirm.g1", Outcome.IDENTIFIED)]


@pytest.mark.parametrize("renewal", [1, 99])
def test_a_grant_for_a_renewal_that_was_never_sent_is_not_answered(renewal):
    shard = Shard()
    shard.begin()
    assert shard.granted(renewal=renewal) == []
    assert shard.requester.state is State.ASKING


def test_before_the_first_sending_no_grant_can_be_meant_for_it():
    assert Shard().granted() == []


def test_another_asking_s_replies_are_ignored():
    shard = Shard()
    shard.begin()
    assert shard.granted(request_id="r2") == []
    assert shard.queued(request_id="r2", renew_in_ms=0) == []
    assert shard.refused(Code.OVERLOADED, request_id="r2") == []
    assert shard.requester.state is State.ASKING


# --- the end


def test_withdrawing_cancels_what_was_asked():
    shard = Shard()
    shard.begin()
    assert shard.tell(Withdraw()) == [SendCancel(1, NAME)]
    assert shard.pass_ms(60_000) == []
    assert shard.queued(renew_in_ms=0) == []


def test_withdrawing_before_anything_was_sent_sends_nothing():
    assert Shard().tell(Withdraw()) == []


def test_withdrawing_with_a_grant_in_hand_declines_it():
    shard = Shard()
    shard.begin()
    shard.granted()
    assert shard.tell(Withdraw()) == [SendAnswer("confirm.g1", Outcome.DECLINED), SendCancel(1, NAME)]
    assert shard.tell(Withdraw()) == []


def test_a_grant_that_crosses_the_withdrawal_is_declined():
    shard = Shard()
    shard.begin()
    shard.tell(Withdraw())
    assert shard.granted() == [SendAnswer("confirm.g1", Outcome.DECLINED)]


def test_a_place_outlives_its_request():
    """A later request with the place of a withdrawn one has waited as long, and keeps its number in the source."""
    source, place = Source("s", 0), Place()
    first, other = Shard(source=source, place=place), Shard(source=source)
    asked = first.begin().request
    other.now_ns += 1 * SECOND
    between = other.begin().request
    first.tell(Withdraw())
    again = Shard(source=source, place=place)
    again.now_ns = first.now_ns + 7 * SECOND
    renewed = again.begin().request
    assert asked.asked_us == renewed.asked_us
    assert (renewed.waited_ms, renewed.renewal) == (7_000, 0)
    assert (between.asked_us or 0) > (renewed.asked_us or 0)
