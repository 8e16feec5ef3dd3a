"""The order in which a replica takes events in, and what a flood of one sender may fill."""

from coordinator.core.ledger import TrafficReceived
from coordinator.edge.allowance import Allowance
from coordinator.edge.event_queue import EventQueue
from nats_identify.clock import NS_PER_S
from nats_identify.schedule.model import Cancel, Confirmation, Outcome


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
