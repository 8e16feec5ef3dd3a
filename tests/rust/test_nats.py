"""The crate's way to NATS: a login that is refused for a while, and a server without the TLS that is asked for."""

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import nkeys
import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from tests.processes import QUICK, CoordinatorProcess, until

pytestmark = pytest.mark.slow  # the first build takes minutes: make rust

SECRET = "hunter2"  # noqa: S105  # what must never be logged
LOGIN = {"NATS_USER": "shard", "NATS_PASSWORD": SECRET}


class KitClient:
    """A process of the crate's example `kit_client`."""

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file

    @property
    def log(self) -> str:
        """What it has printed and logged."""
        return self._log_file.read_text()

    async def until_said(self, text: str) -> None:
        """Wait until it has printed or logged this."""

        async def is_there() -> bool:
            return text.lower() in self.log.lower()

        try:
            await until(is_there, f"{text!r} in its log")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.log}") from None


@asynccontextmanager
async def kit_client(examples: Path, folder: Path, **environment: str) -> AsyncIterator[KitClient]:
    """Start one, and end it."""
    log_file = folder / "client.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(examples / "kit_client"), env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield KitClient(log_file)
    finally:
        process.terminate()
        assert await process.wait() == 0, log_file.read_text()


async def test_a_login_that_is_refused_for_a_while_ends_no_wait(examples: Path, tmp_path: Path):
    """The operator is shown why, and the next connection is used, without a new start of the bot."""

    def server(password: str, port: int = 0) -> EmbeddedNats:
        login = f'authorization {{ user: "shard", password: "{password}" }}'
        return EmbeddedNats(tmp_path / "nats", port, extra=login)

    nats_server = server(SECRET)
    await nats_server.start()
    port, url = nats_server.port, nats_server.url
    coordinator = CoordinatorProcess(tmp_path / "coordinator.log", {**QUICK, "NATS_URL": url, **LOGIN})
    await coordinator.start()
    try:
        async with kit_client(examples, tmp_path, NATS_URL=url, SHARD_IDS="0", **LOGIN) as client:
            await client.until_said("identify 0")
            await nats_server.stop()
            nats_server = server("another", port)
            await nats_server.start()
            await client.until_said("the server refuses the login")
            await nats_server.stop()
            nats_server = server(SECRET, port)
            await nats_server.start()
            await client.until_said("NATS is back")
            assert SECRET not in client.log
            assert client.log.count("authorization violation") <= 6, client.log  # async-nats's own line
        # Another client that waits from before NATS is there is granted as well.
        await nats_server.stop()
        async with kit_client(examples, tmp_path, NATS_URL=url, SHARD_IDS="1,2", **LOGIN) as client:
            await client.until_said("is away")
            await nats_server.start()
            await client.until_said("identify 1")
            await client.until_said("identify 2")
    finally:
        if coordinator.process.returncode is None:
            coordinator.process.kill()
            await coordinator.process.wait()
        await nats_server.stop()


NO_LIMITS: Final = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
JETSTREAM: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def key_of(prefix: int, number: int) -> nkeys.KeyPair:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(bytes([number]) * 32, prefix)))


OPERATOR: Final = key_of(nkeys.PREFIX_BYTE_OPERATOR, 1)
SYSTEM: Final = key_of(nkeys.PREFIX_BYTE_ACCOUNT, 2)
ACCOUNT: Final = key_of(nkeys.PREFIX_BYTE_ACCOUNT, 3)


def jwt_of(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, expires_at_s: int = 0, **claims: Any) -> str:
    """A JWT as nsc makes it; ``expires_at_s``: 0 is never."""
    body = {
        "jti": "test",
        "iat": int(time.time()),
        "exp": expires_at_s,
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": "test",
        "nats": {"version": 2, **claims},
    }
    parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, body)
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return (text + b"." + base64.urlsafe_b64encode(issuer.sign(text)).rstrip(b"=")).decode()


