"""An operator's commands while real shards wait: each once, and once with the leader killed right after the reply."""

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
import pytest

from coordinator.core.handover_policy import YIELDS_LEASES
from nats_identify import NatsQueue, Reason
from nats_identify.clock import NS_PER_MS, NS_PER_S, now_ns
from nats_identify.operator_wire import Done, NotDone, decode_command_reply
from nats_identify.testing import BareShard, ShardState, SimulatedGateway
from tests.chaos.figures import Figures, show
from tests.chaos.fleet import TOKEN, Fleet, fleet_of, sleep_s
from tests.chaos.replicas import LEASE_S, WINDOW_S, Replicas, running_replicas
from tests.integration.test_coordinator_commands import command, done, ledger_of
from tests.integration.test_operators_cli import run
from tests.processes import WITHIN_S, Mailbox, settle, until

pytestmark = pytest.mark.slow

SHARDS = 5
LAST = SHARDS - 1
GONE = 99
LONG_MS = 600_000
ALICE = {"by": "alice@laptop", "why": "a test"}
KILLS = pytest.mark.parametrize("kills", [False, True], ids=["the leader goes on", "the leader is killed after done"])


class Scene:
    """Coordinators, the simulated Discord, and what has happened.

    Attributes:
        events: names and facts of the queue's events, in order.
    """

    def __init__(self, url, client, replicas: Replicas, gateway: SimulatedGateway):
        self.url = url
        self.client = client
        self.replicas = replicas
        self.gateway = gateway
        self.events: list[tuple[str, dict[str, Any], int]] = []

    async def follow(self):
        async def note(message):
            self.events.append((message.subject.rpartition(".")[2], json.loads(message.data), now_ns()))

        await self.client.subscribe("identify.event.*", cb=note)
        await settle(self.client)

    def of(self, name, **facts):
        return [(at, told) for told, at in self._named(name) if facts.items() <= told.items()]

    def _named(self, name):
        return [(told, at) for kind, told, at in self.events if kind == name]

    async def until_event(self, name, *, times=1, **facts):
        async def look():
            return self.of(name, **facts)[times - 1 :]

        return (await until(look, f"the event {name} {facts}"))[0]

    async def order(self, name, *, kills, **fields):
        """Give a command, and kill the leader as soon as it has replied; return when the reply arrived, in ns.

        Before a further command there must be a leader: a standby keeps none.
        """
        leader = await self.replicas.leader()
        await done(self.client, name, **fields)
        at_ns = now_ns()
        if kills:
            leader.process.kill()
            await leader.ended()
        return at_ns

    async def requests_of(self, shard_id):
        payload = json.dumps({"shard_id": shard_id}).encode()
        return json.loads((await self.client.request("identify.status", payload, timeout=WITHIN_S)).data)["requests"]

    async def judge(self, fleet: Fleet, what):
        """All are up, once each, and no window was broken."""
        report = await self.gateway.until(lambda report: report.ready >= fleet.count, within_s=WITHIN_S)
        print(f"\n{what}: {report}")
        assert report.violations == 0
        assert dict(report.ready_by_shard) == dict.fromkeys(range(fleet.count), 1)


@asynccontextmanager
async def playing(nats_server, client, folder, *, count=2, **settings):
    async with (
        running_replicas(folder / "coordinators", nats_server.url, count=count, **settings) as replicas,
        SimulatedGateway(window_s=WINDOW_S, shards=SHARDS) as gateway,
    ):
        await replicas.leader()
        await sleep_s(
            LEASE_S / 2
        )  # a heartbeat: a standby has seen the ledger move, and holds no bucket in its takeover
        scene = Scene(nats_server.url, client, replicas, gateway)
        await scene.follow()
        yield scene


@pytest.fixture
async def scene(nats_server, client, tmp_path):
    async with playing(nats_server, client, tmp_path) as scene:
        yield scene


def shows(fleet, shard_id, reason):
    async def look():
        return fleet.reasons.get(shard_id) is reason

    return look


