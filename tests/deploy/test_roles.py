"""Each role does its work on a real nats-server with the rendered accounts, and is refused everything else."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import nats
import nats.errors
import pytest

from nats_identify import NatsQueue
from nats_identify.client.environment import nats_options, queue_from_environment
from nats_identify.client.shards import Shards, shards_of_pod
from tests.deploy.conftest import docs_of
from tests.deploy.server import environment_in_pod, running
from tests.http_clients import Asking, address_of
from tests.processes import QUICK, ROOT, WITHIN_S, CoordinatorProcess, until

OWN_TIMES = {name: value for name, value in QUICK.items() if name.startswith("IDENTIFY_")}
"""Small windows instead of Discord's; ports and the log as tests want them. Who it is on NATS stays the manifests'."""

STREAM = "KV_identify"
LEDGER = "$KV.identify.ledger"
NOBODYS = "nobody.may.say.this"


@pytest.fixture
def docs(tree):
    return docs_of(tree, "dev")


@pytest.fixture
async def server(docs, tmp_path):
    async with running(docs, tmp_path / "nats") as server:
        yield server


@asynccontextmanager
async def coordinating(docs, server, folder, pod="coordinator-0", **more):
    """Run a coordinator as its pod would, with static limits: there is no Discord here."""
    seen = environment_in_pod(docs, "Deployment/coordinator", pod, server)
    del seen["DISCORD_TOKEN_FILE"]
    process = CoordinatorProcess(folder / f"{pod}.log", {**seen, **OWN_TIMES, "IDENTIFY_REPLICA_NAME": pod, **more})
    await process.start()
    try:
        yield process
    finally:
        if process.process.returncode is None:
            process.process.kill()
            await process.process.wait()


async def test_the_coordinators_work(docs, server, tmp_path):
    """Make the KV bucket, lead, hand over the queue, take over: no right is missing."""
    async with coordinating(docs, server, tmp_path) as first:
        await until(first.is_leader, "the first leads")
        async with coordinating(docs, server, tmp_path, "coordinator-1") as second:
            await until(second.is_ready, "the second is ready")
            assert await first.end() == 0
            await until(second.is_leader, "the second takes over")
            assert first.logged("KV bucket made")
            assert second.logged("queue taken from another replica")
            for process in (first, second):
                assert "permissions violation" not in process.log.lower()
            assert await second.end() == 0
    assert "Violation" not in server.log


async def test_the_queue_over_http_works(docs, server, tmp_path):
    """A coordinator asks on NATS for its clients, by its own user."""
    async with coordinating(docs, server, tmp_path, IDENTIFY_QUEUE_HTTP_PORT="0") as coordinator:
        await until(coordinator.is_leader, "it leads")
        at = await address_of(coordinator)
        assert (await (await Asking.ask(at, "/?shard=3")).status())[0] == 200
        waiting = await Asking.ask(at, "/?shard=4")
        await until(lambda: has(coordinator, "identify_waiting", 1), "it waits")
        waiting.leave()
        await until(lambda: has(coordinator, "identify_waiting", 0), "it is withdrawn")
        await coordinator.until_metric('identify_events_total{event="identified"}', 1)
        assert "permissions violation" not in coordinator.log.lower()
    assert "Violation" not in server.log


async def test_the_shards_work(docs, server, tmp_path, monkeypatch):
    """What a pod of the example sees is all that a shard needs: it asks, is granted, answers, and withdraws."""
    seen = environment_in_pod(docs, "StatefulSet/shards", "shards-3", server)
    seen["POD_INDEX"] = ""  # Kubernetes before 1.28
    assert shards_of_pod(seen, hostname="node-7") == Shards((3,), 16)
    async with coordinating(docs, server, tmp_path) as coordinator, queue_from_environment(seen) as queue:
        await until(coordinator.is_leader, "it leads")
        async with queue.turn(3):
            pass
        assert isinstance(queue, NatsQueue)
        info = await until(queue.info, "the limits are told")
        assert info.leader == "coordinator-0"
        waiting = asyncio.ensure_future(queue.acquire(4))
        await until(lambda: has(coordinator, "identify_waiting", 1), "it waits")
        waiting.cancel()
        await until(lambda: has(coordinator, "identify_waiting", 0), "it has withdrawn")
        await coordinator.until_metric('identify_events_total{event="identified"}', 1)
        assert "permissions violation" not in coordinator.log.lower()
    assert "Violation" not in server.log


async def has(coordinator, name, value):
    return await coordinator.metric(name) == value


async def test_the_operators_work(docs, server, tmp_path):
    """The command line as a user runs it, and what the nats command line sends for the README's lines."""
    async with coordinating(docs, server, tmp_path) as coordinator:
        await until(coordinator.is_leader, "it leads")
        shown = await asyncio.to_thread(status, server)
        assert "coordinator-0 leads" in shown.stdout
        operator = await nats.connect(server.url, **server.way_in("operator"))
        happened = await operator.subscribe("identify.event.>")
        reply = await operator.request("identify.request.0", b"", timeout=WITHIN_S)
        assert json.loads(reply.data)["status"] == "granted"
        await reply.respond(b"")
        assert (await happened.next_msg(timeout=WITHIN_S)).subject.startswith("identify.event.")
        for subject in ("identify.info", "identify.status", "identify.refresh", "$SRV.INFO.identify-coordinator"):
            assert json.loads((await operator.request(subject, b"", timeout=WITHIN_S)).data)
        stream = operator.jetstream()
        assert json.loads((await stream.get_msg(STREAM, subject=LEDGER)).data or b"")["leader"] == "coordinator-0"
        assert (await stream.stream_info(STREAM)).state.messages == 1
        await operator.close()
    assert "Violation" not in server.log


