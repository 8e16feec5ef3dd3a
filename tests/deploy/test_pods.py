"""What one pod can do to the others of its bot, and what a user for each pod keeps it from: docs/security.md.

The first half are attacks that work. They are tests so that the table in the docs stays true: where one of them fails,
the product has become better, and the table must say so.
"""

import asyncio
import base64
import json
import re
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest

from nats_identify import NatsQueue
from tests.deploy.conftest import docs_of
from tests.deploy.rendering import ROOT
from tests.deploy.server import running
from tests.deploy.test_roles import allowed, coordinating
from tests.processes import Mailbox, until

PODS = ("shards-0", "shards-1")


@pytest.fixture
def docs(tree):
    return docs_of(tree, "dev")


@pytest.fixture
async def server(docs, tmp_path):
    async with running(docs, tmp_path / "nats") as server:
        yield server


def with_a_user_for_each_pod(docs):
    """Put the users of docs/security.md where the common one is."""
    (block,) = re.findall(r"```conf\n(.*?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)
    walled = json.loads(json.dumps(docs))
    for doc in walled:
        if "accounts.conf" in doc.get("data", {}):
            head, middle, tail = doc["data"]["accounts.conf"].partition("  SHARDS {")
            limits, _, _ = tail.partition("    users: [")
            rest = tail[tail.index("  # The servers themselves") :]
            doc["data"]["accounts.conf"] = f"{head}{middle}{limits}{block}  }}\n{rest}"
        if "users.conf" in doc.get("data", {}):
            lines = base64.b64decode(doc["data"]["users.conf"]).decode().splitlines()
            kept = [line for line in lines if not line.startswith("SHARD_PASSWORD")]
            added = [f'SHARDS_{number}_PASSWORD: "p{number}"' for number in range(len(PODS))]
            doc["data"]["users.conf"] = base64.b64encode("\n".join([*kept, *added]).encode()).decode()
    return walled


@pytest.fixture
async def walled(docs, tmp_path):
    async with running(with_a_user_for_each_pod(docs), tmp_path / "walled") as server:
        for number, name in enumerate(PODS):
            server.passwords[name] = f"p{number}"
        yield server


@asynccontextmanager
async def pod(server, name, user="shard"):
    """A pod's connection, and its mailbox."""
    client = await nats.connect(server.url, **server.way_in(user, f"_INBOX_shard.{name}"))
    try:
        box = Mailbox(client)
        await box.open(settle_on="identify.info")  # a pod may publish on no other
        yield client, box
    finally:
        await client.close()


# --- what a pod can do, whoever its user is


async def test_priority_10_goes_before_everybody(docs, server, tmp_path):
    async with coordinating(docs, server, tmp_path, IDENTIFY_WINDOW="1") as coordinator:
        await until(coordinator.is_leader, "it leads")
        async with pod(server, "victim") as (_, victim), pod(server, "evil") as (_, evil):
            await victim.ask(0, shard_id=1, request_id="v1", timeout_ms=60_000)  # the idle bucket is its
            assert (await victim.next("granted"))[0]["shard_id"] == 1
            await victim.ask(0, shard_id=2, request_id="v2", timeout_ms=60_000)
            for number in range(5):
                await evil.ask(0, shard_id=10 + number, request_id=f"e{number}", priority=10, timeout_ms=60_000)
            order: list[Any] = []

            async def collect(box):
                while len(order) < 6:
                    order.append((await box.next("granted"))[0]["shard_id"])

            victims = asyncio.create_task(collect(victim))
            evils = asyncio.create_task(collect(evil))

            async def are_all():
                return len(order) == 6

            await until(are_all, "all are granted")
            victims.cancel()
            evils.cancel()
            assert order == [10, 11, 12, 13, 14, 2]


async def test_ten_turns_for_another_s_shard_hold_it_back(docs, server, tmp_path):
    settings = {"IDENTIFY_CRASH_LOOP_GRANTS": "10", "IDENTIFY_WINDOW": "0.05"}
    async with coordinating(docs, server, tmp_path, **settings) as coordinator:
        await until(coordinator.is_leader, "it leads")
        async with pod(server, "victim") as (_, victim), pod(server, "evil") as (_, evil):
            for number in range(10):
                await evil.ask(0, shard_id=3, request_id=f"e{number}")
                await (await evil.next("granted"))[1].respond(b"")
            await victim.ask(0, shard_id=3, managed=True, request_id="of-the-victim")
            queued, _ = await victim.next("queued")
            assert queued["reason"] == "crash_loop"
            assert 200_000 < queued["eta_ms"] <= 300_000  # five minutes


async def test_a_request_may_claim_its_way_into_another_bucket(docs, server, tmp_path):
    """So subjects of its own buckets alone would be no wall."""
    async with coordinating(docs, server, tmp_path, IDENTIFY_MAX_CONCURRENCY="16") as coordinator:
        await until(coordinator.is_leader, "it leads")
        async with pod(server, "evil") as (_, evil):
            await evil.ask(3, shard_id=11, max_concurrency=8)
            assert (await evil.next("granted"))[0]["bucket"] == 11


# --- what it can do because all share one user


async def listened(server, docs, tmp_path, user_of):
    """Return what a pod that listens under `_INBOX_shard.>` receives while another waits; then the other's fate."""
    async with coordinating(docs, server, tmp_path, IDENTIFY_WINDOW="60", IDENTIFY_FRESH_START="0") as coordinator:
        await until(coordinator.is_leader, "it leads")
        async with pod(server, PODS[0], user_of(0)) as (_, victim), pod(server, PODS[1], user_of(1)) as (evil, _):
            overheard = []

            async def hear(message):
                overheard.append(json.loads(message.data))

            await evil.subscribe("_INBOX_shard.>", cb=hear)
            await evil.flush()
            await victim.ask(0, managed=True, request_id="of-the-victim")
            await victim.next("queued")
            await evil.flush()
            for request in overheard:
                await evil.publish("identify.cancel.0", json.dumps({"request_id": request["request_id"]}).encode())
            await evil.flush()
            if overheard:

                async def is_cancelled():
                    return await coordinator.metric('identify_events_total{event="cancelled"}')

                await until(is_cancelled, "the other's request is withdrawn")
            return overheard


async def test_with_a_common_user_a_pod_can_withdraw_another_s_request(docs, server, tmp_path):
    (queued,) = await listened(server, docs, tmp_path, lambda _: "shard")
    assert queued["request_id"] == "of-the-victim"


# --- the wall


async def test_with_a_user_of_its_own_a_pod_receives_nothing_of_another(docs, walled, tmp_path):
    assert await listened(walled, docs, tmp_path, lambda number: PODS[number]) == []
    assert "Subscription Violation" in walled.log


@pytest.mark.parametrize("name", PODS)
async def test_a_pod_s_inbox_is_its_own(walled, name):
    (other,) = set(PODS) - {name}
    own, strange = (
        f"_INBOX_shard.{name}.x",
        ("_INBOX_shard.>", "_INBOX_shard.*.x", f"_INBOX_shard.{other}.>", "_INBOX_shard.*"),
    )
    assert await allowed(walled, name, "subscribe", [own, *strange]) == [own]


async def test_the_common_user_is_gone(walled):
    way_in = {"user": "shard", "password": "p0"}
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await nats.connect(walled.url, allow_reconnect=False, max_reconnect_attempts=1, **way_in)


async def test_pods_do_their_work_behind_the_wall(docs, walled, tmp_path):
    async with coordinating(docs, walled, tmp_path) as coordinator:
        await until(coordinator.is_leader, "it leads")
        for number, name in enumerate(PODS):
            way_in = walled.way_in(name, f"_INBOX_shard.{name}")
            async with NatsQueue.connect(walled.url, **way_in) as queue, queue.turn(number):
                pass
        assert await coordinator.metric('identify_events_total{event="identified"}') == 2
    assert "Violation" not in walled.log
