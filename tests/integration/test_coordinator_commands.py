"""The commands of operators on a real nats-server: what each does, also if the leader is killed right after `Done`."""

import json
import signal

import pytest

from nats_identify.operator_wire import COMMAND_BYTES_MAX, Done, NotDone, decode_command_reply
from tests.processes import WITHIN_S, Mailbox, settle, until

ALICE = {"by": "alice@laptop", "why": "a test"}


async def command(client, name, **fields):
    """Give a command, and return the leader's reply."""
    payload = json.dumps({**ALICE, **fields}).encode()
    return decode_command_reply((await client.request(f"identify.{name}", payload, timeout=WITHIN_S)).data)


async def done(client, name, **fields):
    reply = await command(client, name, **fields)
    assert isinstance(reply, Done), reply
    assert (reply.command, reply.term > 0) == (name, True)
    return reply.message


async def ledger_of(client):
    entry = await (await client.jetstream().key_value("identify")).get("ledger")
    return json.loads(entry.value)


@pytest.fixture
async def pair(start_coordinator):
    """A leader, and a standby that is ready."""
    leader = await start_coordinator(IDENTIFY_CRASH_LOOP_GRANTS="2")
    standby = await start_coordinator(until_leader=False, IDENTIFY_CRASH_LOOP_GRANTS="2")
    await until(standby.is_ready, "the standby is ready")
    return leader, standby


async def kill_the_leader(pair):
    leader, standby = pair
    await leader.end(signal.SIGKILL)
    await until(standby.is_leader, "the standby leads")


async def grant_one(mailbox, request_id, **fields):
    """Return the id of a grant that is not confirmed, and its message."""
    granted, message = await mailbox.until_granted(request_id, **fields)
    return granted["grant_id"], message


async def test_each_command_is_an_endpoint_of_the_service_and_one_replica_replies(pair, client):
    about = json.loads((await client.request("$SRV.INFO.identify-coordinator", timeout=WITHIN_S)).data)
    subjects = {end["name"]: end["subject"] for end in about["endpoints"]}
    names = ("pause", "resume", "kick", "release", "pardon", "handover")
    assert {name: f"identify.{name}" for name in names}.items() <= subjects.items()
    box = Mailbox(client)
    await box.open()
    await client.publish("identify.resume", json.dumps(ALICE).encode(), reply=box.address)
    await box.reply()
    assert isinstance(await command(client, "resume"), Done)  # both replicas have handled the one before, too
    await settle(client)
    assert box.subscription.pending_msgs == 0


@pytest.mark.parametrize(
    ("name", "payload", "why"),
    [
        ("pause", b"", "the body"),
        ("pause", b"{}", "by"),
        ("pause", json.dumps({**ALICE, "for_ms": 0}).encode(), "for_ms"),
        ("kick", json.dumps({**ALICE, "request_id": "a b"}).encode(), "request_id"),
        ("release", json.dumps({**ALICE, "grant_id": "g", "outcome": "identified"}).encode(), "outcome"),
        ("pardon", json.dumps({**ALICE, "shard_id": "1"}).encode(), "shard_id"),
        ("handover", b" " * (COMMAND_BYTES_MAX + 1), str(COMMAND_BYTES_MAX)),
    ],
)
async def test_a_payload_that_is_no_command_is_refused_with_the_reason(coordinator, client, name, payload, why):
    message = await client.request(f"identify.{name}", payload, timeout=WITHIN_S)
    reply = decode_command_reply(message.data)
    assert isinstance(reply, NotDone)
    assert (reply.command, reply.code, why in reply.message) == (name, "bad_request", True), reply.message
    assert message.headers["Nats-Service-Error-Code"] == "400"
    assert message.headers["Nats-Service-Error"] == reply.message


async def test_a_pause_survives_the_leader_and_a_resume_too(pair, client, mailbox):
    events = await client.subscribe("identify.event.*")
    await settle(client)
    await done(client, "pause", for_ms=3_600_000)
    await kill_the_leader(pair)
    paused = (await ledger_of(client))["paused"]
    assert (paused["by"], paused["why"], paused["below_priority"]) == ("alice@laptop", "a test", None)
    assert 3_500_000 < paused["left_ms"] <= 3_600_000
    await mailbox.ask(0, managed=True, request_id="one", renewal=0)
    queued, _ = await mailbox.next("queued")
    assert (queued["reason"], queued["eta_ms"] > 3_500_000) == ("paused", True)
    status = json.loads((await client.request("identify.status", timeout=WITHIN_S)).data)
    assert status["buckets"][0]["reason"] == "paused"
    await pair[1].until_metric("identify_paused", 1)
    await done(client, "resume")
    await mailbox.until_granted("one", renewal=1)
    assert "paused" not in await ledger_of(client)
    names = []
    while events.pending_msgs:
        message = await events.next_msg()
        names.append(message.subject.rpartition(".")[2])
        if names[-1] == "paused":
            assert json.loads(message.data).items() >= {"for_ms": 3_600_000, **ALICE}.items()
    assert [name for name in names if name in {"paused", "resumed"}] == ["paused", "resumed"]
    leader, standby = pair
    assert (len(leader.logged("paused")), len(standby.logged("resumed"))) == (1, 1)


