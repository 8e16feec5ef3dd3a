"""One request's life at the shard: refusals, requests that ended, other numbers of buckets, and a long life."""

import pytest

from nats_identify.client.requester import (
    ANEW_MAX_NS,
    ANEW_MIN_NS,
    GRANTS_REMEMBERED,
    RENEWALS_REMEMBERED,
    AskAnew,
    Begin,
    Decline,
    Identified,
    Reconnected,
    ReportProgress,
    RequesterAction,
    SendCancel,
    SendRequest,
    Source,
    State,
    Tick,
    Withdraw,
)
from nats_identify.schedule.model import MS, SECOND, Code, Outcome
from tests.unit.shard_in_hand import NAME, Shard, answers, renewals, requests

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
    assert renewals(shard.pass_ms(least_ms + 1))[:1] == [1]  # with the jitter


def anew(actions: list[RequesterAction]) -> AskAnew:
    (action,) = [action for action in actions if isinstance(action, AskAnew)]
    return action


def test_an_ended_request_is_followed_by_a_new_one():
    shard = Shard()
    shard.begin()
    said = shard.refused(Code.ENDED)
    assert anew(said).message == "why"
    assert [action.reason for action in said if isinstance(action, ReportProgress)] == ["ended"]
    assert shard.requester.state is State.OVER
    assert shard.requester.next_deadline_ns() is None
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
    assert ANEW_MIN_NS <= pauses_ns[0] <= 1.2 * ANEW_MIN_NS
    assert pauses_ns[1] == 2 * pauses_ns[0]
    assert ANEW_MAX_NS <= pauses_ns[-1] == max(pauses_ns) <= 1.2 * ANEW_MAX_NS


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
    assert shard.requester.max_concurrency == 4


# --- it lives as long as it must


def test_memory_is_bounded_over_a_long_life():
    shard = Shard()
    shard.begin()
    for number in range(3 * RENEWALS_REMEMBERED):
        said = shard.granted(f"g{number}", renewal=number, after_ms=6_000)
        assert answers(said) == [(f"confirm.g{number}", Outcome.DECLINED)]
    assert len(shard.requester._first_sent_ns) == RENEWALS_REMEMBERED
    assert len(shard.requester._decided) == GRANTS_REMEMBERED


def test_a_grant_for_a_renewal_that_is_long_forgotten_is_declined_as_late():
    shard = Shard()
    shard.begin()
    for _ in range(RENEWALS_REMEMBERED):
        shard.tell(Reconnected(), after_ms=50)  # the most that are sent
    said = shard.granted(renewal=0)
    assert answers(said) == [("confirm.g1", Outcome.DECLINED)]
