"""One asking's life at the shard, told by hand: time is moved by hand, and nothing waits."""

from typing import Any

import pytest

from nats_identify import wire
from nats_identify.attempt import (
    ANEW_LEAST_NS,
    ANEW_MOST_NS,
    GRANTS_REMEMBERED,
    RENEWALS_REMEMBERED,
    AskAnew,
    Attempt,
    AttemptAction,
    AttemptEvent,
    Begin,
    Decline,
    HandOver,
    Identified,
    Received,
    Reconnected,
    SendAnswer,
    SendCancel,
    SendRequest,
    Source,
    State,
    Tell,
    Tick,
    Withdraw,
)
from nats_identify.reason import Reason
from nats_identify.schedule.model import MS, SECOND, Code, Outcome

NAME = "r1"


class Shard:
    """Shard 5 of 4 buckets with an attempt in its hands, and a clock that is moved by hand."""

    def __init__(self, **options: Any) -> None:
        self.now_ns = 1_000 * SECOND
        self.attempt = Attempt(5, NAME, **{"max_concurrency": 4, **options})

    def tell(self, event: AttemptEvent, *, after_ms: float = 0) -> list[AttemptAction]:
        self.now_ns += int(after_ms * MS)
        return self.attempt.handle(event, self.now_ns)

    def begin(self) -> SendRequest:
        (sent,) = self.tell(Begin())
        assert isinstance(sent, SendRequest)
        return sent

    def pass_ms(self, duration_ms: float) -> list[AttemptAction]:
        """Move time forward, stopping at each deadline on the way."""
        said: list[AttemptAction] = []
        end_ns = self.now_ns + int(duration_ms * MS)
        while (deadline_ns := self.attempt.next_deadline_ns()) is not None and deadline_ns <= end_ns:
            self.now_ns = max(self.now_ns, deadline_ns)
            said += self.tell(Tick())
        self.now_ns = end_ns
        return said

    def queued(self, *, after_ms: float = 0, **fields: Any) -> list[AttemptAction]:
        defaults: dict[str, Any] = {"position": 2, "eta_ms": 20_000, "renew_in_ms": 10_000, "reason": Reason.WINDOW}
        ids: dict[str, Any] = {"shard_id": 5, "bucket": 1, "request_id": NAME, "max_concurrency": 4}
        return self.tell(Received(wire.Queued(**{**ids, **defaults, **fields})), after_ms=after_ms)

    def granted(
        self, grant_id: str = "g1", *, renewal: int = 0, to: str = "", after_ms: float = 0, **fields: Any
    ) -> list[AttemptAction]:
        ids: dict[str, Any] = {"shard_id": 5, "bucket": 1, "request_id": NAME, "grant_id": grant_id}
        rest: dict[str, Any] = {"use_within_ms": 5_000, "waited_ms": 0, "remaining": 9, "max_concurrency": 4}
        grant = wire.Granted(**{**ids, **rest, "renewal": renewal, **fields})
        return self.tell(Received(grant, to or f"confirm.{grant_id}"), after_ms=after_ms)

    def refused(self, code: Code, *, request_id: str = NAME, **fields: Any) -> list[AttemptAction]:
        return self.tell(Received(wire.Refused(code=code, message="why", request_id=request_id, **fields)))


def requests(actions: list[AttemptAction]) -> list[wire.Request]:
    return [action.request for action in actions if isinstance(action, SendRequest)]


def renewals(actions: list[AttemptAction]) -> list[int]:
    return [request.renewal for request in requests(actions)]


def answers(actions: list[AttemptAction]) -> list[tuple[str, Outcome]]:
    return [(action.to, action.outcome) for action in actions if isinstance(action, SendAnswer)]


def handed_over(actions: list[AttemptAction]) -> HandOver:
    (action,) = [action for action in actions if isinstance(action, HandOver)]
    return action


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
    assert 2_000 <= sent[0].waited_ms <= 2_400


@pytest.mark.parametrize("name", ["r1", "r2", "another", "f00d"])
def test_while_nobody_answers_it_renews_every_two_seconds_and_up_to_a_fifth_more(name):
    attempt = Attempt(0, name)
    attempt.handle(Begin(), 0)
    assert 2 * SECOND <= (attempt.next_deadline_ns() or 0) <= 2.4 * SECOND


def test_a_fleet_does_not_renew_in_step():
    attempts = [Attempt(0, f"r{number}") for number in range(20)]
    for attempt in attempts:
        attempt.handle(Begin(), 0)
    assert len({attempt.next_deadline_ns() for attempt in attempts}) > 10


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


