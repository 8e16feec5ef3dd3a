"""The ledger in a real JetStream: what people read there, and what becomes of it when processes and servers end."""

import asyncio
import json
import signal

import nats.js.errors
import pytest
from nats.js.api import KeyValueConfig

from coordinator.edge.peer_messages import LedgerEntry
from tests.processes import WITHIN_S, Mailbox, until


async def ledger_of(client, bucket="identify"):
    entry = await (await client.jetstream().key_value(bucket)).get("ledger")
    return json.loads(entry.value)


async def test_the_ledger_is_json_that_a_person_can_read(coordinator, client, mailbox):
    await mailbox.ask(0, managed=True, request_id="one", renewal=0)
    granted, _ = await mailbox.next("granted")
    ledger = await ledger_of(client)
    LedgerEntry.model_validate_json(json.dumps(ledger))
    assert list(ledger) == [
        *("prefix", "leader", "instance", "term", "sequence", "lease_ms"),
        *("max_concurrency", "total", "remaining", "reset_in_ms", "grants"),
        *("crash_loops", "margin_ms", "static_day", "full_hold_ms", "replied"),
    ]
    assert (ledger["prefix"], ledger["leader"], ledger["term"]) == ("identify", "pod-0", 1)
    assert (ledger["lease_ms"], ledger["total"], ledger["remaining"]) == (3000, 1000, 999)
    (grant,) = ledger["grants"]
    assert 0 < grant.pop("hold_ms") <= 1450
    assert grant == {
        "grant_id": granted["grant_id"],
        "request_id": "one",
        "shard_id": 0,
        "bucket": 0,
        "max_concurrency": 1,
        "renewal": 0,
        "use_within_ms": 1000,
        "outcome": None,
    }


async def test_sigterm_releases_the_lock_and_exits_with_0(coordinator, client):
    assert await coordinator.end(signal.SIGTERM) == 0
    ledger = await ledger_of(client)
    assert (ledger["leader"], ledger["term"]) == (None, 1)
    assert coordinator.logged("stopped")


async def test_a_killed_coordinator_goes_on_one_term_later_and_still_holds_what_it_granted(
    coordinator, start_coordinator, client
):
    await client.request("identify.request.0", b"", timeout=WITHIN_S)
    assert await coordinator.end(signal.SIGKILL) == -signal.SIGKILL
    assert (await ledger_of(client))["leader"] == "pod-0"
    await start_coordinator()
    ledger = await ledger_of(client)
    assert (ledger["leader"], ledger["term"], ledger["remaining"]) == ("pod-1", 2, 999)


async def test_a_standby_takes_over_with_the_queue_that_it_heard(coordinator, start_coordinator, client, mailbox):
    standby = await start_coordinator(until_leader=False)
    await until(standby.is_ready, "the standby is ready")
    assert not await standby.is_leader()
    await client.request("identify.request.0", b"", timeout=WITHIN_S)
    await mailbox.ask(0, managed=True, request_id="waiting", shard_id=0)
    await mailbox.next("queued")
    assert await coordinator.end() == 0
    granted, _ = await mailbox.until_granted("waiting", renewal=1)
    assert (granted["term"], granted["remaining"]) == (2, 998)
    assert await standby.is_leader()


async def test_two_prefixes_live_side_by_side(coordinator, start_coordinator, client):
    await start_coordinator(IDENTIFY_PREFIX="bots.alpha.identify", IDENTIFY_SESSION_TOTAL="50")
    first = json.loads((await client.request("identify.request.0", b"", timeout=WITHIN_S)).data)
    second = json.loads((await client.request("bots.alpha.identify.request.0", b"", timeout=WITHIN_S)).data)
    assert (first["remaining"], second["remaining"]) == (999, 49)
    assert (await ledger_of(client, "bots_alpha_identify"))["prefix"] == "bots.alpha.identify"


