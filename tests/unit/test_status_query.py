"""What a status query selects: the same as each request's own reply says, a page of it, in bounded size and time."""

import json
from time import thread_time_ns
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.edge import status
from coordinator.edge.busiest import Busiest
from coordinator.edge.query import AHEAD_IN_ALL, SCANNED_AT_ONCE, Selection, full_status, problem_of
from coordinator.edge.service import BadQueryError, decode_query
from nats_identify.operator_wire import AHEAD_MAX, PAGE_MAX, FullStatus, StatusQuery
from nats_identify.schedule import replies
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import MS, SECOND, Outcome, RequestReceived
from nats_identify.wire import INT_MAX, ms_up
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk, busy
from tests.view import queued_replies, state_of

LONGEST = "\u0001" * 128
"""Six bytes a character in JSON: no name is longer."""


class Asked:
    """A status that is asked of a schedule, as a coordinator would answer it."""

    def __init__(self, schedule: Any, now_ns: int, *, name: str = "pod-0"):
        settings = SimpleNamespace(name=name, prefix="identify")
        view, role = SimpleNamespace(ledger=None), SimpleNamespace(value="leader")
        self.replica: Any = SimpleNamespace(schedule=schedule, settings=settings, view=view, role=role)
        self.now_ns = now_ns
        self.busiest = Busiest(now_ns)
        self.steps_ns: list[int] = []

    def __call__(self, **query: Any) -> FullStatus:
        asked = decode_query(json.dumps(query).encode())
        selection = Selection(state_of(self.replica.schedule), asked) if asked.is_selection else None
        began_ns = thread_time_ns()
        for _ in selection.steps() if selection else ():
            self.steps_ns.append(thread_time_ns() - began_ns)
            began_ns = thread_time_ns()
        limits: Any = SimpleNamespace(shards=None, trouble=None)
        known = full_status(
            self.replica, self.now_ns, limits=limits, version="1", busiest=self.busiest, selection=selection
        )
        self.steps_ns.append(thread_time_ns() - began_ns)
        return FullStatus.model_validate_json(known.model_dump_json())


def asked_of(desk: Desk) -> Asked:
    return Asked(desk.schedule, desk.now_ns)


def own_replies(desk: Desk) -> dict[str, Any]:
    return queued_replies(desk.schedule, desk.now_ns)


def check_equal_to_replies(desk: Desk, found: list[Any]) -> None:
    own = own_replies(desk)
    for one in found:
        reply = own[one.request_id]
        eta_ms = None if reply.eta_ns is None else ms_up(reply.eta_ns)
        assert (one.position, one.eta_ms, one.reason) == (reply.position, eta_ms, reply.reason)
        assert one.ahead_count == reply.position - 1


def test_a_shard_s_request_is_found_with_what_stands_before_it():
    desk = busy(2)
    for number in range(15):
        desk.ask(number * 2, request_id=f"r{number}", client=f"pod-{number % 4}")
    desk.pass_ms(1500)
    known = asked_of(desk)(shard_id=28)
    (one,) = known.requests
    assert (one.request_id, one.client, one.position, one.ahead_count) == ("r14", "pod-2", 15, 14)
    assert [each.request_id for each in one.ahead] == [f"r{number}" for number in range(4, 14)]
    assert len(one.ahead) == AHEAD_MAX
    assert (one.waited_ms, one.renewed_ms_ago, one.is_unresponsive, one.grant_id) == (1500, 1500, False, None)
    assert (known.requests_total, known.next_offset, known.grants) == (1, None, [])
    check_equal_to_replies(desk, known.requests)