def test_a_reconnect_renews_at_once():
    shard = Shard()
    shard.begin()
    shard.queued(renew_in_ms=60_000)
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
    assert shard.queued(position=3, eta_ms=15_000) == [Tell(3, 15_000, Reason.WINDOW, near=False)]


def test_near_is_told_when_the_head_has_two_seconds_to_go():
    shard = Shard()
    shard.begin()
    assert shard.queued(position=1, eta_ms=3_000, renew_in_ms=5_000) == [Tell(1, 3_000, Reason.WINDOW, near=False)]
    assert shard.pass_ms(999) == []
    assert shard.pass_ms(1) == [Tell(1, 2_000, Reason.WINDOW, near=True)]
    assert shard.pass_ms(1_000) == []  # once


def test_the_head_with_less_than_two_seconds_to_go_is_near_at_once():
    shard = Shard()
    shard.begin()
    assert shard.queued(position=1, eta_ms=2_000)[0] == Tell(1, 2_000, Reason.WINDOW, near=True)


@pytest.mark.parametrize("place", [{"position": 2, "eta_ms": 100}, {"position": 1, "eta_ms": None}])
def test_who_is_not_next_or_has_no_end_in_sight_is_not_near(place):
    shard = Shard()
    shard.begin()
    said = shard.queued(**place, renew_in_ms=60_000) + shard.pass_ms(59_000)
    assert [action.near for action in said if isinstance(action, Tell)] == [False]


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
    assert shard.attempt.state is State.HOLDING
    assert shard.attempt.next_deadline_ns() is None


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
    assert shard.attempt.state is State.OVER
    assert shard.pass_ms(60_000) == []


def test_declined_answers_and_withdraws():
    shard = Shard()
    shard.begin()
    shard.granted()
    assert shard.tell(Decline()) == [SendAnswer("confirm.g1", Outcome.DECLINED), SendCancel(1, NAME)]
    assert shard.attempt.state is State.OVER


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
    assert shard.attempt.state is State.ASKING
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
    assert shard.attempt.state is State.ASKING


def test_before_the_first_sending_no_grant_can_be_meant_for_it():
    assert Shard().granted() == []


def test_another_asking_s_replies_are_ignored():
    shard = Shard()
    shard.begin()
    assert shard.granted(request_id="r2") == []
    assert shard.queued(request_id="r2", renew_in_ms=0) == []
    assert shard.refused(Code.OVERLOADED, request_id="r2") == []
    assert shard.attempt.state is State.ASKING


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


# --- refusals and other numbers


def test_wrong_bucket_moves_to_the_right_one():
    shard = Shard()
    shard.begin()
    (sent,) = shard.refused(Code.WRONG_BUCKET, max_concurrency=3)  # no problem that anybody need hear of
    assert isinstance(sent, SendRequest)
    assert (sent.bucket, sent.request.max_concurrency, sent.request.renewal) == (2, 3, 1)


def test_wrong_bucket_that_does_not_name_the_right_one_backs_off():
    shard = Shard()
    shard.begin()
    shard.refused(Code.WRONG_BUCKET)
    assert renewals(shard.pass_ms(4_999)) == []


