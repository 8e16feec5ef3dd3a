"""Who sends most: counted by the minute, in a fixed room, and no crowd of names hides one that sends much."""

import pytest

from coordinator.edge.busiest import CLIENTS_MAX, MINUTE_NS, MINUTES, SHOWN_MAX, Busiest
from coordinator.edge.intake import _client_in
from nats_identify.schedule.model import SECOND


def test_the_busiest_come_first_with_what_they_sent():
    busiest = Busiest(0)
    for number in range(20):
        for _ in range(number + 1):
            busiest.message(f"pod-{number}", SECOND)
    busiest.new_request("pod-19", SECOND)
    shown, over_ns = busiest.shown(2 * SECOND)
    assert [(one.client, one.messages) for one in shown] == [(f"pod-{n}", n + 1) for n in range(19, 19 - SHOWN_MAX, -1)]
    assert [one.new_requests for one in shown[:2]] == [1, 0]
    assert over_ns == 2 * SECOND


def test_what_was_sent_five_minutes_ago_is_forgotten_and_the_time_says_so():
    busiest = Busiest(0)
    for minute in range(8):
        for _ in range(10):
            busiest.message("pod", minute * MINUTE_NS)
        (one,), over_ns = busiest.shown((minute + 1) * MINUTE_NS - 1)
        assert one.messages == 10 * min(minute + 1, MINUTES)
        assert over_ns == min(minute + 1, MINUTES) * MINUTE_NS - 1
    assert busiest.shown(100 * MINUTE_NS) == ([], (MINUTES - 1) * MINUTE_NS)


def test_a_quiet_time_in_between_counts_as_time():
    busiest = Busiest(0)
    busiest.message("pod", 0)
    busiest.message("pod", 3 * MINUTE_NS + 1)
    (one,), over_ns = busiest.shown(3 * MINUTE_NS + 1)
    assert (one.messages, over_ns) == (2, 3 * MINUTE_NS + 1)


@pytest.mark.parametrize("comes", ["before", "amid", "after"])
def test_a_flood_of_names_hides_no_busy_client(comes):
    busiest = Busiest(0)
    names = 50_000
    busy = 3 * names // CLIENTS_MAX  # more than one message in CLIENTS_MAX
    floods = {"before": (0, names), "amid": (names // 2, names // 2), "after": (names, 0)}
    before, after = floods[comes]
    for number in range(before):
        busiest.message(f"name-{number}", 0)
    for _ in range(busy):
        busiest.message("busy", 0)
    for number in range(after):
        busiest.message(f"other-{number}", 0)
    shown, _ = busiest.shown(0)
    assert shown[0].client == "busy"
    assert busy - (names + busy) // CLIENTS_MAX <= shown[0].messages <= busy


def test_the_room_is_fixed():
    busiest = Busiest(0)
    for number in range(20 * CLIENTS_MAX):
        name, now_ns = f"name-{number}", number * MINUTE_NS // CLIENTS_MAX // 2
        busiest.message(name, now_ns)
        busiest.new_request(name, now_ns)
        assert busiest.counters <= 2 * MINUTES * CLIENTS_MAX
    assert busiest.counters > MINUTES * CLIENTS_MAX  # it has been near its limit


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"client":"pod-4","managed":true}', "pod-4"),
        (b'{ "client" : "pod-4" }', "pod-4"),
        ('{"client":"größe"}'.encode(), "größe"),
        (b'{"client":"gr\\u00f6\\"e"}', 'grö"e'),
        (b'{"client":""}', ""),
        (b'{"client":null,"source":"x"}', ""),
        (b'{"client":7}', ""),
        (b'{"client":"\\', ""),
        (b'{"client":"%s"}' % (b"x" * 3000), "x" * 128),
        (b'{"client":"\xff"}', "\ufffd"),
        (b"", ""),
    ],
)
def test_the_name_is_seen_without_parsing(body, name):
    assert _client_in(body) == name