async def until_paused(fleet):
    for shard_id in range(SHARDS):
        if fleet.shards[shard_id].state not in {ShardState.IDENTIFIED, ShardState.UP}:
            await until(shows(fleet, shard_id, Reason.PAUSED), f"shard {shard_id} is shown the pause")


def granted_between(scene, first, last):
    """Return the grants that were reported after one event and before another."""
    names = [name for name, _, _ in scene.events]
    return names[names.index(first) : names.index(last)].count("granted")


@KILLS
async def test_a_pause(scene, kills):
    async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
        at_ns = await scene.order("pause", kills=kills, for_ms=LONG_MS)
        await until_paused(fleet)
        shown_ms = (now_ns() - at_ns) / NS_PER_MS
        if kills:
            await scene.until_event("leader", term=2)
        _, told = await scene.until_event("paused")
        assert told.items() >= {**ALICE, "for_ms": LONG_MS}.items()
        _, shown, _ = await run(scene.url, "status", "--shard", str(LAST))
        assert "It waits for the end of a pause by an operator." in shown
        await sleep_s(4 * WINDOW_S)  # that long it grants nothing, in any bucket
        await done(scene.client, "resume")
        resumed_ns, _ = await scene.until_event("resumed")
        assert granted_between(scene, "paused", "resumed") == 0
        await scene.judge(fleet, f"all show the pause {shown_ms:.0f} ms after done")
        first_ns = next(at_ns for at_ns, _ in scene.of("granted") if at_ns > resumed_ns)
        print(f"  first grant {(first_ns - resumed_ns) / NS_PER_MS:.0f} ms after resumed")


@KILLS
async def test_a_resume(scene, kills):
    await done(scene.client, "pause")
    async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
        await until_paused(fleet)
        at_ns = await scene.order("resume", kills=kills)
        granted_ns, _ = await scene.until_event("granted")
        await scene.judge(fleet, f"first grant {(granted_ns - at_ns) / NS_PER_MS:.0f} ms after resume was done")
    assert "paused" not in await ledger_of(scene.client)


@KILLS
async def test_a_kick(scene, kills, caplog):
    await done(scene.client, "pause")
    async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
        await until_paused(fleet)
        ((kicked),) = [request["request_id"] for request in await scene.requests_of(1)]
        await scene.order("kick", kills=kills, request_id=kicked)

        async def asks_anew():
            return [one["request_id"] for one in await scene.requests_of(1) if one["request_id"] != kicked]

        await until(asks_anew, "the shard asks anew")
        _, told = await scene.until_event("kicked", request_id=kicked)
        assert told.items() >= {**ALICE, "shard_id": 1}.items()
        await scene.replicas.leader()  # a command without a leader has no reply
        again = await command(scene.client, "kick", request_id=kicked)
        assert (isinstance(again, NotDone), again.code) == (True, "ended")
        await done(scene.client, "resume")
        await scene.judge(fleet, "a shard was kicked")
        assert fleet.identified() == [0, 2, 3, 4, 1], "it stands at the end of its queue"
    (line,) = [line for line in caplog.messages if "asks anew" in line]
    assert "(an operator ended request" in line
    assert "where no operator ended it, find the other client" in line


@KILLS
async def test_a_release(nats_server, client, tmp_path, kills):
    async with (
        playing(nats_server, client, tmp_path, IDENTIFY_USE_WITHIN="60") as scene,
        NatsQueue.connect(nats_server.url) as queue,
    ):
        grant = await queue.acquire(GONE)  # its shard sends no IDENTIFY, and no answer
        async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
            at_ns = await scene.order("release", kills=kills, grant_id=grant.grant_id, outcome="declined")
            granted_ns, told = await scene.until_event("granted", times=2)
            assert told["shard_id"] == 0
            await scene.replicas.leader()
            twice = await command(client, "release", grant_id=grant.grant_id, outcome="declined")
            assert isinstance(twice, Done) or (kills, twice.code) == (True, "ended"), twice  # and it does no harm
            queue.decline(grant)
            await scene.judge(fleet, f"the next was granted {(granted_ns - at_ns) / NS_PER_MS:.0f} ms after release")
            queue.identified(again := await queue.acquire(GONE))
            await scene.until_event("identified", grant_id=again.grant_id)
            refused = await command(client, "release", grant_id=again.grant_id, outcome="declined")
            assert isinstance(refused, NotDone), refused


