"""The order in which a replica takes events in, and what a flood of one sender may fill."""

from coordinator.core.ledger import TrafficReceived
from coordinator.edge.allowance import Allowance
from coordinator.edge.event_queue import EventQueue, Unread, bytes_of
from nats_identify.clock import NS_PER_S
from nats_identify.schedule.model import Cancel, Confirmation, Outcome, RequestReceived


def taken(event_queue):
    events = []
    while (entry := event_queue.take()) is not None:
        events.append(entry[0])
    return events


async def test_our_own_events_come_first_and_the_others_as_they_arrived():
    event_queue = EventQueue()
    first, confirm, last = Cancel("a"), Confirmation("g", Outcome.DECLINED), Cancel("b")
    event_queue.try_put_request(first, "one")
    event_queue.try_put(confirm)
    event_queue.try_put_request(last, "two")
    event_queue.put(TrafficReceived())
    assert taken(event_queue) == [TrafficReceived(), first, confirm, last]


async def test_a_confirm_is_taken_after_all_requests_that_came_before_it_whoever_sent_them():
    event_queue = EventQueue()
    for number in range(5):
        event_queue.try_put_request(Cancel(f"a{number}"), "one")
    event_queue.try_put(Confirmation("g", Outcome.DECLINED))
    for number in range(5):
        event_queue.try_put_request(Cancel(f"b{number}"), "two")
    before = taken(event_queue)
    at = before.index(Confirmation("g", Outcome.DECLINED))
    assert {f"a{number}" for number in range(5)} <= {event.request_id for event in before[:at]}
    assert len(before) == 11


async def test_the_flood_of_one_sender_delays_the_others_by_one_event_each():
    event_queue = EventQueue()
    for number in range(1_000):
        event_queue.try_put_request(Cancel(f"flood-{number}"), "flooder")
    for number in range(3):
        event_queue.try_put_request(Cancel(f"calm-{number}"), "calm")
    order = [event.request_id for event in taken(event_queue)]
    assert order[:6] == ["flood-0", "calm-0", "flood-1", "calm-1", "flood-2", "calm-2"]
    assert order[6:] == [f"flood-{number}" for number in range(3, 1_000)]


async def test_neither_a_flood_of_confirms_nor_one_of_requests_holds_up_the_other():
    for flood_of_confirms in (True, False):
        event_queue = EventQueue()
        for number in range(1_000 if flood_of_confirms else 2):
            event_queue.try_put(Confirmation(f"{number}", Outcome.DECLINED))
        for number in range(2 if flood_of_confirms else 1_000):
            event_queue.try_put_request(Cancel(f"{number}"), "calm")
        names = [type(event).__name__ for event in taken(event_queue)]
        assert names[:4] == ["Confirmation", "Cancel", "Confirmation", "Cancel"]
        assert len(names) == 1_002


async def test_one_sender_cannot_fill_it_and_none_can_overfill_it():
    event_queue = EventQueue(queued_max=8, sender_max=4)
    assert [event_queue.try_put_request(Cancel("a"), "one") for _ in range(5)] == [True] * 4 + [False]
    assert [event_queue.try_put_request(Cancel("a"), "two") for _ in range(4)] == [True] * 4
    assert not event_queue.try_put_request(Cancel("a"), "three")
    assert len(event_queue) == 8
    event_queue.take()
    assert event_queue.try_put_request(Cancel("a"), "three")


def ask(request_id, **fields):
    return RequestReceived(request_id, 0, 0, f"in.{request_id}", managed=True, **fields)


async def test_of_one_request_one_message_waits_with_the_newest_content_and_the_first_time():
    event_queue = EventQueue()
    event_queue.try_put_request(ask("a", received_at_ns=100), "one")
    event_queue.try_put_request(ask("b", received_at_ns=200), "one")
    for renewal in range(1, 1_000):
        newer = ask("a", renewal=renewal, waited_ns=renewal * 50, received_at_ns=100 + renewal * 60)
        assert event_queue.try_put_request(newer, "one")
    assert len(event_queue) == 2
    first, second = taken(event_queue)
    assert (first.request_id, second.request_id) == ("a", "b")
    assert first.renewal == 999
    assert (first.first_at_ns(10**9), first.waited_ns) == (100, 0)
    assert first.number_at_ns(10**9) == 100 + 999 * 60


async def test_a_number_that_comes_twice_counts_from_its_first_message_and_an_older_one_changes_nothing():
    event_queue = EventQueue()
    for renewal, at_ns in ((1, 10), (2, 20), (2, 30), (1, 40)):
        event_queue.try_put_request(ask("a", renewal=renewal, received_at_ns=at_ns), "one")
    (event,) = taken(event_queue)
    assert (event.renewal, event.first_at_ns(100), event.number_at_ns(100)) == (2, 10, 20)


async def test_plain_requests_of_one_id_are_not_one_request():
    event_queue = EventQueue()
    for inbox in ("x", "y"):
        event_queue.try_put_request(RequestReceived("a", 0, 0, inbox), inbox)
    assert [event.reply_to for event in taken(event_queue)] == ["x", "y"]


async def test_the_answer_to_a_nudge_and_a_priority_request_do_not_wait_behind_a_crowd():
    event_queue = EventQueue()
    for number in range(2_000):
        event_queue.try_put_request(ask(f"r{number}"), "bot")
    event_queue.try_put_request(ask("p", priority=1), "bot")
    event_queue.try_put_request(ask("r1500", renewal=1), "bot", is_awaited=True)
    event_queue.try_put_request(ask("new", renewal=4), "bot", is_awaited=True)
    assert len(event_queue) == 2_002
    names = [event.request_id for event in taken(event_queue)]
    assert {"p", "r1500", "new"} <= set(names[:6])
    assert len(names) == len(set(names)) == 2_002
    assert len(event_queue) == 0


