"""What arrives on NATS, message by message: an event, a refusal or a count."""

from typing import Any

import pytest

from coordinator.edge import intake
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.intake import HEADER_BYTES_MAX, REPLY_TO_BYTES_MAX, Intake
from coordinator.edge.metrics import Metrics
from nats_identify.schedule.bucket_queue import QueuedRequest
from nats_identify.schedule.model import Cancel, Code, Confirmation, Outcome, RequestReceived, Undeliverable
from nats_identify.wire import Subjects

REPLY = b"_INBOX.abc.r1"


class Desk:
    """An intake whose handlers are called by hand."""

    is_leading = True
    is_full = False

    def __init__(self, event_queue, trace=None):
        self.event_queue, self.metrics = event_queue, Metrics()
        self.refused, self.now_ns = [], 1
        self.queued: dict[str, Any] = {}
        self.handlers = {}
        me: Any = self  # its connection, its refusals and its role, as far as it looks at them
        self.intake = Intake(
            me,
            Subjects("identify"),
            self.event_queue,
            refusals=me,
            is_leading=lambda: me.is_leading,
            metrics=self.metrics,
            clock=lambda: self.now_ns,
            find=self.queued.get,
            trace=trace,
        )

    async def receive(self, subject, handler):
        self.handlers[subject] = handler

    def put(self, reply_to, payload, code, message):
        self.refused.append(code)

    def arrives(self, subject, body=b"", reply=REPLY, header=b""):
        pattern = {"request": "identify.request.*", "confirm": "identify.confirm.*.*", "cancel": "identify.cancel.*"}
        handler = self.handlers[pattern[subject.split(".")[1]]]
        if len(header) + len(body) > handler.bytes_max:  # as the parser does
            handler.pass_over(subject.encode(), reply, len(header), len(body))
        else:
            handler.take(subject.encode(), reply, header, body)
        events = []
        while (entry := self.event_queue.take()) is not None:
            events.append(entry[0])
        return events

    def dropped(self, why):
        return self.metrics.registry.get_sample_value("identify_dropped_total", {"why": why}) or 0


async def desk_with(event_queue):
    desk = Desk(event_queue)
    await desk.intake.open()
    return desk


@pytest.fixture
async def desk():
    return await desk_with(EventQueue())


async def test_a_request_becomes_an_event_and_an_empty_one_does_too(desk):
    for body in (b"", b"{}", b' {"shard_id": 3} '):
        (ask,) = desk.arrives("identify.request.3", body)
        assert isinstance(ask, RequestReceived)
        assert (ask.shard_id, ask.reply_to) == (3, REPLY.decode())


@pytest.mark.parametrize(
    "reply", [b"", b"_INBOX.\xf0\x9f\x98\x80", b"_INBOX.a\x0bb", b"_INBOX.a\x7f", b"x" * (REPLY_TO_BYTES_MAX + 1)]
)
async def test_a_reply_subject_that_is_long_or_not_plain_ascii_is_not_kept(desk, reply):
    assert desk.arrives("identify.request.0", reply=reply) == []
    assert desk.dropped("no_reply_subject") == 1


async def test_a_name_of_wide_characters_is_bounded_in_bytes(desk):
    wide = "\N{GRINNING FACE}" * 33  # 132 bytes
    assert desk.arrives("identify.request.0", f'{{"client": "{wide}"}}'.encode()) == []
    assert desk.refused == [Code.BAD_REQUEST]
    assert len(desk.arrives("identify.request.0", f'{{"client": "{wide[:-1]}"}}'.encode())) == 1


async def test_large_headers_and_bodies_are_not_parsed(desk):
    header = b"NATS/1.0\r\nX: " + b"x" * HEADER_BYTES_MAX + b"\r\n\r\n"
    assert desk.arrives("identify.request.0", b"{}", header=header) == []
    assert desk.arrives("identify.request.0", b"{" + b" " * 5_000 + b"}") == []
    assert (desk.dropped("large_header"), desk.refused) == (1, [Code.BAD_REQUEST])


