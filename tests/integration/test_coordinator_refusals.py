"""A NATS server that will not store the ledger, or not make its KV bucket: who is told what, how often, until when."""

import os
import time
from functools import partial
from typing import Any

import nats
import pytest
from nats import errors
from nats.js.api import KeyValueConfig, StorageType

from nats_identify.processes.nats_server import EmbeddedNats
from tests.chaos.nats_cluster import running_cluster
from tests.processes import Mailbox, until

ACCOUNT = """
accounts {{ BOT {{ users: [ {{ user: bot, password: bot }} ], jetstream: {{ {limits} }} }} }}
no_auth_user: bot
"""
"""One account for everybody, with limits of its own."""

ROOM = "max_memory: 1MB, max_file: 256KB"

DENIED = {"NATS_USER": "a", "NATS_PASSWORD": "a"}

PAUSES_A_SECOND = 3
"""A third of the lease of one second."""


@pytest.fixture
async def start_nats(tmp_path):
    """Start the server with more lines of configuration, and return it with a client of it."""
    started: list[Any] = []

    async def start(extra=""):
        server = EmbeddedNats(tmp_path / "limited", extra=extra)
        await server.start()
        client = await nats.connect(server.url, reconnect_time_wait=0.05, max_reconnect_attempts=-1)
        started.extend((client.close, server.stop))
        return server, client

    yield start
    for end in started:
        await end()


class Limit:
    """One limit that an operator can set on a running server, and lift again."""

    def __init__(self, kind, client):
        self.kind = kind
        self.jetstream = client.jetstream()

    async def set(self):
        if self.kind == "an account's room":
            await self.jetstream.add_stream(name="filler", subjects=["filler"])
            size = 16 * 1024
            while size:
                try:
                    await self.jetstream.publish("filler", os.urandom(size))
                except errors.Error:
                    size //= 2
        elif self.kind == "the size of a value":
            await self._edit(max_msg_size=300)
        else:
            await self._edit(max_bytes=300)

    async def lift(self):
        if self.kind == "an account's room":
            await self.jetstream.purge_stream("filler")
        else:
            await self._edit(max_msg_size=-1, max_bytes=-1)

    async def _edit(self, **changes):
        config = (await self.jetstream.stream_info("KV_identify")).config
        await self.jetstream.update_stream(config.evolve(**changes))


class Writes:
    """Counts what is sent to the ledger's subject, done or not."""

    def __init__(self):
        self.count = 0

    async def watch(self, client):
        async def seen(_message):
            self.count += 1

        await client.subscribe("$KV.identify.ledger", cb=seen)
        await client.flush()


SAYS = {
    "the size of a value": ("message size exceeds maximum allowed", "--max-msg-size=-1"),
    "the bytes of the bucket": ("maximum bytes exceeded", "--max-bytes=-1"),
    "an account's room": ("resource limits exceeded for account", "max_file of the NATS account"),
}


async def is_said(coordinator):
    return coordinator.logged("the ledger cannot be written")


@pytest.mark.parametrize("kind", SAYS)
async def test_a_limit_is_said_once_and_the_write_is_repeated_slowly_until_it_is_lifted(
    kind, start_nats, start_coordinator
):
    server, client = await start_nats(ACCOUNT.format(limits=ROOM))
    coordinator = await start_coordinator(NATS_URL=server.url)
    limit, writes, mailbox = Limit(kind, client), Writes(), Mailbox(client)
    await mailbox.open()
    await limit.set()
    (line,) = await until(lambda: is_said(coordinator), "it says so")
    words, do = SAYS[kind]
    assert line["level"] == "error"
    assert words in line["error"]
    assert do in line["do"]
    status, page = await coordinator.page("/readyz")
    assert status == 503
    assert words in page
    assert do in page

    await writes.watch(client)
    began_s = time.monotonic()
    await until(lambda: is_beyond(writes, 4), "it is written again and again")
    assert writes.count <= (time.monotonic() - began_s) * PAUSES_A_SECOND + 2
    assert await coordinator.metric("identify_ledger_writes_refused_total") >= 4
    assert await coordinator.metric("identify_ledger_unwritten_seconds") > 0
    assert len(await is_said(coordinator)) <= 1 + (time.monotonic() - began_s) // 30

    await mailbox.ask(0, managed=True, request_id="one", renewal=0)
    await limit.lift()
    before = await coordinator.metric("identify_ledger_writes_refused_total")
    granted, _ = await mailbox.until_granted("one")
    assert await coordinator.metric("identify_ledger_writes_refused_total") <= before + 1  # the next one was done
    assert granted["term"] == 1
    await until(coordinator.is_ready, "it is ready again")
    assert len(coordinator.logged("the ledger is written again")) == 1
    assert await coordinator.metric("identify_ledger_unwritten_seconds") == 0


