"""How a coordinator gets into NATS, and what it says and does when it does not."""

import asyncio
import json
import os
import signal
from urllib.parse import urlparse

import nats
import nkeys
import pytest
from nats.aio.client import Srv

from coordinator.edge.connections import CannotServeError, Connection, ConnectionContext
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from nats_identify.processes.nats_server import EmbeddedNats
from tests.processes import QUICK, WITHIN_S, CoordinatorProcess, until

SECRET = "hunter2"  # noqa: S105  # what must never be shown


@pytest.fixture
async def start(tmp_path):
    """Start a nats-server with more configuration, and a coordinator that is told how to get in."""
    servers, processes = [], []

    async def start_both(extra, *, url=None, **environment):
        server = EmbeddedNats(tmp_path / "nats", extra=extra)
        servers.append(server)
        await server.start()
        variables = {"NATS_URL": (url or server.url).replace("PORT", str(server.port)), **QUICK, **environment}
        process = CoordinatorProcess(tmp_path / "coordinator.log", variables)
        processes.append(process)
        await process.start()
        return server, process

    yield start_both
    for process in processes:
        if process.process.returncode is None:
            process.process.kill()
            await process.process.wait()
    for server in servers:
        await server.stop()


USERS = 'authorization { users: [ { user: "bot", password: "hunter2" } ] }'


async def granted(server, **way_in):
    client = await nats.connect(server.url, **way_in)
    reply = await client.request("identify.request.0", b"", timeout=WITHIN_S)
    await client.close()
    return json.loads(reply.data)["status"] == "granted"


@pytest.mark.parametrize(
    "way", [{"NATS_USER": "bot", "NATS_PASSWORD": SECRET}, {"url": f"nats://bot:{SECRET}@127.0.0.1:PORT"}]
)
async def test_user_and_password(start, way):
    server, process = await start(USERS, **way)
    await until(process.is_leader, "it leads")
    assert await granted(server, user="bot", password=SECRET)
    assert await process.end() == 0
    assert SECRET not in process.log


async def test_a_token(start):
    server, process = await start(f'authorization {{ token: "{SECRET}" }}', NATS_TOKEN=SECRET)
    await until(process.is_leader, "it leads")
    assert await granted(server, token=SECRET)
    assert SECRET not in process.log


async def test_an_nkey(start, tmp_path):
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    file = tmp_path / "coordinator.nk"
    file.write_bytes(seed + b"\n")
    server, process = await start(f"authorization {{ users: [ {{ nkey: {public} }} ] }}", NATS_NKEY_SEED_FILE=str(file))
    await until(process.is_leader, "it leads")
    assert await granted(server, nkeys_seed=str(file))
    assert seed.decode() not in process.log


async def test_least_rights_are_enough(start):
    """With the KV bucket made by another, this is all that a coordinator needs; STREAM.INFO, to check its settings."""
    rights = """
    authorization { users: [
      { user: "admin", password: "admin" }
      { user: "coordinator", password: "hunter2", permissions: {
        publish: [ "$KV.identify.ledger", "$JS.API.STREAM.MSG.GET.KV_identify", "$JS.API.CONSUMER.CREATE.KV_identify",
                   "$JS.API.STREAM.INFO.KV_identify",
                   "$JS.FC.KV_identify.>", "identify.event.*", "identify.queue", "identify.queue.*",
                   "_INBOX_coordinator.>", "_INBOX.>" ],
        subscribe: [ "identify.request.*", "identify.confirm.*.*", "identify.cancel.*", "identify.info",
                     "identify.status", "identify.refresh", "identify.queue", "identify.queue.*", "$SRV.>",
                     "identify.pause", "identify.resume", "identify.kick", "identify.release", "identify.pardon",
                     "identify.handover",
                     "_INBOX_coordinator.>" ] } }
    ] }"""
    server, process = await start(
        rights,
        NATS_USER="coordinator",
        NATS_PASSWORD=SECRET,
        NATS_INBOX_PREFIX="_INBOX_coordinator",
        IDENTIFY_FRESH_START="0",
    )
    client = await nats.connect(server.url, user="admin", password="admin")  # noqa: S106  # of this test alone
    await client.jetstream().create_key_value(bucket="identify")
    await until(process.is_leader, "it leads")
    reply = await client.request("identify.request.0", b"", timeout=WITHIN_S)
    assert json.loads(reply.data)["status"] == "granted"
    await client.close()
    assert await process.end() == 0
    assert "permissions violation" not in process.log