def test_a_bucket_is_given_page_by_page_in_its_order():
    desk = busy(2)
    for number in range(7):
        desk.ask(number * 2, request_id=f"r{number}")
        desk.ask(number * 2 + 1, request_id=f"other{number}")
    pages: list[list[str]] = []
    offset: int | None = 0
    while offset is not None:
        known = asked_of(desk)(bucket=0, offset=offset, limit=3)
        assert known.requests_total == 7
        pages.append([one.request_id for one in known.requests])
        check_equal_to_replies(desk, known.requests)
        offset = known.next_offset
    assert pages == [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r6"]]
    beyond = asked_of(desk)(bucket=0, offset=INT_MAX)
    assert (beyond.requests, beyond.next_offset, beyond.requests_total) == ([], None, 7)


def test_a_client_is_found_in_all_buckets_and_a_nameless_one_by_its_inbox():
    desk = Desk(3)
    for bucket in range(3):
        desk.ask(bucket, request_id=f"used{bucket}", client="pod-4")
    for number in range(9):
        desk.ask(number, request_id=f"r{number}", client=f"pod-{4 + number % 2}")
    desk.tell(RequestReceived("bare", 0, 0, "_INBOX.abc.1", managed=True))
    known = asked_of(desk)(client="pod-4")
    assert [one.request_id for one in known.requests[:3]] == ["used0", "used1", "used2"]  # granted: they come first
    assert [one.request_id for one in known.requests[3:]] == ["r0", "r6", "r4", "r2", "r8"]
    check_equal_to_replies(desk, known.requests[3:])
    assert [(grant.client, grant.state) for grant in known.grants] == [("pod-4", "unconfirmed")] * 3
    assert [one.request_id for one in asked_of(desk)(client="_INBOX.abc").requests] == ["bare"]
    assert asked_of(desk)(client="_INBOX.ab").requests_total == 0
    assert asked_of(desk)(client="pod-").requests_total == 0


def test_a_granted_request_and_each_state_of_its_grant():
    desk = Desk()
    desk.ask(0, request_id="one", client="pod-a")
    desk.pass_ms(250)
    (one,) = asked_of(desk)(shard_id=0).requests
    assert (one.position, one.eta_ms, one.grant_id, one.ahead_count) == (0, 0, "g1", 0)
    for outcome, opens_in_ms in ((None, 9950), (Outcome.IDENTIFIED, 5200), (Outcome.READY, 5003)):
        if outcome is not None:
            desk.answer("g1", outcome)
        known = asked_of(desk)(bucket=0)
        (grant,) = known.grants
        assert (grant.grant_id, grant.request_id, grant.client) == ("g1", "one", "pod-a")
        assert (grant.state, grant.opens_in_ms) == (outcome or "unconfirmed", opens_in_ms)
        assert grant.granted_ms_ago == 250
        assert known.requests_total == (outcome is None)


def test_a_standby_answers_the_same_but_for_when_it_read_of_the_grant():
    cluster = Cluster("a", "b")
    cluster.pass_ms(100)
    cluster.ask(0, request_id="one", client="pod-a")
    cluster.ask(0, request_id="two", client="pod-b")
    cluster.pass_ms(500)
    answers = [Asked(cluster.replicas[name].schedule, cluster.now_ns)(bucket=0) for name in ("a", "b")]
    leader, standby = answers
    assert [one.request_id for one in standby.requests] == ["one", "two"]
    assert leader.requests == standby.requests
    assert leader.grants == standby.grants
    assert leader.buckets == standby.buckets


# --- why a bucket waits


def looping(desk: Desk) -> None:
    """Give shard 0 more turns than the guard allows, and let it ask again."""
    for number in range(3):
        desk.ask(0, request_id=f"loop{number}")
        desk.answer(f"g{number + 1}", Outcome.IDENTIFIED)
        desk.pass_ms(5200)
    desk.ask(0, request_id="looping")


def test_a_bucket_waits_for_what_its_first_request_waits_for():
    guard = CrashLoopGuard(3, 3600 * SECOND)
    desk = Desk(guard=guard)
    looping(desk)
    assert [bucket.reason for bucket in asked_of(desk)().buckets] == ["crash_loop"]
    desk.ask(1, request_id="well")
    desk.ask(2, request_id="next")
    assert [bucket.reason for bucket in asked_of(desk)().buckets] == ["window"]  # the loop is behind all others


@pytest.mark.parametrize(
    ("remaining", "priorities", "reason"),
    [(5, (0,), "session_limit"), (5, (0, 1), "window"), (0, (0, 1), "session_limit"), (6, (0,), "window")],
)
def test_a_bucket_waits_for_the_day_by_the_priority_of_its_first(remaining, priorities, reason):
    desk = Desk(reserve=5, remaining=remaining)
    state = state_of(desk.schedule)
    for number, priority in enumerate(priorities):
        state.admit(RequestReceived(f"r{number}", 0, 0, f"i.{number}", managed=True, priority=priority), desk.now_ns)
    known = asked_of(desk)()
    assert [bucket.reason for bucket in known.buckets] == [reason]
    assert own_replies(desk)[f"r{len(priorities) - 1}"].reason == reason


def test_without_limits_a_bucket_waits_for_them_even_if_its_shard_loops():
    desk = Desk(guard=CrashLoopGuard(3, 3600 * SECOND), static=False)
    looping(desk)
    state_of(desk.schedule).budget.close()
    assert [bucket.reason for bucket in asked_of(desk)().buckets] == ["limits_unknown"]


# --- queries that are refused


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"{", "the body: "),
        (b"[]", "the body: "),
        (b'{"shard_id":"17"}', "shard_id: "),
        (b'{"shard_id":1,"bucket":1}', "the body: give one of shard_id, bucket and client"),
        (b'{"bucket":1,"limit":101}', "limit: "),
        (b'{"client":"%s"}' % (b"x" * 129), "client: "),
        (b'{"offset":-1}', "offset: "),
        (b'{"shard":17}', "none of its fields is known; a query has shard_id, bucket, client, offset, limit"),
        (b" " * 4097, "the payload has 4097 bytes; a query has 4096 at most"),
    ],
)
def test_a_query_that_cannot_be_read_says_what_to_change(payload, said):
    with pytest.raises(BadQueryError) as raised:
        decode_query(payload)
    assert str(raised.value).startswith(said)
    assert len(str(raised.value)) <= 250


