"""The release schedule, told by hand: windows, order, answers, nudges, expiry."""

import pytest

from nats_identify.schedule import model
from nats_identify.schedule.model import DAY, MS, SECOND, Code, Limits, Outcome, Reason, Timing
from tests.unit.desk import Desk, events, granted, replies


def only(bodies):
    assert len(bodies) == 1, bodies
    return bodies[0]


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


def test_first_come_first_served_within_a_priority():
    desk = Desk(timing=Timing(use_within_ns=SECOND))
    for shard in (0, 5, 3, 4):
        desk.ask(shard, managed=False, after_ms=1)
    desk.ask(9, managed=False, priority=1, after_ms=1)
    assert granted(desk.pass_ms(60_000)) == [9, 5, 3, 4]


def test_waited_ms_gives_a_place_back():
    desk = Desk()
    desk.ask(0, managed=False)
    desk.ask(1, managed=False)
    desk.ask(2, managed=False, waited_ns=10 * SECOND, after_ms=10)
    assert granted(desk.pass_ms(20_000)) == [2, 1]


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
    left = desk.schedule.state.budget.remaining
    desk.pass_ms(60_000)
    said = desk.ask(0, renewal=2)
    assert only(replies(said, model.Refused)).code is Code.ENDED
    assert events(said) == []  # whoever watches was told once
    assert granted(desk.said) == [0]
    assert desk.schedule.state.budget.remaining == left


def test_an_answer_is_final():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    opens_ns = desk.schedule.state.holds.opens_at_ns(0)
    assert desk.answer("g1", after_ms=100) == []
    assert desk.answer("g1", Outcome.DECLINED) == []
    assert desk.schedule.state.holds.opens_at_ns(0) == opens_ns


def test_declined_frees_the_bucket_gives_back_and_keeps_the_place():
    desk = Desk()
    desk.ask(0)
    desk.ask(1)
    said = desk.answer("g1", Outcome.DECLINED, after_ms=1)
    assert granted(said) == [1]
    assert desk.schedule.state.budget.remaining == 999
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
    assert desk.schedule.state.budget.remaining == 999


