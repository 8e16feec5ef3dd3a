"""The share of the queue that one connection may have: it follows the newest reply subject, and is given back."""

import pytest

from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Code
from nats_identify.schedule.senders import SenderCounts, sender_of
from tests.unit.desk import Desk, granted, replies

SHARE = 4
MOST = 4 * SHARE


def busy(**options):
    """A desk whose only bucket is taken for a while."""
    desk = Desk(max_waiting=MOST, **options)
    desk.ask(0, request_id="first", reply_to="_INBOX.first")
    assert desk.schedule.state.requests.max_of_sender == SHARE
    return desk


def ask(desk, name, inbox, **fields):
    """Ask from this inbox; return the refusals."""
    said = desk.ask(1, request_id=name, reply_to=f"_INBOX.{inbox}.{name}", **fields)
    return replies(said, model.Refused)


def fill(desk, inbox, count=SHARE):
    for number in range(count):
        assert ask(desk, f"{inbox}-{number}", inbox) == []


@pytest.mark.parametrize("managed", [True, False])
def test_one_connection_cannot_fill_the_queue_and_the_others_are_served(managed):
    desk = busy()
    refused = []
    for number in range(3 * MOST):
        refused += ask(desk, f"flood-{number}", "flood", managed=managed)
    assert len(refused) == 3 * MOST - SHARE
    assert {refusal.code for refusal in refused} == {Code.OVERLOADED}
    assert f"{SHARE} requests of this connection wait already" in refused[0].message
    assert "a quarter of IDENTIFY_MAX_WAITING" in refused[0].message
    assert refused[0].retry_after_ns
    fill(desk, "calm")


def test_the_limit_of_all_says_that_it_is_the_one():
    desk = busy()
    for inbox in "abc":
        fill(desk, inbox)
    fill(desk, "d", SHARE - 1)
    (refused,) = ask(desk, "more", "e")
    assert refused.message.startswith(f"{MOST} requests wait already")


def test_plain_requesters_each_with_an_inbox_of_its_own_share_nothing():
    desk = busy()
    for number in range(MOST - 1):
        said = desk.ask(1, request_id=f"r{number}", reply_to=f"_INBOX.r{number}", managed=False)
        assert replies(said, model.Refused) == []


def test_renewals_are_never_refused_for_it_and_the_count_follows_the_newest_inbox():
    desk = busy()
    fill(desk, "before")
    for number in range(SHARE):  # it has reconnected
        assert ask(desk, f"before-{number}", "after", renewal=1) == []
    assert ask(desk, "new", "before") == []
    (refused,) = ask(desk, "newer", "after")
    assert refused.code is Code.OVERLOADED
    assert ask(desk, "new", "after", renewal=1) == []  # one more than its share: it keeps its place
    assert "new" in desk.view.requests


def test_a_renewal_that_comes_late_does_not_move_the_count():
    desk = busy()
    fill(desk, "new")
    ask(desk, "new-0", "new", renewal=2)
    ask(desk, "new-0", "old", renewal=1)
    assert ask(desk, "more", "new") != []


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_who_leaves_gives_its_share_back(how):
    desk = busy()
    fill(desk, "a")
    if how == "expired":
        desk.pass_ms(1_000_000)
    for name in list(desk.view.requests):
        desk.tell(model.Cancel(name))
    for number in range(SHARE):
        assert ask(desk, f"later-{number}", "a") == []
    assert ask(desk, "more", "a") != []


def test_who_was_served_gives_its_share_back():
    desk = Desk(max_waiting=MOST)
    for number in range(3 * SHARE):
        said = ask(desk, f"a-{number}", "a")
        assert said == []
        desk.answer(f"g{number + 1}", after_ms=10)
        desk.pass_ms(5_300)
    assert granted(desk.said) == [1] * 3 * SHARE
    assert not desk.view.requests  # the desk checks that none is counted any more


def test_a_copy_counts_and_is_never_refused():
    """What another replica has taken is taken here too: both have the same queue."""
    desk = busy()
    for number in range(SHARE + 1):
        copy = model.RequestReceived(f"c{number}", 1, 0, f"_INBOX.a.c{number}", managed=True, is_copy=True)
        desk.tell(copy)
    assert len(desk.view.requests) == SHARE + 2
    assert ask(desk, "more", "a") != []


def test_two_replicas_that_heard_the_same_have_the_same_queue():
    desks = [busy(), busy()]
    for number in range(200):
        for desk in desks:
            inbox = "abc"[number * 7 % 3]
            ask(desk, f"{number % 31}", inbox, renewal=number, waited_ns=number * MS)
            desk.pass_ms(number % 5 * SECOND // MS // 10)
    assert desks[0].view == desks[1].view


def test_a_sender_without_requests_takes_no_room():
    counts = SenderCounts()
    counts.add("_INBOX.a.1")
    counts.add("_INBOX.a.2")
    assert counts.of("_INBOX.a.3") == 2
    counts.remove("_INBOX.a.2")
    counts.remove("_INBOX.a.1")
    assert not counts._counts
    with pytest.raises(KeyError):
        counts.remove("_INBOX.a.1")


def test_the_requests_of_one_connection_have_one_sender():
    assert sender_of("_INBOX.abc.r1") == sender_of("_INBOX.abc.r2") == "_INBOX.abc"
    assert sender_of("_INBOX_shard.pod-0.abc.r1") == "_INBOX_shard.pod-0.abc"
    assert sender_of("_INBOX.abc") != sender_of("_INBOX.def")
    assert sender_of("box") == "box"