async def test_tls_with_certificates_on_both_sides(start, certificates):
    _, process = await start(
        f"""tls {{ cert_file: "{certificates}/server.pem", key_file: "{certificates}/server.key",
                  ca_file: "{certificates}/ca.pem", verify: true }}""",
        url="tls://127.0.0.1:PORT",
        NATS_TLS_CA=str(certificates / "ca.pem"),
        NATS_TLS_CERT=str(certificates / "client.pem"),
        NATS_TLS_KEY=str(certificates / "client.key"),
    )
    await until(process.is_leader, "it leads")


async def test_where_tls_is_asked_for_nothing_is_told_without_it(start, certificates):
    _, process = await start("", NATS_TLS_CA=str(certificates / "ca.pem"), NATS_TOKEN=SECRET)

    async def has_complained():
        return "the server offers no TLS" in process.log

    await until(has_complained, "it says so")
    assert (await process.page("/readyz"))[0] == 503


async def test_nats_that_is_not_there_is_waited_for_and_named_without_secrets(tmp_path):
    url = f"nats://bot:{SECRET}@127.0.0.1:1"
    process = CoordinatorProcess(tmp_path / "log", {**QUICK, "NATS_URL": url, "IDENTIFY_LOG_LEVEL": "info"})
    await process.start()

    async def has_complained():
        return process.logged("NATS is not reachable; trying on")

    (complaint, *_) = await until(has_complained, "it says so")
    assert complaint["url"] == "nats://127.0.0.1:1"
    assert (await process.page("/livez"))[0] == 200
    assert (await process.page("/readyz"))[0] == 503
    assert await process.end(signal.SIGINT) == 0
    assert SECRET not in process.log


async def test_wrong_credentials_are_said_and_tried_again(start):
    _, process = await start(USERS, NATS_USER="bot", NATS_PASSWORD="wrong")  # noqa: S106  # of this test alone

    async def has_complained():
        return "Authorization Violation" in process.log

    await until(has_complained, "it says so")
    assert await process.end() == 0


async def test_a_connection_that_is_closed_for_good_ends_the_process_with_1(start):
    server, process = await start(USERS, NATS_USER="bot", NATS_PASSWORD=SECRET)
    await until(process.is_leader, "it leads")
    config = server.store_dir / "nats-server.conf"
    config.write_text(config.read_text().replace(SECRET, "another"))
    os.kill(server.pid, signal.SIGHUP)
    assert await process.ended() == 1
    assert process.log.splitlines()[-1].startswith("NATS has closed the ")


async def test_sigterm_without_nats_ends_within_seconds_and_with_0(coordinator, nats_server):
    await nats_server.kill()
    assert await coordinator.end() == 0
    assert "a standby takes over" in coordinator.log


async def checked(version, *, clustered):
    lost = asyncio.get_running_loop().create_future()
    connection = Connection(ConnectionContext("store", "nats://host", (), make_log("warning", "text"), Metrics(), lost))
    connection._server_info = {"cluster": "c"} if clustered else {}
    connection._current_server = Srv(urlparse("nats://host"), server_version=version)
    await connection.check_server()
    return lost


@pytest.mark.parametrize("version", ["2.9.10", "2.10.29"])
async def test_old_servers_are_refused_in_a_cluster_and_warned_about_alone(version, capsys):
    refused = await checked(version, clustered=True)
    assert isinstance(refused.exception(), CannotServeError)
    capsys.readouterr()
    assert not (await checked(version, clustered=False)).done()
    assert version in "".join(capsys.readouterr())


@pytest.mark.parametrize("version", ["2.11.0", "2.15.1", "3.0.0", "2.12.0-RC.1"])
async def test_newer_servers_are_welcome(version):
    assert not (await checked(version, clustered=True)).done()