@KILLS
async def test_a_pardon(nats_server, client, tmp_path, kills):
    async with (
        playing(nats_server, client, tmp_path, IDENTIFY_CRASH_LOOP_GRANTS="2") as scene,
        NatsQueue.connect(nats_server.url) as queue,
    ):
        for _ in range(2):
            queue.identified(await queue.acquire(0))
        async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
            await until(shows(fleet, 0, Reason.CRASH_LOOP), "shard 0 is delayed")
            await done(client, "pause")  # so that the effect is the successor's
            await scene.order("pardon", kills=kills, shard_id=0)
            _, told = await scene.until_event("pardoned", shard_id=0)
            assert told.items() >= ALICE.items()
            await scene.replicas.leader()
            assert "nothing was held" in await done(client, "pardon", shard_id=GONE)
            await done(client, "resume")
            await scene.judge(fleet, "a delayed shard was pardoned")


@KILLS
async def test_a_handover(scene, kills):
    await until_led_for_a_lease(scene)
    async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
        leader = await scene.replicas.leader()
        at_ns = await scene.order("handover", kills=kills)
        leads_ns, told = await scene.until_event("leader", term=2)
        assert told["leader"] != leader.environment["IDENTIFY_REPLICA_NAME"]
        assert (await scene.until_event("handover"))[1].items() >= ALICE.items()
        await scene.judge(fleet, f"another led {(leads_ns - at_ns) / NS_PER_MS:.0f} ms after handover was done")


async def until_led_for_a_lease(scene):
    await sleep_s(LEASE_S)  # a leader of less than a lease refuses a handover
    assert len(scene.of("leader")) == 0, "the machine is too busy: the leader changed by itself"


async def test_one_alone_leads_again_after_a_handover(nats_server, client, tmp_path):
    async with playing(nats_server, client, tmp_path, count=1) as scene:
        await until_led_for_a_lease(scene)
        async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
            at_ns = await scene.order("handover", kills=False)
            leads_ns, _ = await scene.until_event("leader", term=2)
            await scene.judge(fleet, f"it led again {(leads_ns - at_ns) / NS_PER_MS:.0f} ms after handover was done")
    assert leads_ns - at_ns > YIELDS_LEASES * LEASE_S * NS_PER_S * 0.9, "a standby would have had the time"


async def test_two_handovers_at_once_are_both_answered(nats_server, client, tmp_path):
    async with playing(nats_server, client, tmp_path, count=3) as scene:
        await until_led_for_a_lease(scene)
        async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
            replies = await asyncio.gather(*(command(client, "handover") for _ in range(2)))
            print("", *(reply.message for reply in replies), sep="\n  ")
            assert sum(isinstance(reply, Done) for reply in replies) == 1
            await scene.until_event("leader", term=2)
            await scene.judge(fleet, "two handovers at once")
        assert len(scene.of("handover")) == 1


async def test_a_lost_session_goes_on_while_a_deploy_waits(scene):
    await done(scene.client, "pause", below_priority=1)
    async with (
        fleet_of(SHARDS - 1, scene.url, scene.gateway) as fleet,
        BareShard(fleet.queue, LAST, SHARDS, scene.gateway.ws_url, TOKEN, priority=1) as lost,
    ):
        await asyncio.wait_for(lost.until(ShardState.UP), WITHIN_S)
        assert fleet.identified() == [LAST]
        await done(scene.client, "resume")
        await scene.gateway.until(lambda report: report.ready >= SHARDS, within_s=WITHIN_S)
    assert scene.gateway.record.report().violations == 0


async def test_a_pause_that_ends_by_itself_is_not_shortened_by_a_takeover(scene):
    for_ms = 3 * LEASE_S * 1000
    asked_ns = now_ns()
    await scene.order("pause", kills=True, for_ms=int(for_ms))
    async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
        granted_ns, _ = await scene.until_event("granted")
        lasted = Figures(f"granted after a pause for {for_ms:.0f} ms, the leader killed")
        lasted.add((granted_ns - asked_ns) / NS_PER_MS)
        await scene.judge(fleet, "a pause ended by itself")
    show("A pause that ends by itself", lasted)
    assert min(lasted.values) >= for_ms
    assert scene.of("resumed", by="timer")