async def test_who_may_not_look_is_told_why(server):
    shown = await asyncio.to_thread(status, server, "shard")
    assert shown.returncode == 1
    assert "permissions violation" in shown.stderr.lower()


def status(server, role="operator"):
    """Run `nats-identify status` as somebody."""
    way_in = {"NATS_URL": server.url, "NATS_USER": role, "NATS_PASSWORD": server.passwords[role]}
    environment = {"PATH": os.environ["PATH"], "NATS_INBOX_PREFIX": f"_INBOX_{role}", **way_in}
    command = [sys.executable, "-m", "nats_identify", "status"]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


CREATE = f"$JS.API.CONSUMER.CREATE.{STREAM}"


async def make_consumer(operator, name, **config):
    """Ask for a consumer as an attacker would; return the error, or None."""
    wanted = {"name": name, "filter_subject": LEDGER, "ack_policy": "none", "deliver_policy": "all", **config}
    body = {"stream_name": STREAM, "config": wanted, "action": "create"}
    reply = await operator.request(f"{CREATE}.{name}.{LEDGER}", json.dumps(body).encode(), timeout=10)
    return json.loads(reply.data).get("error")


async def use_up_all_consumers(operator):
    """Make consumers that stay, until there are no more."""
    for number in range(1_000):
        error = await make_consumer(operator, f"c{number}", durable_name=f"c{number}")
        if error is not None:
            assert error["err_code"] == 10026  # maximum consumers limit reached
            return [f"c{made}" for made in range(number)]
    pytest.fail("there is no end of consumers")


async def test_coordinators_go_on_without_a_watch(docs, server, tmp_path):
    """NATS counts consumers by stream, not by user: an operator can use them up. Reads stand in for the watch."""
    async with coordinating(docs, server, tmp_path) as first:
        await until(first.is_leader, "the first leads")
        operator = await nats.connect(server.url, **server.way_in("operator"))
        made = await use_up_all_consumers(operator)
        assert len(made) <= 64
        async with coordinating(docs, server, tmp_path, "coordinator-1") as second:
            await until(second.is_ready, "the second is ready")
            refused = (
                "NATS refuses a watch of the ledger; it is read each third of a lease instead, and asked for again"
            )
            await second.until_logged(refused)
            assert json.loads((await operator.request("identify.request.0", b"", timeout=10)).data)["grant_id"]
            assert await first.end() == 0
            await until(second.is_leader, "the second takes over")
            assert json.loads((await operator.request("identify.request.0", b"", timeout=10)).data)["grant_id"]
            await second.until_logged("no watch of the ledger is needed any more")
            async with coordinating(docs, server, tmp_path, "coordinator-2") as third:
                await third.until_logged(refused)
                for name in made:
                    await operator.request(f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}", b"", timeout=10)
                await third.until_logged("the ledger is watched again")
            assert len(second.logged(refused)) == len(third.logged(refused)) == 1
        await operator.close()