async def test_what_is_too_much_is_shed_and_room_is_kept_for_what_must_not_be():
    event_queue = EventQueue(queued_max=80, sender_max=1_000)
    taken_in = [event_queue.try_put_request(ask(f"r{number}"), "crowd") for number in range(200)]
    assert taken_in.count(True) == 70
    assert event_queue.try_put_request(ask("r3", renewal=1), "crowd")  # it takes no more room
    assert event_queue.try_put_request(ask("q"), "idle")  # a sender with none
    assert not event_queue.try_put_request(ask("q2"), "idle")
    assert all(event_queue.try_put_request(ask(f"p{number}", priority=1), "crowd") for number in range(8))
    assert event_queue.try_put_request(Cancel("r1"), "cancel")
    assert not event_queue.try_put_request(ask("p9", priority=1), "crowd")
    assert all(event_queue.try_put(Confirmation(f"{number}", Outcome.DECLINED)) for number in range(80))
    assert event_queue.try_put_request(ask("nudged", renewal=1), "crowd", is_awaited=True)
    assert not event_queue.try_put(Confirmation("one too many", Outcome.DECLINED))


async def test_requests_of_the_largest_content_fill_the_inbox_by_their_bytes():
    largest = ask("r", client="x" * 128)
    event_queue = EventQueue(bytes_max=10 * bytes_of(largest))
    taken_in = [event_queue.try_put_request(ask(f"r{number}", client="x" * 128), f"{number}") for number in range(20)]
    assert taken_in.count(True) == 10


def test_an_allowance_gives_no_more_than_its_rate():
    now_ns = 0
    allowance = Allowance(10, 3, lambda: now_ns)
    assert [allowance.take() for _ in range(5)] == [True] * 3 + [False] * 2
    now_ns = NS_PER_S // 10
    assert [allowance.take() for _ in range(2)] == [True, False]
    given = 0
    for millisecond in range(10_000):
        now_ns = NS_PER_S + millisecond * NS_PER_S // 1_000
        given += allowance.take()
    assert 99 <= given <= 103


# --- what a crowd, or one hostile sender, takes from others


def unread(name, renewal, subject=b"identify.request.0", body=b"{}", at=5):
    return Unread(renewal, subject, f"in.{name}", body, at)


async def test_a_flood_of_confirms_does_not_hold_up_an_awaited_renewal():
    event_queue = EventQueue()
    for number in range(2_000):
        event_queue.try_put(Confirmation(f"{number}", Outcome.DECLINED))
    event_queue.try_put_request(ask("nudged", renewal=1), "bot", is_awaited=True)
    names = [getattr(event, "request_id", "confirm") for event in taken(event_queue)]
    assert names.index("nudged") < 10


async def test_newer_messages_take_no_room_of_requests_and_are_bounded_by_all_their_bytes():
    count, size = 100, bytes_of(ask("r000"))
    event_queue = EventQueue(bytes_max=2 * count * size)
    for number in range(count):
        assert event_queue.try_put_request(ask(f"r{number:03}"), f"{number}")
    before = event_queue.request_bytes
    for number in range(count):
        event_queue.try_replace(f"r{number:03}", unread(f"r{number:03}", 1, subject=b"x" * 2 * size, body=b"y" * size))
    assert event_queue.request_bytes == before
    assert 3 * size < event_queue.unread_bytes <= count * size
    assert event_queue.try_put_request(ask("new"), "other")


async def test_an_eighth_is_kept_where_the_bytes_are_full():
    event_queue = EventQueue(bytes_max=80 * bytes_of(ask("r", client="x" * 128)))
    for number in range(100):
        event_queue.try_put_request(ask(f"r{number}", client="x" * 128), "crowd")
    assert not event_queue.try_put_request(ask("more"), "crowd")
    assert event_queue.try_put_request(ask("nudged", renewal=1), "other", is_awaited=True)
    assert event_queue.try_put_request(ask("p", priority=1), "other")


async def test_a_merged_request_is_counted_by_its_newest_content():
    event_queue = EventQueue()
    event_queue.try_put_request(ask("a"), "one")
    large = ask("a", renewal=1, client="x" * 128, source="s" * 64)
    event_queue.try_put_request(large, "one")
    assert event_queue.request_bytes == bytes_of(large)


async def test_what_is_left_behind_by_moved_requests_is_bounded():
    event_queue = EventQueue(queued_max=4_000, sender_max=1_000)
    for sender in range(300):
        for number in range(10):
            event_queue.try_put_request(ask(f"r{sender}-{number}"), f"s{sender}")
    most, renewal = 0, 0
    while len(event_queue) > 300:
        event_queue.try_put_request(ask("mine", renewal=renewal), "attacker")
        event_queue.try_put_request(ask("mine", renewal=renewal + 1), "attacker", is_awaited=True)
        most, renewal = max(most, event_queue.moved), renewal + 2
        event_queue.take()
        event_queue.take()
    assert 0 < most <= 4_000 // 8
    taken(event_queue)
    assert (event_queue.moved, event_queue.request_bytes, event_queue.unread_bytes) == (0, 0, 0)


async def test_a_confirm_is_taken_after_a_request_sent_before_it_though_it_was_renewed():
    event_queue = EventQueue()
    event_queue.try_put_request(ask("a", renewal=1), "one")
    event_queue.try_put(Confirmation("g", Outcome.DECLINED))
    event_queue.try_put_request(ask("a", renewal=2), "one", is_awaited=True)
    assert [type(event) for event in taken(event_queue)] == [RequestReceived, Confirmation]