async def is_beyond(writes, count):
    return writes.count > count


async def test_a_limit_that_is_there_before_the_start_is_said_too(start_nats, start_coordinator):
    server, client = await start_nats()
    await client.jetstream().create_key_value(KeyValueConfig(bucket="identify", max_value_size=400))
    coordinator = await start_coordinator(NATS_URL=server.url, until_leader=False)
    (line,) = await until(lambda: is_said(coordinator), "it says so")
    assert "message size exceeds maximum allowed" in line["error"]
    (doubt,) = coordinator.logged("the settings of the KV bucket may fail")
    assert "the largest ledger" in doubt["error"]
    await Limit("the size of a value", client).lift()
    await until(coordinator.is_leader, "it leads")


async def test_three_coordinators_are_refused_in_one_term_and_one_of_them_goes_on(start_nats, start_coordinator):
    server, client = await start_nats()
    coordinators = [await start_coordinator(NATS_URL=server.url)]
    coordinators += [await start_coordinator(NATS_URL=server.url, until_leader=False) for _ in range(2)]
    for coordinator in coordinators:
        await until(coordinator.is_ready, "it is ready")
    limit, mailbox = Limit("the size of a value", client), Mailbox(client)
    await mailbox.open()
    await limit.set()
    for coordinator in coordinators:
        await until(partial(is_said, coordinator), "each of them says so")
        assert (await coordinator.page("/readyz"))[0] == 503
    await limit.lift()
    granted, _ = await mailbox.until_granted("one")
    assert granted["term"] <= 2
    for coordinator in coordinators:
        await until(coordinator.is_ready, "those that only stood by are ready as well")


async def test_writes_that_nobody_answers_are_said_while_reads_are_answered(start_nats, start_coordinator):
    deny = (
        'authorization { users: [ { user: a, password: a, permissions: { publish: { deny: "$KV.identify.ledger" } } },'
    )
    server, client = await start_nats(deny + " { user: b, password: b } ] }\nno_auth_user: b")
    await client.jetstream().create_key_value(KeyValueConfig(bucket="identify"))
    coordinator = await start_coordinator(NATS_URL=server.url, until_leader=False, **DENIED)
    (line,) = await until(lambda: is_said(coordinator), "it says so")
    assert "timeout" in line["error"]
    assert "log of the NATS server" in line["do"]
    assert "the ledger cannot be written" in (await coordinator.page("/readyz"))[1]


# --- the settings of a bucket that somebody else has made


@pytest.mark.parametrize(
    ("settings", "change", "names"),
    [
        ({"ttl": 600}, {}, "--max-age=0"),
        ({"max_value_size": 50}, {}, "--max-msg-size=-1"),
        ({"max_bytes": 50}, {}, "--max-bytes=-1"),
        ({"max_bytes": 600}, {"discard": "old"}, "--discard=new"),
        ({}, {"sealed": True}, "sealed"),
    ],
)
async def test_a_bucket_that_can_never_keep_a_ledger_ends_it_with_status_2(
    settings, change, names, start_nats, start_coordinator
):
    server, client = await start_nats()
    jetstream = client.jetstream()
    await jetstream.create_key_value(KeyValueConfig(bucket="identify", **settings))
    if change:
        config = (await jetstream.stream_info("KV_identify")).config
        await jetstream.update_stream(config.evolve(**change))
    coordinator = await start_coordinator(NATS_URL=server.url, until_leader=False)
    assert await coordinator.ended() == 2
    (line,) = [line for line in coordinator.log.splitlines() if line.startswith("KV bucket identify: ")]
    assert names in line


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"storage": StorageType.MEMORY}, "memory"),
        ({"max_value_size": 2000}, "largest ledger"),
        ({"max_bytes": 4000, "history": 2}, "largest ledger"),
    ],
)
async def test_a_bucket_that_may_fail_one_day_is_warned_of_and_used(settings, says, start_nats, start_coordinator):
    server, client = await start_nats()
    await client.jetstream().create_key_value(KeyValueConfig(bucket="identify", **settings))
    coordinator = await start_coordinator(NATS_URL=server.url, IDENTIFY_MAX_CONCURRENCY="16")

    async def warned():
        return coordinator.logged("the settings of the KV bucket may fail")

    (line,) = await until(warned, "it warns")
    assert line["level"] == "warning"
    assert says in line["error"]