def test_a_bucket_that_is_not_there_is_named():
    state = state_of(Desk(4).schedule)
    assert problem_of(StatusQuery(bucket=3), state) is None
    assert problem_of(StatusQuery(bucket=4), state) == (
        "bucket: there is no bucket 4; max_concurrency is 4, so give 0 to 3"
    )
    assert problem_of(StatusQuery(bucket=4), state_of(Desk(None, total=None, static=False).schedule)) is None


def test_an_empty_query_is_the_whole_picture():
    for payload in (b"", b" ", b"{}", b'{"shard_id":null,"of_next_year":1}'):
        assert not decode_query(payload).is_selection
    assert decode_query(b'{"client":""}').is_selection  # those without a name


# --- size and time


def crowd(desk: Desk, count: int, buckets: int = 1, **fields: Any) -> None:
    """Let many wait in the first buckets, without a reply to each."""
    state = state_of(desk.schedule)
    for number in range(count):
        name, bucket = f"{number:064}", number % buckets
        ask = RequestReceived(name, INT_MAX - INT_MAX % 4096 + bucket - 4096, bucket, f"i.{number}", managed=True)
        state.admit(ask._replace(**fields), desk.now_ns)


@pytest.mark.parametrize(
    "query", [{}, *({"client": LONGEST, "limit": limit, "offset": 20_000} for limit in (20, 31, PAGE_MAX))]
)
def test_the_largest_answer_fits_into_a_message(query):
    desk = Desk(4096, max_waiting=100_000, total=10_000)
    for number in range(PAGE_MAX + 20):
        ask = RequestReceived(f"g{number:063}", number, number, f"i.g{number}", managed=True, client=LONGEST)
        desk.tell(ask)
        desk.answer(f"g{number + 1}")
    crowd(desk, 30_000, 64 if query else 4096, client=LONGEST, priority=-10)
    asked = asked_of(desk)
    for number in range(20):
        asked.busiest.message('"' * 254 + f"{number:02}", desk.now_ns)
    known = asked(**query)
    assert len(known.model_dump_json().encode()) < 1_000_000
    if query:
        assert known.requests_total == 30_000
        assert len(known.grants) == PAGE_MAX
        assert len(known.requests) == query["limit"]
        assert sum(len(one.ahead) for one in known.requests) > 0.9 * min(AHEAD_IN_ALL, 10 * len(known.requests))


