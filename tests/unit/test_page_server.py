"""The page's files, its search, and one picture for all that watch: none where no page is open."""

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from coordinator.edge import watchers
from coordinator.edge.log import make_log
from coordinator.edge.page_server import (
    CLIENT_SEARCHES_PER_SECOND,
    FIND,
    HEADERS,
    SEARCHES_PER_SECOND,
    STREAM,
    PageServer,
    View,
)
from coordinator.edge.recent import Recent
from coordinator.edge.watchers import WATCHERS_MAX, TooManyWatchersError, Watchers
from nats_identify.clock import now_ns
from tests.processes import WITHIN_S

LOG = make_log("error", "json")


def show(events):
    return [{"fields": event.fields} for event in events]


def served(hosts=(), clock=now_ns):
    found: list[dict[str, Any]] = []

    async def find(query):
        found.append(query.model_dump(exclude_defaults=True, exclude={"limit"}))
        return {"requests": []}

    return PageServer(View(dict, find, Recent(), show), hosts, clock=clock, log=LOG), found


async def ask(server, path, host="127.0.0.1:8080", method="GET", **headers):
    request = make_mocked_request(method, path, headers={"Host": host, **headers})
    return await server.answer(request, lambda _request, _seconds: None)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page/page.js", "text/javascript"),
        ("/page/page.css", "text/css"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
async def test_a_file_is_served_with_a_strict_policy(path, kind):
    server, _ = served()
    answer = await ask(server, path)
    assert (answer.status, answer.content_type) == (200, kind)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_the_page_asks_no_other_host_and_has_no_script_of_its_own():
    server, _ = served()
    for path in ("/", "/page/page.js", "/page/page.css"):
        body = (await ask(server, path)).body
        assert isinstance(body, bytes)
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", text) == []
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text) == []
    html = (await ask(server, "/")).body.decode()
    assert re.findall(r"<[^>]*\s(?:on[a-z]+|style)=", html) == []
    assert re.findall(r"<script(?![^>]*\ssrc=)", html) == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8080", "10.1.2.3:8080", "[::1]:8080", "[::1]", "localhost:1", "LOCALHOST"),
        *(
            "coordinator-metrics:8080",
            "a.localhost:8080",
            "queue.example.com",
            "Queue.Example.com:8080",
            "queue.example.com.",
        ),
    ],
)
async def test_an_address_a_short_name_and_a_listed_name_are_answered(host):
    server, _ = served(hosts={"queue.example.com"})
    assert (await ask(server, "/", host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "localhost.evil.example"]
)
async def test_a_name_that_a_site_could_point_here_is_refused(host):
    """A site may let its name mean 127.0.0.1: then its script could read the page in the operator's browser."""
    server, found = served()
    for path in ("/", STREAM, f"{FIND}?shard_id=1"):
        answer = await ask(server, path, host=host)
        assert answer.status == 421
        assert "IDENTIFY_PAGE_HOSTS" in answer.text
    assert found == []


async def test_another_sites_page_may_open_the_page_and_read_nothing():
    server, found = served()
    assert (await ask(server, "/", **{"Sec-Fetch-Site": "cross-site"})).status == 200
    for path in (STREAM, f"{FIND}?shard_id=1", "/page/page.js"):
        assert (await ask(server, path, **{"Sec-Fetch-Site": "cross-site"})).status == 403
    assert found == []
    assert (await ask(server, f"{FIND}?shard_id=1", **{"Sec-Fetch-Site": "same-origin"})).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_sent(method):
    server, _ = served()
    answer = await ask(server, "/", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("shard_id=17", {"shard_id": 17}),
        ("client=pod%201", {"client": "pod 1"}),
        ("client=17", {"client": "17"}),
    ],
)
async def test_a_search_is_for_a_shard_or_a_client(query, wanted):
    server, found = served()
    assert (await ask(server, f"{FIND}?{query}")).status == 200
    assert found == [wanted]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "shard_id=-1",
        "shard_id=x",
        "shard_id=1&client=a",
        "client=",
        "client=" + 129 * "a",
        "shard_id=" + 20 * "9",
        "shard_id=%C2%B2",
    ],
)
async def test_a_search_that_cannot_be_meant_is_refused_in_a_sentence(query):
    server, found = served()
    answer = await ask(server, f"{FIND}?{query}")
    assert (answer.status, found) == (400, [])
    assert answer.text.startswith("give one: shard_id")


@pytest.mark.parametrize(
    ("query", "most"), [("shard_id=1", SEARCHES_PER_SECOND), ("client=a", CLIENT_SEARCHES_PER_SECOND)]
)
async def test_searches_are_bounded(query, most):
    server, found = served(clock=lambda: 0)  # time stands still
    statuses = [(await ask(server, f"{FIND}?{query}")).status for _ in range(most + 1)]
    assert statuses == [*[200] * most, 429]
    assert len(found) == most