async def test_a_bucket_that_is_spoilt_in_mid_life_makes_it_unready_until_it_is_mended(coordinator, client):
    async def page():
        return (await coordinator.page("/readyz"))[1]

    await until(coordinator.is_ready, "it is ready")
    jetstream = client.jetstream()
    config = (await jetstream.stream_info("KV_identify")).config
    await jetstream.update_stream(config.evolve(max_age=600))

    async def is_said():
        return "--max-age=0" in await page()

    await until(is_said, "/readyz says it")
    (line,) = coordinator.logged("the settings of the KV bucket are wrong")
    assert line["level"] == "error"
    await jetstream.update_stream(config)
    await until(coordinator.is_ready, "it is ready again")


async def test_a_bucket_as_it_is_made_is_not_complained_of(coordinator, client):
    await until(coordinator.is_ready, "it is ready")
    await client.request("identify.request.0", b"", timeout=30)
    assert not [line for line in coordinator.log.splitlines() if "the settings of the KV bucket" in line]


# --- a bucket that cannot be made


async def why_not_made(coordinator):
    lines = coordinator.logged("the KV bucket cannot be made")
    status, page = await coordinator.page("/readyz")
    return lines and status == 503 and "the KV bucket cannot be made" in page and (lines, page)


@pytest.mark.parametrize(
    ("limits", "environment", "says", "variable"),
    [
        (f"{ROOM}, max_bytes_required: true", {}, "max bytes", "IDENTIFY_KV_MAX_BYTES"),
        (
            f"{ROOM}, max_bytes_required: true, disk_max_stream_bytes: 100KB",
            {"IDENTIFY_KV_MAX_BYTES": "200000"},
            "max stream bytes",
            "IDENTIFY_KV_MAX_BYTES",
        ),
        (f"{ROOM}, max_streams: 1", {}, "maximum number of streams", "max_streams"),
        (ROOM, {"IDENTIFY_KV_REPLICAS": "3"}, "non-clustered", "IDENTIFY_KV_REPLICAS=1"),
        (ROOM, {"IDENTIFY_KV_MAX_BYTES": "1000000"}, "insufficient storage", "max_file"),
    ],
)
async def test_a_bucket_that_cannot_be_made_says_the_server_s_reason_and_what_cures_it(
    limits, environment, says, variable, start_nats, start_coordinator
):
    server, client = await start_nats(ACCOUNT.format(limits=limits))
    if "max_streams" in limits:
        await client.jetstream().add_stream(name="another", subjects=["another"])
    coordinator = await start_coordinator(NATS_URL=server.url, until_leader=False, **environment)
    lines, page = await until(lambda: why_not_made(coordinator), "it says why")
    assert len(lines) == 1
    assert says in lines[0]["error"]
    assert variable in lines[0]["do"]
    assert says in page
    if "max_streams" in limits:
        await client.jetstream().delete_stream("another")
        await until(coordinator.is_leader, "it leads")
        assert coordinator.logged("the KV bucket is there")


async def test_an_account_that_requires_a_number_of_bytes_is_given_one(start_nats, start_coordinator):
    server, client = await start_nats(ACCOUNT.format(limits=f"{ROOM}, max_bytes_required: true"))
    await start_coordinator(NATS_URL=server.url, IDENTIFY_KV_MAX_BYTES="65536")
    assert (await client.jetstream().stream_info("KV_identify")).config.max_bytes == 65536


async def test_one_server_with_a_leaf_node_keeps_one_copy_and_says_which_variable_asks_for_more(
    start_nats, start_coordinator
):
    server, client = await start_nats('leafnodes { remotes: [ { url: "nats://127.0.0.1:1" } ] }\nserver_name: alone')
    coordinator = await start_coordinator(NATS_URL=server.url)
    assert (await client.jetstream().stream_info("KV_identify")).config.num_replicas == 1
    assert "IDENTIFY_KV_REPLICAS" in coordinator.log
    await client.request("identify.request.0", b"", timeout=30)


async def test_a_cluster_with_too_few_servers_for_the_copies_says_so(tmp_path, start_coordinator):
    async with running_cluster(tmp_path / "cluster") as cluster:
        coordinator = await start_coordinator(NATS_URL=cluster.url, IDENTIFY_KV_REPLICAS="5", until_leader=False)
        lines, page = await until(lambda: why_not_made(coordinator), "it says why")
        assert "no suitable peers" in lines[0]["error"]
        assert "IDENTIFY_KV_REPLICAS" in page
