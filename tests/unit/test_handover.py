"""The queue, copied from one replica to another, page by page: every asking keeps its place to the nanosecond."""

import random
from types import SimpleNamespace

import pytest

from coordinator.edge import handover
from coordinator.edge.handover import Handover
from coordinator.edge.records import CopiedAsking, QueuePage
from nats_identify.schedule.model import MS, SECOND
from nats_identify.wire import Subjects
from tests.unit.desk import Desk


class Link:
    """NATS between two replicas: each request takes its time, and so does each answer."""

    def __init__(self, giver: Handover, pass_ns, rng):
        self._giver, self._pass_ns, self._rng = giver, pass_ns, rng
        self.pages = 0

    async def request(self, _subject, payload, **_options):
        self._pass_ns(self._rng.randrange(20 * MS))
        copy = self._giver._page(QueuePage.model_validate_json(payload).after).model_dump_json(exclude_none=True)
        self._pass_ns(self._rng.randrange(20 * MS))
        self.pages += 1
        return SimpleNamespace(data=copy.encode())


def part(desk, clock, traffic=None, inbox=None):
    log = SimpleNamespace(debug=lambda *_, **__: None, info=lambda *_, **__: None)
    book = desk.schedule.book
    return Handover(traffic, Subjects(), "giver", book=book, inbox=inbox, clock=clock, log=log)


def line_of(desk):
    return [asking.ask.request_id for asking in desk.schedule.book.room.lines[0]]


@pytest.mark.parametrize("seed", range(5))
async def test_pages_keep_the_order_of_neighbours(seed, monkeypatch):
    """Requests a few nanoseconds apart, on different pages, some of one process: none swap."""
    monkeypatch.setattr(handover, "PAGE_MOST", 7)
    rng = random.Random(seed)
    giver, taker = Desk(), Desk()
    for desk in (giver, taker):
        desk.ask(0, request_id="used")
        desk.answer("g1")
    for n in range(60):
        giver.now_ns += rng.choice((0, 1, 3, 900, MS))
        source = rng.choice(("", "", "S", "T"))
        waited_ns = rng.choice((0, 0, rng.randrange(SECOND)))
        giver.ask(n, request_id=f"r{n}", waited_ns=waited_ns, source=source, asked_us=n if source else 0)
    taker.now_ns += 12_345_678_901  # their clocks have nothing in common

    def pass_ns(duration_ns):
        giver.now_ns += duration_ns
        taker.now_ns += duration_ns

    async def tell(copy):
        pass_ns(rng.randrange(50_000))
        taker.schedule.handle(copy, taker.now_ns)

    link = Link(part(giver, lambda: giver.now_ns), pass_ns, rng)
    taking = part(taker, lambda: taker.now_ns, link, SimpleNamespace(tell_and_wait=tell))
    await taking.take()
    assert link.pages > 8
    assert line_of(taker) == line_of(giver)
    sources = [(a.ask.source, a.ask.asked_us) for a in taker.schedule.book.room.lines[0]]
    assert sources == [(a.ask.source, a.ask.asked_us) for a in giver.schedule.book.room.lines[0]]


def test_a_copy_of_a_coordinator_that_tells_no_place_stands_by_what_it_has_waited():
    copied = CopiedAsking(bucket=0, reply_to="in", request_id="r", waited_ms=500, managed=True)
    ask = handover._copy(copied, 10 * SECOND, 10 * SECOND)
    assert (ask.place_at_ns, ask.waited_ns, ask.source, ask.is_copy) == (None, 500 * MS, "", True)