async def test_another_prefix_s_ledger_is_left_alone(start_coordinator, client):
    await start_coordinator(IDENTIFY_PREFIX="bots.alpha")
    other = await start_coordinator(until_leader=False, IDENTIFY_PREFIX="bots_alpha")
    assert await other.ended() == 2
    assert other.log.splitlines()[-1].startswith("IDENTIFY_PREFIX: KV bucket bots_alpha belongs to 'bots.alpha'")
    assert (await ledger_of(client, "bots_alpha"))["prefix"] == "bots.alpha"


async def test_without_fresh_start_an_empty_store_holds_every_bucket_first(start_coordinator, client):
    await start_coordinator(IDENTIFY_FRESH_START="0")
    (blanket,) = (await ledger_of(client))["grants"]
    assert (blanket["request_id"], blanket["max_concurrency"]) == ("", 1)
    assert json.loads((await client.request("identify.request.0", b"", timeout=WITHIN_S)).data)["waited_ms"] > 0


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_nothing_is_granted_without_nats_and_everything_after_it(coordinator, nats_server, client, mailbox, how):
    await client.request("identify.request.0", b"", timeout=WITHIN_S)
    await mailbox.ask(0, managed=True, request_id="patient", shard_id=0)
    await mailbox.next("queued")
    await getattr(nats_server, how)()

    async def is_unready():
        return (await coordinator.page("/readyz"))[0] == 503

    await until(is_unready, "it is not ready without NATS")
    assert (await coordinator.page("/livez"))[0] == 200
    await nats_server.start()
    await until(coordinator.is_leader, "it leads again")
    await until(lambda: client_is_back(client), "the client is back")
    granted, _ = await mailbox.until_granted("patient", renewal=1)
    assert granted["remaining"] == 998
    await coordinator.until_logged("NATS is back")


async def client_is_back(client):
    return client.is_connected


@pytest.mark.parametrize("loss", ["delete the key", "purge the key", "delete the KV bucket"])
async def test_a_lost_ledger_is_made_again_and_holds_everything(coordinator, client, loss):
    await client.request("identify.request.0", b"", timeout=WITHIN_S)
    jetstream = client.jetstream()
    keys = await jetstream.key_value("identify")
    if loss == "delete the key":
        await keys.delete("ledger")
    elif loss == "purge the key":
        await keys.purge("ledger")
    else:
        await jetstream.delete_key_value("identify")

    async def has_led_anew():
        try:
            ledger = await ledger_of(client)
        except (nats.js.errors.NotFoundError, nats.js.errors.BucketNotFoundError):
            return None
        return ledger["leader"] and ledger["term"] > 1 and ledger

    ledger = await until(has_led_anew, "it leads again")
    assert "" in [grant["request_id"] for grant in ledger["grants"]]  # every bucket is held
    assert json.loads((await client.request("identify.request.0", b"", timeout=WITHIN_S)).data)["status"] == "granted"


async def test_what_is_no_ledger_is_never_taken_for_one(nats_server, client, start_coordinator):
    keys = await client.jetstream().create_key_value(KeyValueConfig(bucket="identify"))
    await keys.put("ledger", b"not a ledger")
    process = await start_coordinator(until_leader=False)

    async def has_complained():
        return "holds no ledger" in process.log

    await until(has_complained, "it says so")
    assert not await process.is_ready()
    await keys.delete("ledger")
    await until(process.is_leader, "it leads when that is mended")


async def test_a_thousand_grants_fit_into_a_commit(start_coordinator, client):
    await start_coordinator(IDENTIFY_MAX_CONCURRENCY="1000", IDENTIFY_SESSION_TOTAL="5000", IDENTIFY_USE_WITHIN="60")
    boxes = [Mailbox(client) for _ in range(1000)]
    await asyncio.gather(*(box.open() for box in boxes))
    for shard_id, box in enumerate(boxes):
        await box.ask(shard_id, managed=True, request_id=f"shard-{shard_id}")
    await asyncio.gather(*(box.next("granted") for box in boxes))
    ledger = await ledger_of(client)
    assert len(ledger["grants"]) == 1000
    assert ledger["remaining"] == 4000