def test_503_of_a_copy_proves_nothing():
    desk = Desk()
    desk.ask(0)
    desk.ask(0, renewal=1)
    desk.ask(1)
    assert desk.tell(model.Undeliverable("g1")) == []
    assert desk.schedule.state.budget.remaining == 999


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
    assert desk.schedule.state.budget.remaining == 1000


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
    assert [(a.to, a.body.code) for a in said if isinstance(a, model.Reply)] == [("inbox.again", Code.ENDED)]
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
    opens_ns = desk.schedule.state.holds.opens_at_ns(0)
    assert only(replies(desk.ask(0, renewal=1), model.Refused)).code is Code.ENDED
    assert desk.schedule.state.holds.opens_at_ns(0) == opens_ns
    assert granted(desk.ask(0, request_id="anew", after_ms=(opens_ns - desk.now_ns) // MS)) == [0]


def test_a_standby_knows_which_ids_have_ended():
    """It heard every cancel and every answer: what it leads with is what its predecessor knew."""
    leader, standby = Desk(), Desk()
    for desk in (leader, standby):
        desk.tell(model.Cancel("gone"))
    standby.schedule.become_leader(standby.now_ns)
    assert only(replies(standby.ask(0, request_id="gone"), model.Refused)).code is Code.ENDED


# --- the order of asking


def line_of(desk, bucket=0):
    """The requests of a bucket, in their order."""
    return [asking.message.request_id for asking in desk.schedule.state.requests.queues.get(bucket, ())]


def busy(max_concurrency=1):
    """A desk whose first bucket was used right now by somebody else."""
    desk = Desk(max_concurrency)
    desk.ask(0, request_id="used")
    desk.answer("g1")
    return desk


def test_requests_of_one_source_stand_as_asked_whatever_their_messages_say():
    """All coordinators were restarted: messages took different times, and milliseconds are rounded."""
    desk = busy()
    waited_ms = {0: 900, 1: 903, 2: 899, 3: 905, 4: 880}
    for n in (3, 1, 4, 0, 2):
        desk.ask(n, request_id=f"s{n}", waited_ns=waited_ms[n] * MS, source="S", asked_us=1_000 + n)
    assert line_of(desk) == ["s0", "s1", "s2", "s3", "s4"]


def test_a_later_estimate_moves_a_source_as_a_whole():
    desk = busy()
    for n in range(3):
        desk.ask(n, request_id=f"s{n}", waited_ns=MS, source="S", asked_us=n)
    desk.ask(9, request_id="other", waited_ns=100 * MS, source="T")
    assert line_of(desk) == ["other", "s0", "s1", "s2"]
    desk.ask(1, request_id="s1", waited_ns=SECOND, source="S", asked_us=1, renewal=1)
    assert line_of(desk) == ["s0", "s1", "other", "s2"]


def test_without_a_source_the_estimates_decide():
    desk = busy()
    for n, waited_ms in enumerate((900, 903, 899)):
        desk.ask(n, request_id=f"s{n}", waited_ns=waited_ms * MS)
    assert line_of(desk) == ["s1", "s0", "s2"]


def test_a_source_keeps_its_order_through_a_change_of_max_concurrency_and_of_priority():
    desk = busy(2)
    for n in (6, 2, 4, 0):
        desk.ask(n, request_id=f"s{n}", waited_ns=(500 - n) * MS, source="S", asked_us=n)
    desk.ask(2, request_id="s2", renewal=1, priority=1, waited_ns=498 * MS, source="S", asked_us=2)
    assert line_of(desk) == ["s2", "s0", "s4", "s6"]
    desk.tell(model.LimitsFetchStarted())
    desk.tell(model.LimitsFetched(Limits(1, 1000, 1000, DAY)))
    assert line_of(desk) == ["s2", "s0", "s4", "s6"]


def test_a_source_is_forgotten_with_the_last_of_its_requests():
    desk = busy()
    for n in range(3):
        desk.ask(n, request_id=f"s{n}", source="S", asked_us=n)
    desk.ask(9)
    (line,) = desk.schedule.state.requests.queues.values()
    assert line._siblings
    for n in (1, 0, 2):
        desk.tell(model.Cancel(f"s{n}"))
    assert not line._siblings


def test_who_was_told_that_it_is_next_is_not_overtaken_by_an_equal_that_comes_later():
    desk = busy()
    desk.ask(1, request_id="a")
    desk.pass_ms(4_000)  # it was nudged
    desk.ask(1, request_id="a", renewal=1)
    desk.ask(2, request_id="late", waited_ns=60 * SECOND)
    assert line_of(desk) == ["a", "late"]
    desk.ask(3, request_id="higher", priority=1)
    assert line_of(desk) == ["higher", "a", "late"]


def test_a_promise_outlives_a_better_estimate_of_its_own_place():
    desk = busy()
    desk.ask(3, request_id="first", waited_ns=30 * SECOND)
    desk.ask(1, request_id="a", waited_ns=SECOND)
    state = desk.schedule.state
    state.promise(state.requests.get("a"))  # as when "first" does not answer, and both are nudged
    desk.ask(1, request_id="a", renewal=1, waited_ns=6 * SECOND)  # its first message was slow: it asked earlier
    desk.ask(2, request_id="late", waited_ns=20 * SECOND)
    assert line_of(desk) == ["first", "a", "late"]


def test_one_with_a_promise_does_not_overtake_another_that_has_an_earlier_one():
    """More and more are told that it is their turn while nobody answers: each of these has a promise."""
    desk = busy()
    desk.ask(1, request_id="a")
    desk.pass_ms(3_300)  # it was nudged
    desk.ask(2, request_id="late", waited_ns=60 * SECOND)
    state = desk.schedule.state
    state.promise(state.requests.get("late"))  # as when "a" does not answer, and both are nudged
    desk.ask(2, request_id="late", renewal=1, waited_ns=62 * SECOND)
    assert line_of(desk) == ["a", "late"]


def test_one_that_was_only_placed_first_is_overtaken_by_one_that_asked_before_it():
    """After a restart of all coordinators: its turn is not near, so it was promised nothing."""
    desk = busy()
    told = only(replies(desk.ask(1, request_id="a", waited_ns=SECOND), model.Queued))
    assert told.position == 1
    desk.ask(2, request_id="late", waited_ns=60 * SECOND)
    assert line_of(desk) == ["late", "a"]


def test_a_promise_gives_way_to_the_order_of_its_own_source():
    desk = busy()
    desk.ask(1, request_id="s1", source="S", asked_us=5)
    desk.pass_ms(4_000)
    desk.ask(1, request_id="s1", renewal=1, source="S", asked_us=5)
    desk.ask(2, request_id="s0", waited_ns=60 * SECOND, source="S", asked_us=2)
    assert line_of(desk) == ["s0", "s1"]


@pytest.mark.parametrize("end", ["become_leader", "on_commit_unknown", "on_reconnected"])
def test_a_promise_ends_with_what_it_rests_on(end):
    desk = busy()
    desk.ask(1, request_id="a")
    desk.pass_ms(4_000)
    getattr(desk.schedule, end)(desk.now_ns)
    desk.ask(2, request_id="late", waited_ns=60 * SECOND)
    assert line_of(desk) == ["late", "a"]


def test_what_was_not_sent_is_no_promise():
    """A standby answers nobody, nor does a leader whose lease is over."""
    desk = busy()
    desk.pass_ms(4_000)
    desk.schedule.state.is_within_lease = False
    desk.ask(1, request_id="a")
    desk.schedule.state.is_within_lease = True
    desk.ask(2, request_id="late", waited_ns=60 * SECOND)
    assert line_of(desk) == ["late", "a"]


def test_one_that_stands_behind_a_promise_takes_its_own_place_when_that_is_over():
    desk = busy()
    desk.ask(1, request_id="a")
    desk.ask(3, request_id="b", after_ms=1)
    desk.pass_ms(3_300)  # only the head has been told
    desk.ask(1, request_id="a", renewal=1)
    desk.ask(2, request_id="late", waited_ns=60 * SECOND)
    desk.tell(model.Cancel("a"))
    desk.ask(4, request_id="c", managed=False, waited_ns=30 * SECOND)  # it is told nothing
    desk.ask(2, request_id="late", waited_ns=60 * SECOND, renewal=1)
    assert line_of(desk) == ["late", "c", "b"]


def test_a_copy_stands_where_it_stands_elsewhere():
    desk = busy()
    for name, place_ns, waited_ns in (("b", 2, 500 * MS), ("a", 1, 500 * MS), ("c", 3, 501 * MS)):
        at_ns = desk.now_ns - SECOND + place_ns
        desk.tell(
            model.RequestReceived(name, 1, 0, "in", waited_ns=waited_ns, managed=True, is_copy=True, place_at_ns=at_ns)
        )
    assert line_of(desk) == ["a", "b", "c"]


def test_managed_expires_after_three_missed_renewals():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    desk.ask(1)  # told to renew in 2.6 s: three of these are less than the least, 12 s
    assert "expired" not in events(desk.pass_ms(11_999))
    assert "expired" in events(desk.pass_ms(1))
    assert "r1" not in desk.schedule.state.requests.by_id


def test_expiry_frees_no_turn():
    desk = Desk()
    desk.ask(0)
    desk.pass_ms(10_199)
    assert desk.schedule.state.holds.opens_at_ns(0) > desk.now_ns


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


def test_ready_and_rejected_are_told_even_after_the_hold():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    assert events(desk.answer("g1", Outcome.READY, after_ms=6_000)) == ["ready"]
    assert events(desk.answer("g1", Outcome.READY)) == []


def test_a_stranger_s_answer_changes_nothing():
    desk = Desk()
    desk.ask(0)
    opens_ns = desk.schedule.state.holds.opens_at_ns(0)
    for outcome in Outcome:
        assert desk.answer("nobody", outcome) == []
    assert desk.schedule.state.holds.opens_at_ns(0) == opens_ns


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
    assert desk.schedule.state.budget.remaining == 1000  # no requester can have used it
    assert len(desk.schedule.state.holds) == 0


def test_out_of_lease_no_grant_leaves_and_a_renewal_finds_it():
    desk = Desk()
    desk.schedule.handle(model.RequestReceived("r0", 0, 0, "inbox", managed=True), desk.now_ns)
    grants, _ = desk.schedule.grant_due(desk.now_ns)
    assert desk.schedule.on_committed(grants, desk.now_ns, in_time=False) == []
    assert only(replies(desk.ask(0, renewal=1))).grant_id == "g1"


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


def test_a_plain_retry_is_not_forgotten_for_an_earlier_look_at_its_bucket():
    desk = Desk()
    desk.ask(0, managed=False, request_id="p")
    desk.ask(7, request_id="m")
    desk.pass_ms(4_000)  # m is stale: it will be told, and its bucket looked at a step later
    desk.tell(model.Undeliverable("g1"))
    assert granted(desk.pass_ms(1_300)) == [0]


def test_a_wait_without_end_leaves_no_alarm_behind_for_long():
    desk = Desk()
    for n in range(100):
        desk.ask(0, request_id=f"p{n}", managed=False, timeout_ns=30 * 86_400 * SECOND)
        desk.tell(model.Cancel(f"p{n}"))
    desk.pass_ms(601_000)
    assert desk.schedule.next_deadline_ns() is None or desk.schedule.next_deadline_ns() > desk.now_ns + 3_600 * SECOND


def test_a_copy_of_one_that_is_known_or_has_ended_changes_nothing():
    desk = Desk()
    desk.ask(0)
    desk.answer("g1")
    desk.ask(1, renewal=3)
    desk.tell(model.RequestReceived("r0", 0, 0, "in", managed=True, is_copy=True))
    desk.tell(model.RequestReceived("r1", 1, 0, "in", renewal=9, waited_ns=SECOND, managed=True, is_copy=True))
    assert "r0" not in desk.schedule.state.requests.by_id
    assert desk.schedule.state.requests.by_id["r1"].message.renewal == 3


def test_a_copy_is_as_fresh_as_it_was_where_it_comes_from():
    """Else one behind it that renews here sooner would be granted first."""
    desk = Desk()

    copy = model.RequestReceived("r0", 0, 0, "in", renewal=4, waited_ns=SECOND, managed=True, is_copy=True)
    desk.tell(copy._replace(renewed_at_ns=desk.now_ns - SECOND))
    desk.tell(model.RequestReceived("r1", 1, 0, "in", renewal=9, managed=True))
    assert granted(desk.said) == [0]