def credentials(expires_at_s: int = 0) -> str:
    """A credentials file of a user of ACCOUNT."""
    user = key_of(nkeys.PREFIX_BYTE_USER, 4)
    jwt = jwt_of(ACCOUNT, user, expires_at_s, type="user", subs=-1, data=-1, payload=-1)
    seed = bytes(user.seed).decode()
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


async def test_credentials_that_have_expired_are_replaced_by_those_that_the_file_holds_then(
    examples: Path, tmp_path: Path
):
    """The server ends the connection when the JWT expires. The file is renewed after the first refusal."""
    accounts = {
        key.public_key.decode(): jwt_of(OPERATOR, key, type="account", limits=limits)
        for key, limits in ((SYSTEM, NO_LIMITS), (ACCOUNT, NO_LIMITS | JETSTREAM))
    }
    trust = f"""
        operator: {jwt_of(OPERATOR, OPERATOR, type="operator")}
        system_account: {SYSTEM.public_key.decode()}
        resolver: MEMORY
        resolver_preload: {json.dumps(accounts)}
    """
    bots, coordinators = tmp_path / "bot.creds", tmp_path / "coordinator.creds"
    coordinators.write_text(credentials())
    async with EmbeddedNats(tmp_path / "nats", extra=trust) as nats_server:
        bots.write_text(credentials(expires_at_s=int(time.time()) + 4))
        login = {"NATS_URL": nats_server.url, "NATS_CREDS_FILE": str(bots)}
        async with kit_client(examples, tmp_path, **login, SHARD_IDS="0") as client:
            await client.until_said("connected successfully")
            await client.until_said("the server refuses the login")
            bots.write_text(credentials())
            await client.until_said("NATS is back")
            variables = {**QUICK, **login, "NATS_CREDS_FILE": str(coordinators)}
            coordinator = CoordinatorProcess(tmp_path / "coordinator.log", variables)
            await coordinator.start()
            try:
                await client.until_said("identify 0")
            finally:
                coordinator.process.kill()
                await coordinator.process.wait()


async def test_a_permission_that_is_missing_is_logged(examples: Path, tmp_path: Path):
    rights = 'permissions: { publish: { deny: ["identify.>"] } }'
    login = f'authorization {{ users: [{{ user: "shard", password: "{SECRET}", {rights} }}] }}'
    async with (
        EmbeddedNats(tmp_path / "nats", extra=login) as nats_server,
        kit_client(examples, tmp_path, NATS_URL=nats_server.url, SHARD_IDS="0", **LOGIN) as client,
    ):
        await client.until_said("permissions violation")
        await client.until_said("no coordinator answers")
        assert SECRET not in client.log


async def test_where_tls_is_asked_for_no_password_is_sent_without_it(examples: Path, tmp_path: Path):
    received = bytearray()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.0","max_payload":1048576,"headers":true}\r\n')
        while data := await reader.read(1024):
            received.extend(data)
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        for scheme, is_sent in (("tls", False), ("nats", True)):
            received.clear()
            url = f"{scheme}://127.0.0.1:{port}"
            async with kit_client(examples, tmp_path, NATS_URL=url, SHARD_IDS="0", **LOGIN) as client:

                async def was_received() -> bool:
                    return bool(received)

                await until(was_received, "it has connected")
                if is_sent:  # so the other half of the test could fail

                    async def password_was_received() -> bool:
                        return SECRET.encode() in received

                    await until(password_was_received, "it has logged in")
                else:
                    await client.until_said("is away")
                    assert SECRET.encode() not in received
                assert SECRET not in client.log


async def test_a_variable_that_can_never_work_ends_the_program_and_is_named(examples: Path):
    process = await asyncio.create_subprocess_exec(
        str(examples / "kit_client"),
        env={"NATS_URL": f"http://u:{SECRET}@h", "SHARD_IDS": "0", "PATH": os.environ["PATH"]},
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    assert process.returncode == 1
    assert b"NATS_URL: an address can never work" in complaint
    assert SECRET.encode() not in complaint