@pytest.mark.parametrize(("retry_after_ms", "least_ms"), [(30_000, 30_000), (None, 5_000)])
def test_a_refusal_backs_off_and_asks_again(retry_after_ms, least_ms):
    shard = Shard()
    shard.begin()
    shard.refused(Code.OVERLOADED, retry_after_ms=retry_after_ms)
    assert renewals(shard.pass_ms(least_ms - 1)) == []
    assert renewals(shard.pass_ms(least_ms // 5 + 1))[:1] == [1]


def anew(actions: list[AttemptAction]) -> AskAnew:
    (action,) = [action for action in actions if isinstance(action, AskAnew)]
    return action


def test_an_ended_request_is_followed_by_a_new_one():
    shard = Shard()
    shard.begin()
    said = shard.refused(Code.ENDED)
    assert anew(said).message == "why"
    assert [action.reason for action in said if isinstance(action, Tell)] == ["ended"]
    assert shard.attempt.state is State.OVER
    assert shard.attempt.next_deadline_ns() is None
    assert shard.tell(Withdraw()) == []  # there is nothing to withdraw any more


def test_a_grant_of_an_ended_request_that_comes_after_all_is_declined():
    shard = Shard()
    shard.begin()
    shard.refused(Code.ENDED)
    assert answers(shard.granted()) == [("confirm.g1", Outcome.DECLINED)]
    assert answers(shard.granted(to="confirm.copy")) == [("confirm.copy", Outcome.DECLINED)]


@pytest.mark.parametrize("end", [Identified(), Decline(), Withdraw()])
def test_that_a_request_has_ended_is_no_news_to_a_shard_that_ended_it(end):
    shard = Shard()
    shard.begin()
    shard.granted()
    shard.tell(end)
    assert shard.refused(Code.ENDED) == []


def test_that_a_request_has_ended_takes_no_turn_away():
    shard = Shard()
    shard.begin()
    shard.granted()
    assert shard.refused(Code.ENDED) == []
    assert answers(shard.tell(Identified())) == [("confirm.g1", Outcome.IDENTIFIED)]


def test_that_another_request_has_ended_is_no_news():
    shard = Shard()
    shard.begin()
    assert shard.refused(Code.ENDED, request_id="another") == []


def test_the_pauses_before_new_requests_double_up_to_a_limit():
    pauses_ns = []
    for count in range(12):
        shard = Shard(anew_count=count)
        shard.begin()
        action = anew(shard.refused(Code.ENDED))
        assert action.anew_count == count + 1
        pauses_ns.append(action.pause_ns)
    assert ANEW_LEAST_NS <= pauses_ns[0] <= 1.2 * ANEW_LEAST_NS
    assert pauses_ns[1] == 2 * pauses_ns[0]
    assert ANEW_MOST_NS <= pauses_ns[-1] == max(pauses_ns) <= 1.2 * ANEW_MOST_NS


@pytest.mark.parametrize("event", [Tick(), Reconnected()])
def test_a_new_request_waits_out_its_pause_and_has_waited_for_nothing(event):
    shard = Shard(source=Source("S", 1_000 * SECOND))
    assert shard.tell(Begin(pause_ns=SECOND)) == []
    assert shard.tell(event, after_ms=999) == []
    (sent,) = requests(shard.pass_ms(1))
    assert (sent.renewal, sent.waited_ms, sent.asked_us) == (0, 0, 1_000_000)


def test_the_requests_of_a_source_are_numbered_in_the_order_of_their_beginning():
    source = Source("S", 1_000 * SECOND)
    sent = []
    for _ in range(3):  # at one instant, to the microsecond
        shard = Shard(source=source)
        sent.append(shard.begin().request)
    later = Shard(source=source)
    later.now_ns += 5 * MS
    sent += [later.begin().request, *requests(later.pass_ms(3_000))[:1]]
    assert {request.source for request in sent} == {"S"}
    assert [request.asked_us for request in sent] == [0, 1, 2, 5_000, 5_000]


def test_a_refusal_while_a_grant_is_held_takes_nothing_away():
    shard = Shard()
    shard.begin()
    shard.granted()
    assert shard.refused(Code.TIMEOUT) == []
    assert answers(shard.tell(Identified())) == [("confirm.g1", Outcome.IDENTIFIED)]


def test_a_reply_tells_todays_max_concurrency():
    shard = Shard()
    shard.begin()
    shard.queued(max_concurrency=2, renew_in_ms=10)
    (sent,) = shard.pass_ms(10)
    assert isinstance(sent, SendRequest)
    assert (sent.bucket, sent.request.max_concurrency) == (1, 2)
    shard.granted(max_concurrency=3, bucket=2)
    assert shard.tell(Withdraw())[-1] == SendCancel(2, NAME)


def test_a_reply_that_does_not_know_max_concurrency_takes_nothing_away():
    shard = Shard()
    shard.begin()
    shard.queued(max_concurrency=None, renew_in_ms=0)
    assert shard.attempt.max_concurrency == 4


# --- it lives as long as it must


def test_memory_is_bounded_over_a_long_life():
    shard = Shard()
    shard.begin()
    for number in range(3 * RENEWALS_REMEMBERED):
        said = shard.granted(f"g{number}", renewal=number, after_ms=6_000)
        assert answers(said) == [(f"confirm.g{number}", Outcome.DECLINED)]
    assert len(shard.attempt._first_sent_ns) == RENEWALS_REMEMBERED
    assert len(shard.attempt._decided) == GRANTS_REMEMBERED


def test_a_grant_for_a_renewal_that_is_long_forgotten_is_declined_as_late():
    shard = Shard()
    shard.begin()
    for _ in range(RENEWALS_REMEMBERED):
        shard.tell(Reconnected(), after_ms=50)  # the most that are sent
    said = shard.granted(renewal=0)
    assert answers(said) == [("confirm.g1", Outcome.DECLINED)]