@pytest.mark.parametrize("subject", [f"$JS.API.STREAM.PURGE.{STREAM}", f"$JS.API.STREAM.DELETE.{STREAM}"])
async def test_a_consumer_of_the_operators_delivers_nothing_elsewhere(docs, server, tmp_path, subject):
    """NATS delivers only where somebody listens on exactly this subject; an API subject is never one."""
    async with coordinating(docs, server, tmp_path) as coordinator:
        await until(coordinator.is_leader, "it leads")
        operator = await nats.connect(server.url, **server.way_in("operator"))
        assert await make_consumer(operator, "evil", deliver_subject=subject, headers_only=True) is None
        assert (await make_consumer(operator, "cycle", deliver_subject=LEDGER))["err_code"] == 10081
        stream = operator.jetstream()
        before = (await stream.stream_info(STREAM)).state.last_seq

        async def has_moved():
            return (await stream.stream_info(STREAM)).state.last_seq > before + 2

        await until(has_moved, "the ledger has been written meanwhile")
        assert (await stream.stream_info(STREAM)).state.messages == 1
        await operator.close()
    assert "Violation" not in server.log


DELETIONS = [f"$JS.API.STREAM.{verb}.{STREAM}" for verb in ("DELETE", "PURGE", "UPDATE", "MSG.DELETE", "SNAPSHOT")]
OTHERS = [
    *("$KV.other.ledger", "$KV.identify.other", "$JS.API.STREAM.CREATE.other", "$JS.API.STREAM.NAMES"),
    *("$JS.API.CONSUMER.CREATE.other", "$SYS.REQ.SERVER.PING", "_INBOX.x", "anything.else"),
]
REFUSED = {
    "shard": {
        "publish": [
            *(LEDGER, *DELETIONS, *OTHERS, f"$JS.API.STREAM.CREATE.{STREAM}", f"$JS.API.STREAM.INFO.{STREAM}"),
            *(f"$JS.API.STREAM.MSG.GET.{STREAM}", f"$JS.API.DIRECT.GET.{STREAM}.{LEDGER}", "$SRV.PING"),
            *(f"$JS.API.CONSUMER.CREATE.{STREAM}", f"$JS.API.CONSUMER.CREATE.{STREAM}.c.{LEDGER}"),
            *("identify.status", "identify.refresh", "identify.event.granted", "identify.queue", "identify.queue.x"),
            *("_INBOX_shard.shards-1.x", "_INBOX_coordinator.x", "_INBOX_operator.x", "identify.request", "identify"),
        ],
        "subscribe": [
            *(">", "identify.>", "identify.request.*", "identify.confirm.*.*", "identify.event.>", "identify.queue"),
            *("$KV.>", "$JS.>", "$SRV.>", "_INBOX.>", "_INBOX_coordinator.>", "_INBOX_operator.>", "identify.info"),
        ],
    },
    "operator": {
        "publish": [
            *(LEDGER, *DELETIONS, *OTHERS, f"$JS.API.STREAM.CREATE.{STREAM}", "identify.event.granted"),
            *("identify.queue", "identify.queue.x", "_INBOX_shard.shards-1.x", "_INBOX_coordinator.x"),
            *(CREATE, f"{CREATE}.c", f"{CREATE}.c.>", f"{CREATE}.c.$KV.other.ledger"),
            *(f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.c", f"$JS.API.CONSUMER.INFO.{STREAM}.c"),
            *(f"$JS.API.CONSUMER.{verb}.{STREAM}" for verb in ("LIST", "NAMES", "DELETE")),
            *(
                f"$JS.API.CONSUMER.{verb}.{STREAM}.c"
                for verb in ("PAUSE", "RESET", "UNPIN", "LEADER.STEPDOWN", "MSG.NEXT")
            ),
            *(f"$JS.API.DIRECT.GET.{STREAM}", f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}", f"$JS.FC.{STREAM}.c"),
            *(f"$JS.ACK.{STREAM}.c.1.1.1.1.1", "$JS.EVENT.ADVISORY.x"),
        ],
        "subscribe": [
            *("$JS.>", "$JS.EVENT.ADVISORY.>", f"$JS.FC.{STREAM}.>"),
            *(">", "identify.>", "identify.request.*", "identify.confirm.*.*", "identify.queue", "identify.status"),
            *("$KV.>", "$SRV.>", "_INBOX.>", "_INBOX_shard.>", "_INBOX_coordinator.>"),
        ],
    },
    "coordinator": {
        "publish": [
            *(*DELETIONS, *OTHERS, f"$JS.API.CONSUMER.DELETE.{STREAM}.c", f"$JS.API.DIRECT.GET.{STREAM}.{LEDGER}"),
            *("identify.status", "identify.refresh", "identify.request", "identify.confirm.0", "identify"),
        ],
        "subscribe": [
            *(">", "identify.>", "identify.event.>", "$KV.>", "$JS.>"),
            *("_INBOX.>", "_INBOX_shard.>", "_INBOX_operator.>"),
        ],
    },
}


async def allowed(server, role, what, subjects):
    """Return those of the subjects that the server lets this role use."""
    complaints = []

    async def warn_throttled(error):
        complaints.append(str(error).lower())

    client = await nats.connect(server.url, error_cb=warn_throttled, **server.way_in(role))
    try:
        for subject in subjects:
            if what == "publish":
                await client.publish(subject, b"{}")
            else:
                await client.subscribe(subject)
        await client.publish(NOBODYS, b"")  # its refusal comes after all others

        async def is_refused():
            return any(NOBODYS in complaint for complaint in complaints)

        await until(is_refused, f"{role} is refused {NOBODYS}")
        said = " ".join(complaints)
        word = "publish to" if what == "publish" else "subscription to"
        return [subject for subject in subjects if f'violation for {word} "{subject.lower()}"' not in said]
    finally:
        await client.close()


@pytest.mark.parametrize("role", REFUSED)
async def test_everything_else_is_refused(server, role):
    for what, subjects in REFUSED[role].items():
        assert await allowed(server, role, what, subjects) == []


async def test_what_may_be_done_is_not_taken_for_refused(server):
    """The check above bites: it tells one from the other."""
    mixed = ["identify.request.0", LEDGER, "identify.info"]
    assert await allowed(server, "shard", "publish", mixed) == ["identify.request.0", "identify.info"]
    assert await allowed(server, "operator", "subscribe", ["identify.event.>", ">"]) == ["identify.event.>"]


async def until_closed(server, role, do):
    """Return when the server has closed a connection of this role that did this."""
    closed = asyncio.Event()

    async def note():
        closed.set()

    async def ignore(_error):
        """The server's log says why; the client may be cut off before it is told."""

    client = await nats.connect(
        server.url, error_cb=ignore, disconnected_cb=note, allow_reconnect=False, **server.way_in(role)
    )
    try:
        await do(client)
        async with asyncio.timeout(WITHIN_S):
            await closed.wait()
    finally:
        await client.close()


async def test_a_shard_s_message_is_small(docs, server, tmp_path):
    """Of 8 KiB, header and body; a request has 4 KiB at most. More ends the connection and reaches no coordinator."""

    async def send_a_large_body(client):
        await client.publish("identify.request.0", b"x" * 8_193)

    async def send_a_large_header(client):
        await client.publish("identify.request.0", b"{}", headers={"X": "x" * 8_193})

    async with coordinating(docs, server, tmp_path) as coordinator:
        await until(coordinator.is_leader, "it leads")
        for do in (send_a_large_body, send_a_large_header):
            await until_closed(server, "shard", do)
        assert server.log.lower().count("maximum payload exceeded") == 2
        assert await coordinator.metric('identify_events_total{event="refused"}') == 0
        shard = await nats.connect(server.url, **server.way_in("shard"))
        largest = json.dumps({"client": "x" * 64}).encode().ljust(4_096)
        assert json.loads((await shard.request("identify.request.0", largest, timeout=10)).data)["status"] == "granted"
        await shard.close()


async def test_a_shard_has_few_subscriptions(server):
    async def subscribe(client):
        for number in range(257):
            await client.subscribe(f"_INBOX_shard.one.{number}")

    await until_closed(server, "shard", subscribe)
    assert "maximum subscriptions exceeded" in server.log.lower()


async def test_shards_leave_room_for_coordinators(docs, tmp_path):
    """What is left when all connections that shards may have are taken; three of them stand for the 2048."""
    few = json.loads(json.dumps(docs))
    for doc in few:
        if "accounts.conf" in doc.get("data", {}):
            text = doc["data"]["accounts.conf"]
            doc["data"]["accounts.conf"] = text.replace("max_connections: 2048", "max_connections: 3")
            assert doc["data"]["accounts.conf"] != text
    async with running(few, tmp_path / "few") as server:
        held = [await nats.connect(server.url, **server.way_in("shard")) for _ in range(3)]
        with pytest.raises(nats.errors.Error, match="maximum account active connections"):
            await nats.connect(server.url, allow_reconnect=False, max_reconnect_attempts=1, **server.way_in("shard"))
        async with coordinating(few, server, tmp_path) as coordinator:
            await until(coordinator.is_leader, "it leads")
            assert json.loads((await held[0].request("identify.request.0", b"", timeout=10)).data)["grant_id"]
        for client in held:
            await client.close()


async def test_nats_still_says_that_a_shard_is_gone(docs, server, tmp_path):
    """Between two accounts, too: a grant that reaches no inbox comes back as 503, and its turn goes to the next."""
    async with coordinating(docs, server, tmp_path, IDENTIFY_WINDOW="2") as coordinator:
        await until(coordinator.is_leader, "it leads")
        gone = await nats.connect(server.url, **server.way_in("shard", "_INBOX_shard.shards-0"))
        await gone.publish("identify.request.0", b"", reply="_INBOX_shard.shards-0.nobody-listens")
        await gone.close()

        async def is_undeliverable():
            return await coordinator.metric('identify_events_total{event="undeliverable"}')

        await until(is_undeliverable, "NATS says so")


async def test_a_planted_right_is_found(tree, tmp_path):
    text = (tree.folder / "accounts/accounts.conf").read_text()
    spoiled = [json.loads(json.dumps(doc)) for doc in docs_of(tree, "dev")]
    for doc in spoiled:
        if "accounts.conf" in doc.get("data", {}):
            doc["data"]["accounts.conf"] = text.replace('allow: [ "_INBOX_shard.>" ]', 'allow: [ ">" ]')
            assert doc["data"]["accounts.conf"] != text
    async with running(spoiled, tmp_path / "spoiled") as server:
        refused = REFUSED["shard"]["subscribe"]
        assert await allowed(server, "shard", "subscribe", refused) == refused


async def test_what_a_common_user_does_not_isolate(server):
    """The README says so: one pod can listen to another's inbox, and answer another's grant if it hears of it."""
    assert await allowed(server, "shard", "subscribe", ["_INBOX_shard.>"]) == ["_INBOX_shard.>"]
    assert await allowed(server, "shard", "publish", ["identify.confirm.0.of-another"]) != []


@pytest.mark.parametrize("way_in", [{}, {"user": "shard", "password": "wrong"}, {"user": "admin", "password": "admin"}])
async def test_nobody_gets_in_without_a_password(server, way_in):
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await nats.connect(server.url, allow_reconnect=False, max_reconnect_attempts=1, **way_in)


async def test_the_servers_own_account_hears_nothing_of_the_queue(docs, server, tmp_path):
    async with coordinating(docs, server, tmp_path) as coordinator:
        await until(coordinator.is_leader, "it leads")
        admin = await nats.connect(server.url, **server.way_in("admin"))
        with pytest.raises(nats.errors.NoRespondersError):
            await admin.request("identify.status", b"", timeout=WITHIN_S)
        await admin.close()


async def test_with_tls_both_sides_trust_the_authority_alone(tree, tmp_path):
    """components/tls on one server; the shards' and the coordinators' variables are those that tls-clients sets."""
    docs = docs_of(tree, "prod with every option")
    single = [doc for doc in docs if "nats-config" not in doc["metadata"]["name"]]
    (config,) = [json.loads(json.dumps(doc)) for doc in docs if "nats-config" in doc["metadata"]["name"]]
    config["data"]["cluster.conf"] = "# one server\n"
    certificates = tree.folder / "options/overlays/prod/secrets"
    async with running([*single, config], tmp_path / "nats", certificates=certificates) as server:
        over_tls = {"NATS_URL": server.url.replace("nats://", "tls://"), "NATS_TLS_CA": f"{certificates}/ca.crt"}
        seen = {**environment_in_pod(docs, "StatefulSet/shards", "shards-0", server), **over_tls}
        async with (
            coordinating(docs, server, tmp_path, **over_tls) as coordinator,
            queue_from_environment(seen) as queue,
        ):
            await until(coordinator.is_leader, "it leads")
            async with queue.turn(0):
                pass
        stranger = {**seen, "NATS_TLS_CA": ""}
        with pytest.raises(Exception, match=r"(?i)certificate"):
            await nats.connect(over_tls["NATS_URL"], allow_reconnect=False, **nats_options(stranger).settings)