def test_a_query_of_a_crowd_is_answered_in_short_steps():
    """Counted in steps, and compared in one run: an answer of a crowd takes no longer than ten of a hundredth of it."""
    desks = {count: Desk(1, max_waiting=200_000) for count in (1_000, 100_000)}
    longest: dict[int, int] = {}
    for count, desk in desks.items():
        crowd(desk, count, client="pod-4")
        tries = []
        began_ns = thread_time_ns()
        Selection(state_of(desk.schedule), StatusQuery(client="pod-4"))
        begins_ns = thread_time_ns() - began_ns
        for _ in range(3):
            asked = asked_of(desk)
            known = asked(client="pod-4", offset=count - 100, limit=100)
            assert (known.requests_total, len(known.requests)) == (count, 100)
            assert known.requests[-1].position == count
            tries.append(max(begins_ns, *asked.steps_ns))
        longest[count] = min(tries)
        assert len(asked.steps_ns) == -(-count // SCANNED_AT_ONCE) + 1
    assert longest[100_000] < 10 * longest[1_000], {count: f"{ns / MS:.1f} ms" for count, ns in longest.items()}


def test_what_a_page_says_of_the_day_is_counted_once_for_all():
    desk = Desk(64, remaining=0)
    crowd(desk, 1_000, 64)
    state = state_of(desk.schedule)
    lines = replies.LinesAhead(state)
    for position in (1, 2, 15, 16, 17, 1000):
        own = sum(min(len(queue), position - 1) for queue in state.requests.queues.values())
        assert lines.before(position) == own
    known = asked_of(desk)(bucket=3, limit=100)
    check_equal_to_replies(desk, known.requests)
    assert {one.reason for one in known.requests} == {"session_limit"}


def test_a_request_that_ended_while_others_were_looked_at_is_left_out():
    desk = busy()
    for number in range(3):
        desk.ask(0, request_id=f"r{number}")
    selection = Selection(state_of(desk.schedule), StatusQuery(bucket=0))
    list(selection.steps())
    state_of(desk.schedule).end_request("r1")
    assert [one.request_id for one in selection.requests(desk.now_ns)] == ["r0", "r2"]


def test_the_metrics_status_is_the_same_picture_without_what_operators_ask():
    desk = busy(2)
    desk.ask(0, request_id="r0")
    asked = asked_of(desk)
    limits: Any = SimpleNamespace(shards=None, trouble=None)
    plain = status.status(asked.replica, desk.now_ns, limits=limits, version="1")
    whole = asked()
    assert [bucket.first for bucket in whole.buckets] == [bucket.first for bucket in plain.buckets]
    assert (whole.requests, whole.grants, whole.paused) == ([], [], None)
    assert [bucket.first for bucket in asked(bucket=0).buckets] == [[], []]


def test_of_many_buckets_a_selection_shows_those_alone_in_which_something_is_selected():
    desk = Desk(200)
    for shard_id in (7, 8, 207):
        desk.ask(shard_id, client=f"pod-{shard_id % 2}")
    asked = asked_of(desk)
    assert [bucket.bucket for bucket in asked(client="pod-1").buckets] == [7]
    assert len(asked().buckets) == 200
