"""The order of a bucket's queue: priority, the order of asking, sources, promises."""

import pytest

from nats_identify.schedule import model
from nats_identify.schedule.model import DAY, MS, SECOND, Limits, Timing
from tests.unit.desk import Desk, busy, granted, line_of, only, replies


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
    for n in (1, 0, 2):
        desk.tell(model.Cancel(f"s{n}"))  # the desk checks what is kept by source
    assert line_of(desk) == ["r9"]


def promise(desk, request_id):
    state = desk.schedule.state
    state.promise(state.requests.by_id[request_id])


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
    promise(desk, "a")  # as when "first" does not answer, and both are nudged
    desk.ask(1, request_id="a", renewal=1, waited_ns=6 * SECOND)  # its first message was slow: it asked earlier
    desk.ask(2, request_id="late", waited_ns=20 * SECOND)
    assert line_of(desk) == ["first", "a", "late"]


def test_one_with_a_promise_does_not_overtake_another_that_has_an_earlier_one():
    """More and more are told that it is their turn while nobody answers: each of these has a promise."""
    desk = busy()
    desk.ask(1, request_id="a")
    desk.pass_ms(3_300)  # it was nudged
    desk.ask(2, request_id="late", waited_ns=60 * SECOND)
    promise(desk, "late")  # as when "a" does not answer, and both are nudged
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
    state = desk.schedule.state
    state.set_within_lease(is_within_lease=False)
    desk.ask(1, request_id="a")
    state.set_within_lease(is_within_lease=True)
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


def test_of_two_messages_that_waited_in_the_inbox_the_quicker_one_gives_the_place():
    def of(waited_s, received_s, renewal):
        times = {"waited_ns": waited_s * SECOND, "received_at_ns": received_s * SECOND}
        return model.RequestReceived("a", 0, 0, "in", renewal=renewal, managed=True, **times)

    slow, quick = of(100, 208, 3), of(110, 210, 4)  # it asked at 100; the first message was 8 s on its way
    assert slow.merged_with(quick).first_at_ns(211 * SECOND) - slow.merged_with(quick).waited_ns == 100 * SECOND
    assert quick.merged_with(of(112, 220, 5)).waited_ns == 110 * SECOND
    assert of(0, 208, 0).merged_with(of(3, 210, 1)).waited_ns == 0, "it asked here first: its arrival is its place"
