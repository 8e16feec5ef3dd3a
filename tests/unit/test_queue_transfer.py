"""The queue, copied from one replica to another, page by page: every request keeps its place to the nanosecond."""

import random
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.errors import MaxPayloadError, NoRespondersError

from coordinator.edge import queue_transfer
from coordinator.edge.peer_messages import CopiedRequest, QueueCopy
from coordinator.edge.queue_transfer import QueueTransfer
from nats_identify.schedule.model import MS, SECOND
from nats_identify.wire import Subjects
from tests.unit.desk import Desk


class Link:
    """NATS between two replicas: each request takes its time, and so does each answer.

    ``fail_at``: what the page of this number raises instead. ``pages``: how many bytes each that was sent had.
    """

    def __init__(self, max_payload=1_048_576, fail_at=None):
        self.max_payload = max_payload
        self.giver: Any = None
        self.pass_ns, self.rng = lambda _: None, random.Random(0)
        self.pages = []
        self.fail_at = fail_at or {}

    async def request(self, _subject, payload, **_options):
        self.pass_ns(self.rng.randrange(20 * MS))
        error = self.fail_at.get(len(self.pages))
        if error is not None:
            self.pages.append(0)
            raise error
        await self.giver._give(SimpleNamespace(reply="taker", data=payload))
        self.pass_ns(self.rng.randrange(20 * MS))
        return SimpleNamespace(data=self.sent)

    async def publish(self, _subject, payload):
        if len(payload) > self.max_payload:
            raise MaxPayloadError
        self.sent = payload
        self.pages.append(len(payload))


class Log:
    """What was logged at info."""

    def __init__(self):
        self.lines = []

    def debug(self, *_, **__):
        """Nothing to note."""

    def info(self, event, **facts):
        self.lines.append((event, facts))


def part(desk, clock, traffic, event_queue: Any = None, log: Any = None):
    state = desk.schedule.state
    return QueueTransfer(
        traffic, Subjects(), "giver", state=state, event_queue=event_queue, clock=clock, log=log or cast("Any", Log())
    )


def two(link, count, **fields):
    """A replica with so many requests, and one that has taken them over this link: two desks, and the log."""
    giver, taker, log = Desk(), Desk(), Log()
    for n in range(count):
        giver.ask(n, request_id=f"r{n}", **fields)

    async def tell(*copies):
        for copy in copies:
            taker.schedule.handle(copy, taker.now_ns)

    link.giver = part(giver, lambda: giver.now_ns, link, log=log)
    taking = part(taker, lambda: taker.now_ns, link, SimpleNamespace(put_and_wait=tell), log)
    return giver, taker, taking, log


def names(desk):
    return list(desk.view.requests)


def line_of(desk):
    return list(desk.view.queues[0])


def sources(desk):
    return {name: (request.source, request.asked_us) for name, request in desk.view.requests.items()}


@pytest.mark.parametrize("seed", range(5))
async def test_pages_keep_the_order_of_neighbours(seed):
    """Requests a few nanoseconds apart, on different pages, some of one process: none swap."""
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

    async def tell(*copies):
        for copy in copies:
            pass_ns(rng.randrange(50_000))
            taker.schedule.handle(copy, taker.now_ns)

    link = Link(max_payload=3_600)
    link.giver, link.pass_ns, link.rng = part(giver, lambda: giver.now_ns, link), pass_ns, rng
    taking = part(taker, lambda: taker.now_ns, link, SimpleNamespace(put_and_wait=tell))
    await taking.take()
    assert len(link.pages) > 7
    assert line_of(taker) == line_of(giver)
    assert sources(taker) == sources(giver)


def test_a_copy_of_a_coordinator_that_tells_no_place_stands_by_what_it_has_waited():
    copied = CopiedRequest(bucket=0, reply_to="in", request_id="r", waited_ms=500, managed=True)
    ask = queue_transfer._copy(copied, 10 * SECOND, 10 * SECOND)
    assert (ask.place_at_ns, ask.waited_ns, ask.source, ask.is_copy) == (None, 500 * MS, "", True)


def test_a_page_is_read_and_written_under_the_names_of_older_coordinators():
    page = b'{"instance":"giver","askings":[{"bucket":3,"reply_to":"in"}],"next":7,"at_ns":5}'
    copy = QueueCopy.model_validate_json(page)
    assert [request.bucket for request in copy.requests] == [3]
    frame = QueueCopy(instance="giver", requests=[], next=7, at_ns=5)
    assert queue_transfer._GivenPage(frame, (b'{"bucket":3,"reply_to":"in"}',)).encoded() == page


@pytest.mark.parametrize("client", ["\x01" * 128, '"' * 128, "\N{GRINNING FACE}" * 32, "a"])
@pytest.mark.parametrize("max_payload", [65_536, 1_048_576])
async def test_pages_of_any_content_have_room_in_the_server_s_max_payload(client, max_payload):
    link = Link(max_payload)
    reply_to = "_INBOX." + "\\" * 240 + ".x"
    giver, taker, taking, log = two(link, 600, client=client, reply_to=reply_to, source="s" * 64, asked_us=2**53)
    await taking.take()
    assert names(taker) == names(giver)
    assert max(link.pages) <= max_payload // 2
    assert [event for event, _ in log.lines] == ["queue taken from another replica"]


async def test_what_cannot_be_sent_is_left_out_and_the_copy_goes_on():
    link = Link(max_payload=700)
    giver, taker, taking, log = two(link, 5)
    giver.ask(5, request_id="large", client="\x01" * 128)
    giver.ask(6, request_id="r6")
    await taking.take()
    assert names(taker) == [name for name in names(giver) if name != "large"]
    assert [event for event, _ in log.lines] == [
        "a page of the queue is left out: it cannot be sent",
        "queue taken from another replica",
    ]
    assert log.lines[0][1]["requests"] == 1


async def test_a_copy_that_is_cut_short_says_so_and_is_begun_again():
    link = Link(max_payload=1_200, fail_at={3: TimeoutError()})
    giver, taker, taking, log = two(link, 20)
    await taking.take()
    assert names(taker) == names(giver)
    (cut, facts), (taken, _) = log.lines
    assert (cut, taken) == ("a copy of the queue was cut short", "queue taken from another replica")
    assert 0 < facts["requests"] < 20
    assert facts["why"] == "no answer within 3 s"


async def test_a_copy_whose_giver_goes_ends_with_what_was_taken():
    link = Link(max_payload=1_200, fail_at={3: NoRespondersError(), 4: NoRespondersError()})
    _, taker, taking, log = two(link, 20)
    await taking.take()
    assert 0 < len(names(taker)) < 20
    assert [event for event, _ in log.lines] == [
        "a copy of the queue was cut short",
        "part of the queue was taken; the others are known when they renew",
    ]


async def test_a_replica_that_does_not_answer_is_asked_a_bounded_number_of_times():
    link = Link(fail_at={number: TimeoutError() for number in range(100)})
    _, taker, taking, log = two(link, 3)
    await taking.take()
    assert names(taker) == []
    assert len(link.pages) == queue_transfer.ATTEMPTS
    *cut_short, (nothing_taken, _) = log.lines
    assert [event for event, _ in cut_short] == ["a copy of the queue was cut short"] * queue_transfer.ATTEMPTS
    assert nothing_taken == "no queue was taken; requests are known when they renew"


async def test_giving_the_queue_leaves_nothing_in_it():
    name = "".join(["\N{GRINNING FACE}"] * 32)
    link = Link()
    _, _, taking, _ = two(link, 3, client=name)
    before = sys.getsizeof(name)
    await taking.take()
    assert sys.getsizeof(name) == before