async def test_what_the_parser_does_not_keep_is_refused_or_counted_all_the_same(desk):
    large = b"{" * 100_000
    desk.arrives("identify.request.0", large)
    desk.arrives("identify.request.0", large, reply=b"")
    desk.arrives("identify.request.0", b"{}", header=large)
    assert desk.refused == [Code.BAD_REQUEST]
    desk.is_full = True
    desk.arrives("identify.request.0", large)
    desk.arrives("identify.confirm.0.7-abc", large)
    desk.arrives("identify.cancel.0", large)
    counted = {why: desk.dropped(why) for why in ("no_reply_subject", "large_header", "bad_request", "large")}
    assert counted == {"no_reply_subject": 1, "large_header": 1, "bad_request": 1, "large": 2}


async def test_a_sender_whose_share_of_the_inbox_is_full_is_not_parsed(monkeypatch):
    desk = await desk_with(EventQueue(queued_max=10, sender_max=1))
    handler = desk.handlers["identify.request.*"]
    handler.take(b"identify.request.0", REPLY, b"", b"{}")
    monkeypatch.setattr("coordinator.edge.intake.decode_request", lambda _: pytest.fail("it was parsed"))
    handler.take(b"identify.request.0", REPLY, b"", b"{}")
    assert (desk.dropped("overflow"), desk.refused) == (1, [Code.OVERLOADED])


async def test_what_is_no_json_is_refused_until_too_many_refusals_wait_and_then_dropped(desk):
    desk.arrives("identify.request.0", b"{")
    assert desk.refused == [Code.BAD_REQUEST]
    desk.is_full = True
    desk.arrives("identify.request.0", b"{")
    assert (desk.refused, desk.dropped("bad_request")) == ([Code.BAD_REQUEST], 1)


@pytest.mark.parametrize("header", [b"NATS/1.0 503\r\n\r\n", b"NATS/1.0 503\r\nNats-Subject: _INBOX.x\r\n\r\n"])
async def test_the_servers_503_is_an_undeliverable_grant(desk, header):
    assert desk.arrives("identify.confirm.0.7-abc", header=header) == [Undeliverable("7-abc")]


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", b""),
        (b"NATS/1.0\r\nstatus: 503\r\n\r\n", b""),
        (b"NATS/1.0\r\nX: y\r\nSTATUS: 503\r\n\r\n", b""),
        (b"NATS/1.0 503\r\n\r\n", b"{}"),
        (b"NATS/1.0 503\r\nX: y\r\n\r\n", b""),
        (b"NATS/1.0 408\r\n\r\n", b""),
    ],
)
async def test_a_status_that_is_not_the_servers_is_dropped(desk, header, body):
    assert desk.arrives("identify.confirm.0.7-abc", body, header=header) == []
    assert desk.dropped("bad_answer") == 1


async def test_a_clients_other_headers_do_no_harm(desk):
    header = b"NATS/1.0\r\ntraceparent: 00-1\r\n\r\n"
    assert desk.arrives("identify.confirm.0.7-abc", header=header) == [Confirmation("7-abc", Outcome.IDENTIFIED)]


@pytest.mark.parametrize("body", [b"{", b"null", b" ", b'{"outcome": "maybe"}', b"{" * 5_000])
async def test_a_garbage_answer_is_dropped(desk, body):
    assert desk.arrives("identify.confirm.0.7-abc", body) == []
    assert desk.dropped("bad_answer") == 1


async def test_a_cancel_names_its_request(desk):
    assert desk.arrives("identify.cancel.0", b'{"request_id": "a"}') == [Cancel("a")]
    for body in (b"", b"{", b"{}", b'{"request_id": "a b"}', b'{"request_id": "a"}' + b" " * 5_000):
        assert desk.arrives("identify.cancel.0", body) == []


def body_of(request_id, renewal=0, priority=0):
    return b'{"request_id":"%b","managed":true,"renewal":%d,"priority":%d}' % (request_id.encode(), renewal, priority)


async def test_a_request_is_stamped_when_it_arrives(desk):
    desk.now_ns = 77
    (event,) = desk.arrives("identify.request.0", body_of("a"))
    assert event.received_at_ns == 77