@pytest.mark.parametrize("what", ["all coordinators", "NATS"])
async def test_a_pause_outlives_a_restart_of(scene, nats_server, what):
    async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
        await done(scene.client, "pause", for_ms=LONG_MS)
        if what == "NATS":
            await nats_server.kill()
            await nats_server.start()
        else:
            for replica in scene.replicas:
                await replica.end(signal.SIGKILL)
            await asyncio.gather(*(replica.start_again() for replica in scene.replicas))
        await scene.replicas.leader()

        async def is_paused():
            shown = json.loads((await scene.client.request("identify.status", timeout=WITHIN_S)).data)
            return shown["paused"] and shown["role"] == "leader"

        async def is_shown():
            try:
                return await is_paused()
            except nats.errors.Error:  # it connects again
                return None

        await until(is_shown, "the leader has the pause")
        await until_paused(fleet)
        await sleep_s(4 * WINDOW_S)
        await done(scene.client, "resume")
        await scene.judge(fleet, f"a pause, and a restart of {what}")
        assert granted_between(scene, "paused", "resumed") == 0


async def test_a_pause_in_a_takeover_is_in_force_or_not_answered(scene):
    leader = await scene.replicas.leader()
    async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
        leader.process.kill()
        unanswered = 0
        while True:
            try:
                message = await scene.client.request("identify.pause", json.dumps(ALICE).encode(), timeout=0.1)
            except nats.errors.TimeoutError:
                unanswered += 1
                continue
            break
        assert isinstance(decode_command_reply(message.data), Done)
        assert (await ledger_of(scene.client))["paused"]["by"] == ALICE["by"]
        await until_paused(fleet)
        await done(scene.client, "resume")
        await scene.judge(fleet, f"{unanswered} pauses without a leader, unanswered, and one in force")


async def test_a_command_without_a_leader_is_reported_as_unknown(nats_server, client, tmp_path):
    """The standbys are there, so there are responders; the operator is to know that there is no leader."""
    async with playing(nats_server, client, tmp_path, IDENTIFY_LEASE="30") as scene:
        leader = await scene.replicas.leader()
        leader.process.kill()
        before_ns = now_ns()
        status, output, said = await run(nats_server.url, "pause")
        print(f"\nno leader: exit {status} after {(now_ns() - before_ns) / NS_PER_MS:.0f} ms: {said}")
        assert (status, output) == (4, "")
        assert "no leader answered" in said


async def test_a_hundred_pauses_at_once_and_payloads_that_are_none(scene):
    async with fleet_of(SHARDS, scene.url, scene.gateway) as fleet:
        waves = [command(scene.client, "pause", for_ms=LONG_MS + number) for number in range(100)]
        replies = await asyncio.gather(*waves)
        assert all(isinstance(reply, Done) or reply.code == "overloaded" for reply in replies)
        assert sum(isinstance(reply, Done) for reply in replies) == len(scene.of("paused"))
        for payload in (b"", b"{", b"[]", b"\xff\xfe", b'{"by":1}', b"[" * 4096, b"x" * 100_000):
            for name in ("pause", "resume", "kick", "release", "pardon", "handover"):
                message = await scene.client.request(f"identify.{name}", payload, timeout=WITHIN_S)
                reply = decode_command_reply(message.data)
                assert isinstance(reply, NotDone)
                assert reply.code == "bad_request"
        kept = (await ledger_of(scene.client))["paused"]
        assert LONG_MS - WITHIN_S * 1000 < kept["left_ms"] <= LONG_MS + 99
        await done(scene.client, "resume")
        await scene.judge(fleet, "a hundred pauses")


async def test_a_granted_request_is_not_kicked(scene):
    box = Mailbox(scene.client)
    await box.open()
    _, message = await box.until_granted("one")
    refused = await command(scene.client, "kick", request_id="one")
    assert isinstance(refused, NotDone)
    await message.respond(b"")