async def test_every_answer_has_the_policy():
    server, _ = served(clock=lambda: 0)
    answers: list[web.Response] = [await ask(server, path) for path in ("/", f"{FIND}?shard_id=1", FIND)]
    answers += [await ask(server, "/", host="evil.example"), await ask(server, "/", method="POST")]
    for answer in answers:
        assert HEADERS.items() <= answer.headers.items()


# --- those that watch


class Source:
    """Makes pictures, and counts them."""

    def __init__(self):
        self.recent = Recent()
        self.made = 0

    def make(self):
        self.made += 1
        return {"number": self.made}


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setattr(watchers, "PERIOD_S", 0.01)
    return Source()


async def read(events):
    async with asyncio.timeout(WITHIN_S):
        return (await anext(events)).decode()


async def test_one_picture_serves_all_that_watch(source):
    hub = Watchers(source.make, source.recent, show, LOG)
    source.recent.add("granted", {"shard_id": 1}, 1)
    watching = [hub.follow() for _ in range(5)]
    assert {await read(events) for events in watching} == {f"retry: {watchers.RETRY_MS}\n\n"}
    first = await asyncio.gather(*(read(events) for events in watching))
    assert set(first) == {first[0]}
    assert '"is_first":true' in first[0]
    assert '"shard_id":1' in first[0]
    source.recent.add("granted", {"shard_id": 2}, 2)
    while '"shard_id":2' not in (second := await read(watching[0])):
        pass
    assert '"is_first":false' in second
    assert '"shard_id":1' not in second
    for events in watching:
        await events.aclose()


async def test_nothing_is_made_where_no_page_is_open(source):
    hub = Watchers(source.make, source.recent, show, LOG)
    await asyncio.sleep(0.05)  # five times the period of a picture
    assert source.made == 0
    events = hub.follow()
    for _ in range(3):
        await read(events)
    await events.aclose()
    made = source.made
    await asyncio.sleep(0.05)  # as above
    assert source.made <= made + 1
    assert hub.made_count == source.made


async def test_a_slow_reader_gets_every_event_once_and_not_every_picture(source):
    hub = Watchers(source.make, source.recent, show, LOG)
    slow, quick = hub.follow(), hub.follow()
    for events in (slow, quick):
        await read(events)
        await read(events)
    for number in range(5):
        source.recent.add("granted", {"shard_id": number}, number)
        await read(quick)
    text = ""
    while '"shard_id":4' not in text:
        text += await read(slow)
    assert [text.count(f'"shard_id":{number}}}') for number in range(5)] == [1] * 5
    for events in (slow, quick):
        await events.aclose()


async def test_the_number_of_watchers_is_bounded(source):
    hub = Watchers(source.make, source.recent, show, LOG)
    watching = [hub.follow() for _ in range(WATCHERS_MAX)]
    for events in watching:
        await read(events)
    with pytest.raises(TooManyWatchersError):
        await read(hub.follow())
    await watching.pop().aclose()
    again = hub.follow()
    await read(again)
    for events in (*watching, again):
        await events.aclose()


async def test_a_picture_that_fails_ends_the_watchers_and_the_next_one_tries_again(source):
    def fail():
        raise ValueError

    hub = Watchers(fail, source.recent, show, make_log("error", "json"))
    events = hub.follow()
    await read(events)
    with pytest.raises(StopAsyncIteration):
        await read(events)
    again = hub.follow()
    await read(again)
    with pytest.raises(StopAsyncIteration):
        await read(again)


async def test_the_end_of_the_process_ends_the_watchers(source):
    hub = Watchers(source.make, source.recent, show, LOG)
    events = hub.follow()
    await read(events)
    await read(events)
    waiting = asyncio.create_task(read(events))
    await asyncio.sleep(0)
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_a_picture_that_takes_long_is_made_less_often(source, monkeypatch):
    naps: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(duration_s):  # in the place of a wait
        naps.append(duration_s)
        await real_sleep(0)  # not a wait

    times = iter(range(100))
    monkeypatch.setattr(watchers, "perf_counter", lambda: next(times) / 10)  # each picture takes 0.1 s
    monkeypatch.setattr(asyncio, "sleep", sleep)
    hub = Watchers(source.make, source.recent, show, LOG)
    events = hub.follow()
    for _ in range(4):
        await read(events)
    await events.aclose()
    assert naps[0] == pytest.approx(watchers.REST_FACTOR * 0.1)