async def test_where_the_inbox_is_full_a_nudged_shard_a_priority_and_a_newer_copy_are_taken_in():
    desk = await desk_with(EventQueue(queued_max=16, sender_max=2))
    nudged = QueuedRequest(RequestReceived("nudged", 0, 0, "in", managed=True), 0, 1, renewed_at_ns=5, nudged_at_ns=9)
    waits = QueuedRequest(RequestReceived("waits", 0, 0, "in", managed=True), 0, 2, renewed_at_ns=5)
    desk.queued.update({"nudged": nudged, "waits": waits})
    take = desk.handlers["identify.request.*"].take
    for request_id in ("a", "b", "too-much"):
        take(b"identify.request.0", REPLY, b"", body_of(request_id))
    assert (desk.dropped("overflow"), desk.refused) == (1, [Code.OVERLOADED])
    take(b"identify.request.0", REPLY, b"", body_of("waits", 1))  # its request stays queued: it is not refused
    assert (desk.dropped("overflow"), desk.refused) == (2, [Code.OVERLOADED])
    take(b"identify.request.0", REPLY, b"", body_of("a", 1))
    take(b"identify.request.0", REPLY, b"", body_of("nudged", 1))
    take(b"identify.request.0", REPLY, b"", body_of("p", 0, 1))
    assert (desk.dropped("overflow"), len(desk.event_queue)) == (2, 4)


async def test_of_many_copies_in_the_inbox_the_newest_alone_is_parsed(desk, monkeypatch):
    take, parsed = desk.handlers["identify.request.*"].take, []
    decode = intake.decode_request

    def note(body):
        parsed.append(body)
        return decode(body)

    monkeypatch.setattr(intake, "decode_request", note)
    for renewal in range(100):
        desk.now_ns = 1_000 + renewal
        take(b"identify.request.0", b"_INBOX.abc.%d" % renewal, b"", body_of("a", renewal))
        take(b"identify.request.0", REPLY, b"", body_of("a", renewal))  # the same number once more
    take(b"identify.request.0", REPLY, b"", b'{"request_id":"a","renewal":500')
    take(b"identify.request.0", REPLY, b"", b'{"request_id":"a","renewal":"x","priority":{}}')
    (event,) = desk.arrives("identify.request.0", body_of("a", 7))
    assert [body_of("a", 0), body_of("a", 99)] == [body for body in parsed if body.endswith(b"}")]
    assert (event.renewal, event.reply_to) == (99, "_INBOX.abc.99")
    assert (event.first_at_ns(9_999), event.number_at_ns(9_999)) == (1_000, 1_099)
    assert desk.event_queue.request_bytes == 0


async def test_a_copy_that_is_no_request_leaves_the_one_before_it(desk):
    take = desk.handlers["identify.request.*"].take
    take(b"identify.request.0", REPLY, b"", body_of("a", 1))
    take(b"identify.request.0", REPLY, b"", b'{"request_id":"a","renewal":5,"priority":"high"}')
    (event, _other) = desk.arrives("identify.request.0", body_of("b", 1))
    assert (event.request_id, event.renewal) == ("a", 1)
    assert desk.dropped("bad_request") == 1


@pytest.mark.parametrize("renewal", [5, 3])
async def test_a_parsed_message_does_not_undo_a_newer_one_nor_make_its_number_fresher(desk, renewal):
    take = desk.handlers["identify.request.*"].take
    for number, at_ns in ((0, 10), (5, 20)):
        desk.now_ns = at_ns
        take(b"identify.request.0", REPLY, b"", body_of("a", number))
    event_queue = desk.event_queue
    event_queue.try_put_request(RequestReceived("a", 0, 0, "in", renewal, managed=True, received_at_ns=30), "one")
    event, _ = event_queue.take()
    assert (event.renewal, event.number_at_ns(100)) == (5, 20)


@pytest.mark.parametrize(
    "body",
    [
        b'{"request_id":"mine","renewal":%d}',
        b'{"x":{"request_id":"mine","renewal":%d},"request_id":"r%d","managed":true}',
    ],
)
async def test_one_sender_cannot_fill_the_queue_by_naming_a_request_whose_turn_is_near(body):
    desk = await desk_with(EventQueue(queued_max=80, sender_max=20))
    near = QueuedRequest(RequestReceived("mine", 0, 0, "in", managed=True), 0, 1, renewed_at_ns=5, nudged_at_ns=9)
    desk.queued["mine"] = near
    for number in range(1, 200):
        desk.handlers["identify.request.*"].take(
            b"identify.request.0", REPLY, b"", body % ((number,) * body.count(b"%d"))
        )
    assert len(desk.event_queue) <= 21
