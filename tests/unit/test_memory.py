"""What a request takes, and what it leaves behind: counted by the allocator, with requests as large as they may be."""

import tracemalloc

import pytest

from coordinator.edge.event_queue import EventQueue
from coordinator.edge.intake import decode_request
from nats_identify.schedule import model, requests
from nats_identify.schedule.model import MS
from nats_identify.schedule.requests import ENDED_MAX
from nats_identify.schedule.unsent import UNSENT_MAX
from tests.chaos.crowd import BUCKETS, worst
from tests.unit.desk import Desk

REQUEST_BYTES_MAX = 1_750
"""Of one that waits: 350 MB for 200,000 of them. A thousand of these bytes are its strings."""

LEFT_BYTES_MAX = 60
"""Of one that has gone, when as many as are remembered have gone before."""


@pytest.fixture(autouse=True)
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def traced_bytes():
    return tracemalloc.get_traced_memory()[0]


def event(number, **changed):
    """The largest request, as the edge makes it of what arrives."""
    subject, reply_to, body = worst(number, **changed)
    return decode_request(body).ask(bucket=int(subject.rpartition(".")[2]), reply_to=reply_to, request_id="")


def busy(max_waiting=100_000):
    """A desk whose buckets are all shut: nothing is granted, and it keeps nothing of what it said."""
    desk = Desk(BUCKETS, total=100_000, max_waiting=max_waiting)
    for bucket in range(BUCKETS):
        desk.ask(bucket)
    assert len(desk.view.holds) == BUCKETS
    return desk


def hear(desk, heard, after_ns=0):
    desk.now_ns += after_ns
    desk.schedule.handle(heard, desk.now_ns)


@pytest.mark.parametrize("managed", [False, True])
def test_a_request_takes_a_bounded_number_of_bytes(managed):
    desk, count = busy(), 2_600
    before = traced_bytes()
    for number in range(count):
        hear(desk, event(number, managed=managed), 1_001)
    assert len(desk.view.requests) == count + BUCKETS
    each = (traced_bytes() - before) / count
    assert each <= REQUEST_BYTES_MAX


@pytest.mark.parametrize("managed", [False, True])
def test_a_renewal_leaves_nothing_behind(managed):
    desk, count = busy(), 500
    for number in range(count):
        hear(desk, event(number, managed=managed), 1_001)
    before = 0
    for renewal in range(6):
        before = before or (renewal and traced_bytes())  # from after the first renewals
        for number in range(count):
            priority = (renewal * 7 + number) % 21 - 10
            hear(desk, event(number, managed=managed, renewal=renewal, priority=priority), 1_001)
    assert len(desk.view.requests) == count + BUCKETS
    assert (traced_bytes() - before) / (5 * count) <= LEFT_BYTES_MAX


@pytest.mark.parametrize("managed", [False, True])
def test_requests_that_come_and_go_leave_nothing_behind(managed, monkeypatch):
    monkeypatch.setattr(requests, "ENDED_MAX", 500)
    desk, count = busy(), 1_500

    def churn(first, last):
        for number in range(first, last):
            hear(desk, event(number, managed=managed), MS)
            if number >= 100:
                hear(desk, model.Cancel(f"{number - 100:064d}"))

    churn(0, 1_000)
    before = traced_bytes()
    churn(1_000, 1_000 + count)
    left = (traced_bytes() - before) / count
    assert left <= LEFT_BYTES_MAX


def test_requests_that_are_refused_leave_nothing_behind():
    desk, count = busy(max_waiting=100), 1_000
    # By then the memories of ended ids and of refusals, which have bounds of their own, are full.
    full = ENDED_MAX + UNSENT_MAX
    for number in range(full):
        hear(desk, event(number), MS)
    before = traced_bytes()
    for number in range(full, full + count):
        hear(desk, event(number), MS)
    assert (traced_bytes() - before) / count <= LEFT_BYTES_MAX


async def test_a_sender_with_one_event_takes_little_of_the_inbox():
    """Each of its own inbox: what stands around an event is much less than the event."""
    event_queue, count = EventQueue(), 3_000
    cancel = model.Cancel("a")
    before = traced_bytes()
    for number in range(count):
        event_queue.try_put_request(cancel, f"_INBOX.{number:0247d}")
    each = (traced_bytes() - before) / count
    assert each <= 450
