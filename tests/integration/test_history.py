"""Events that are kept: the stream that coordinators make, what they say where they cannot, and how it is read."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import pytest
from nats.js import api
from nats.js.errors import NotFoundError

from nats_identify.history import HistoryError, read_history
from nats_identify.processes.nats_server import EmbeddedNats
from tests.processes import WITHIN_S, Mailbox, settle, until

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
STREAM = "identify_events"
KEPT = "the history of events is kept"
NOT_KEPT = "no history of events is kept; trying again"


async def history(client, since=LONG_AGO, until_=None, prefix="identify"):
    return [event async for event in read_history(client, prefix, since, until_)]


async def take_a_turn(mailbox, request_id, **fields):
    """Wait for a grant, and confirm it."""
    granted, message = await mailbox.until_granted(request_id, **fields)
    await message.respond(b"")
    return granted


async def until_kept(client, name, request_id):
    """Wait until this event of a request is in the stream: no one waits for it when it is published."""

    async def look():
        events = await history(client)
        return [event for event in events if event.name == name and event.fields.get("request_id") == request_id]

    return (await until(look, f"{name} of {request_id} is kept"))[0]


async def test_events_are_kept_and_read_back_through_a_restart(start_coordinator, client, mailbox):
    began = datetime.now(UTC) - timedelta(seconds=1)
    first = await start_coordinator(IDENTIFY_HISTORY="24h")
    await first.until_logged(KEPT)
    config = (await client.jetstream().stream_info(STREAM)).config
    assert config.subjects == ["identify.event.>"]
    assert (config.max_age, config.max_bytes) == (24 * 3600, 256 * 1024 * 1024)
    assert (config.storage, config.discard) == (api.StorageType.FILE, api.DiscardPolicy.OLD)
    assert config.num_replicas == 1
    await take_a_turn(mailbox, "one", shard_id=0, client="pod-4")
    event = await until_kept(client, "identified", "one")
    assert (event.fields["shard_id"], event.fields["client"], event.fields["bucket"]) == (0, "pod-4", 0)
    assert event.fields["waited_ms"] >= 0
    assert began < event.at < datetime.now(UTC) + timedelta(seconds=1)
    assert await first.end() == 0

    second = await start_coordinator(IDENTIFY_HISTORY="24h")
    await second.until_logged(KEPT)
    await take_a_turn(mailbox, "two", client="pod-5")
    await until_kept(client, "identified", "two")
    names = [(event.name, event.fields.get("request_id")) for event in await history(client)]
    for request_id in ("one", "two"):
        assert names.index(("granted", request_id)) < names.index(("identified", request_id))
    assert names.index(("identified", "one")) < names.index(("granted", "two"))
    assert ("leader", None) in names
    since = (await until_kept(client, "granted", "two")).at
    assert (await history(client, since))[0].fields["request_id"] == "two"
    assert [event for event in await history(client, LONG_AGO, since) if event.at > since] == []


async def test_three_coordinators_make_one_stream_at_once_and_a_later_one_sets_its_bounds(start_coordinator, client):
    starting = (start_coordinator(until_leader=False, IDENTIFY_HISTORY="90m") for _ in range(3))
    started = await asyncio.gather(*starting)
    for coordinator in started:
        await coordinator.until_logged(KEPT)
        assert coordinator.logged(NOT_KEPT) == []
    assert (await client.jetstream().stream_info(STREAM)).config.max_age == 90 * 60
    later = await start_coordinator(
        until_leader=False, IDENTIFY_HISTORY="1m", IDENTIFY_HISTORY_MAX_BYTES=str(2**21), IDENTIFY_LOG_LEVEL="info"
    )
    await later.until_logged(KEPT)
    config = (await client.jetstream().stream_info(STREAM)).config
    assert (config.max_age, config.max_bytes) == (60, 2**21)


async def test_without_the_setting_no_stream_is_made_and_reading_says_what_to_do(coordinator, client, mailbox):
    await take_a_turn(mailbox, "one")
    with pytest.raises(HistoryError) as raised:
        await history(client)
    assert "IDENTIFY_HISTORY=24h" in str(raised.value)
    assert "nats stream add identify_events --subjects 'identify.event.>'" in str(raised.value)
    with pytest.raises(NotFoundError):
        await client.jetstream().stream_info(STREAM)
    with pytest.raises(ValueError, match="time zone"):
        await history(client, datetime(2020, 1, 1))  # noqa: DTZ001  # it has none


async def test_an_empty_stretch_of_time_is_empty(start_coordinator, client):
    coordinator = await start_coordinator(IDENTIFY_HISTORY="1h")
    await coordinator.until_logged(KEPT)
    assert await history(client, datetime.now(UTC) + timedelta(hours=1)) == []
    assert await history(client, LONG_AGO, LONG_AGO) == []


async def test_a_full_stream_drops_the_oldest_and_the_queue_goes_on(start_coordinator, client, mailbox):
    coordinator = await start_coordinator(IDENTIFY_HISTORY="1h", IDENTIFY_HISTORY_MAX_BYTES=str(2**20))
    await coordinator.until_logged(KEPT)
    await take_a_turn(mailbox, "one")
    await until_kept(client, "granted", "one")
    for number in range(1200):  # a kilobyte each: more than there is room for; and one that is no event
        payload = json.dumps({"number": number, "text": "x" * 1000}) if number else "["
        await client.publish("identify.event.test", payload.encode())
    await settle(client)
    granted = await take_a_turn(mailbox, "two")
    assert granted["request_id"] == "two"
    await until_kept(client, "granted", "two")
    events = await history(client)
    assert [event for event in events if event.fields.get("request_id") == "one"] == []
    numbers = [event.fields["number"] for event in events if event.name == "test"]
    assert 256 < len(numbers) < 1100  # it is read in more than one batch
    assert numbers == list(range(1200 - len(numbers), 1200))


LIMITED = """
accounts {{ BOT {{ users: [ {{ user: bot, password: hunter2 }} ], jetstream: {{ {limits} }} }} }}
no_auth_user: bot
"""


@pytest.mark.parametrize(
    ("limits", "words", "do"),
    [
        ("max_streams: 1, max_file: 1G", "maximum number of streams reached (10027)", "raise max_streams"),
        ("max_file: 100M", "insufficient storage resources", "lower IDENTIFY_HISTORY_MAX_BYTES"),
    ],
)
async def test_an_account_that_refuses_the_stream_is_said_once_and_nothing_else_suffers(
    tmp_path, start_coordinator, limits, words, do
):
    async with EmbeddedNats(tmp_path / "limited", extra=LIMITED.format(limits=limits)) as server:
        client = await nats.connect(server.url)
        coordinator = await start_coordinator(NATS_URL=server.url, IDENTIFY_HISTORY="24h")
        line = await coordinator.until_logged(NOT_KEPT)
        assert words in line["error"]
        assert line["do"].startswith(do)
        assert await coordinator.is_ready()
        mailbox = Mailbox(client)
        await mailbox.open()
        await take_a_turn(mailbox, "one")
        assert len(coordinator.logged(NOT_KEPT)) == 1
        assert "hunter2" not in coordinator.log
        assert await coordinator.end() == 0
        await client.close()


async def test_a_stream_of_another_under_this_name_is_left_alone(start_coordinator, client):
    jetstream = client.jetstream()
    await jetstream.add_stream(name=STREAM, subjects=["elsewhere.>"])
    coordinator = await start_coordinator(IDENTIFY_HISTORY="24h")
    line = await coordinator.until_logged(NOT_KEPT)
    assert "keeps elsewhere.>" in line["error"]
    assert (await jetstream.stream_info(STREAM)).config.subjects == ["elsewhere.>"]
    await jetstream.delete_stream(STREAM)
    await coordinator.until_logged(KEPT)  # tried again after a pause


async def test_subjects_that_another_stream_keeps_are_named(start_coordinator, client):
    await client.jetstream().add_stream(name="all", subjects=["identify.event.*"])
    coordinator = await start_coordinator(IDENTIFY_HISTORY="24h")
    line = await coordinator.until_logged(NOT_KEPT)
    assert "subjects overlap with an existing stream (10065)" in line["error"]
    assert line["do"].startswith("another stream keeps these subjects")


PERMISSIONS: dict[str, Any] = {
    "coordinator": [
        "$JS.API.STREAM.INFO.identify_events",
        "$JS.API.STREAM.CREATE.identify_events",
        "$JS.API.STREAM.UPDATE.identify_events",
    ],
    "reader": [
        "$JS.API.STREAM.INFO.identify_events",
        "$JS.API.CONSUMER.CREATE.identify_events.>",
        "$JS.API.CONSUMER.MSG.NEXT.identify_events.>",
    ],
}
"""What docs/coordinator.md says that they need, beside what they need without a history."""

USERS = """
authorization {{ users: [
  {{ user: admin, password: hunter2 }}
  {{ user: coordinator, password: hunter2, permissions: {{ publish: {{ allow: {coordinator} }} }} }}
  {{ user: reader, password: hunter2, permissions: {{ publish: {{ allow: {reader} }}, subscribe: "_INBOX.>" }} }}
  {{ user: stranger, password: hunter2, permissions: {{ publish: "nothing", subscribe: "_INBOX.>" }} }}
] }}
"""
WITHOUT = [
    *("$KV.identify.ledger", "$JS.API.STREAM.MSG.GET.KV_identify", "$JS.API.CONSUMER.CREATE.KV_identify"),
    *("$JS.FC.KV_identify.>", "identify.event.*", "identify.queue", "identify.queue.*", "_INBOX.>"),
    *("$JS.API.STREAM.CREATE.KV_identify", "$JS.API.STREAM.INFO.KV_identify"),
]


async def test_the_permissions_that_the_documentation_names_are_enough(tmp_path, start_coordinator):
    allowed = {name: json.dumps(subjects) for name, subjects in PERMISSIONS.items()}
    allowed["coordinator"] = json.dumps([*WITHOUT, *PERMISSIONS["coordinator"]])
    async with EmbeddedNats(tmp_path / "users", extra=USERS.format(**allowed)) as server:
        way_in = {"NATS_URL": server.url, "NATS_USER": "coordinator", "NATS_PASSWORD": "hunter2"}
        coordinator = await start_coordinator(**way_in, IDENTIFY_HISTORY="24h")
        await coordinator.until_logged(KEPT)
        admin = await nats.connect(server.url, user="admin", password="hunter2")  # noqa: S106  # of this test
        mailbox = Mailbox(admin)
        await mailbox.open()
        await take_a_turn(mailbox, "one")
        reader = await nats.connect(server.url, user="reader", password="hunter2")  # noqa: S106  # as above
        await until_kept(reader, "identified", "one")
        stranger = await nats.connect(server.url, user="stranger", password="hunter2")  # noqa: S106  # as above
        with pytest.raises(HistoryError, match="must be allowed"):
            await asyncio.wait_for(history(stranger), WITHIN_S)
        for connection in (admin, reader, stranger):
            await connection.close()