async def test_a_resume_is_not_forgotten_by_a_successor(pair, client, mailbox):
    await done(client, "pause")
    await done(client, "resume")
    await kill_the_leader(pair)
    await mailbox.until_granted("one")


async def test_a_pause_ends_by_itself(coordinator, client, mailbox):
    resumed = await client.subscribe("identify.event.resumed")
    await done(client, "pause", for_ms=500, below_priority=1)
    await mailbox.ask(0, managed=True, request_id="one", renewal=0)
    assert (await mailbox.next("queued"))[0]["reason"] == "paused"
    assert json.loads((await resumed.next_msg(timeout=WITHIN_S)).data)["by"] == "timer"
    await mailbox.until_granted("one", renewal=1)
    await coordinator.until_metric('identify_events_total{event="resumed"}', 1)


async def test_a_kicked_request_is_refused_and_stays_so_after_the_leader(pair, client, mailbox):
    _, message = await grant_one(mailbox, "one")
    await mailbox.ask(0, managed=True, request_id="two", renewal=0)
    await mailbox.next("queued")
    await done(client, "kick", request_id="two")
    refused, _ = await mailbox.next("refused")
    assert (refused["request_id"], refused["code"]) == ("two", "ended")
    assert "operator" in refused["message"]
    await kill_the_leader(pair)
    await message.respond(b"")
    await mailbox.ask(0, managed=True, request_id="two", renewal=1)
    assert (await mailbox.next("refused"))[0]["code"] == "ended"
    unknown = await command(client, "kick", request_id="unknown")
    assert isinstance(unknown, NotDone)


async def test_a_released_grant_is_given_back_once_and_an_identified_one_is_not(pair, client, mailbox):
    grant_id, _ = await grant_one(mailbox, "one")
    await done(client, "release", grant_id=grant_id, outcome="declined")
    await kill_the_leader(pair)
    ledger = await ledger_of(client)
    assert grant_id not in [grant["grant_id"] for grant in ledger["grants"]]
    assert ledger["remaining"] == 1000
    again, message = await mailbox.until_granted("one", renewal=1)
    assert again["grant_id"] != grant_id
    identified = await client.subscribe("identify.event.identified")
    await settle(client)
    await message.respond(b"")
    await identified.next_msg(timeout=WITHIN_S)
    refused = await command(client, "release", grant_id=again["grant_id"], outcome="declined")
    assert isinstance(refused, NotDone)
    assert "identified" in refused.message


async def test_a_pardoned_shard_is_granted_by_the_successor(pair, client, mailbox):
    for number in range(2):
        _, message = await grant_one(mailbox, f"free-{number}", renewal=0)
        await message.respond(b"")
    await mailbox.ask(0, managed=True, request_id="held", renewal=0)
    assert (await mailbox.next("queued"))[0]["reason"] == "crash_loop"
    await done(client, "pause")
    await done(client, "pardon", shard_id=0)
    await kill_the_leader(pair)
    assert (await ledger_of(client))["crash_loops"] == []
    await done(client, "resume")
    await mailbox.until_granted("held", renewal=1)


async def until_handed_over(client):
    async def is_handed_over():  # one that has led for less than a lease does not hand over
        return isinstance(await command(client, "handover"), Done)

    await until(is_handed_over, "the leader hands over")


async def test_a_handover_makes_the_standby_lead_at_once(pair, client):
    leader, standby = pair

    await until_handed_over(client)
    await until(standby.is_leader, "the standby leads")
    assert not await leader.is_leader()
    assert (await ledger_of(client))["leader"] == "pod-1"
    await kill_the_leader((standby, leader))


async def test_alone_it_leads_again_after_a_handover(start_coordinator, client):
    coordinator = await start_coordinator()
    await until_handed_over(client)

    async def leads_anew():
        return (await ledger_of(client))["term"] == 2 and await coordinator.is_leader()

    await until(leads_anew, "it leads again")
