"""How the coordinator, the library and the command line log in to NATS: alike, and without showing a secret."""

import asyncio
import json
import logging
import signal
from typing import Any

import pytest

from nats_identify import NatsQueue
from nats_identify.client.environment import queue_from_environment
from nats_identify.processes.nats_server import EmbeddedNats
from tests.integration.command import command
from tests.integration.conftest import INFO
from tests.processes import QUICK, CoordinatorProcess, until
from tests.unit.test_nats_options import credentials

SECRET = "hunter2"  # noqa: S105  # what must never be shown


@pytest.fixture
async def coordinate(tmp_path):
    """Start a coordinator with these variables; it is killed in the end."""
    started: list[Any] = []

    async def start(**variables):
        process = CoordinatorProcess(tmp_path / f"coordinator-{len(started)}.log", {**QUICK, **variables})
        started.append(process)
        await process.start()
        return process

    yield start
    for process in started:
        if process.process.returncode is None:
            process.process.kill()
            await process.process.wait()


async def all_get_in(coordinate, folder, **variables):
    """Let a coordinator, a bot and `nats-identify status` in; return all that they have printed and logged."""
    process = await coordinate(**variables)
    await until(process.is_leader, "it leads")
    async with queue_from_environment(variables) as queue, queue.turn(0):
        pass
    async with command(folder, "status", **variables) as status:
        assert await status.ended() == 0, status.output
    assert await process.end() == 0
    return process.log + status.output


@pytest.mark.parametrize(
    ("configured", "written"),
    [
        ('users: [ { user: "b:t", password: "p@s,%" } ]', "b%3At:p%40s%2C%25"),
        ('users: [ { user: "bot", password: "p@s:/#?ä&" } ]', "bot:p@s:/#?ä&"),
        ('token: "s3/cr#t@"', "s3%2Fcr%23t%40"),
        ('token: "s3/cr#t@"', "s3/cr#t@"),
    ],
)
async def test_special_characters_in_a_url(coordinate, tmp_path, caplog, configured, written):
    caplog.set_level(logging.DEBUG)
    async with EmbeddedNats(tmp_path / "nats", extra=f"authorization {{ {configured} }}") as server:
        url = server.url.replace("nats://", f"nats://{written}@")
        printed = await all_get_in(coordinate, tmp_path, NATS_URL=url)
    for secret in (written, "p@s", "s3/cr", "p%40"):
        assert secret not in printed
        assert secret not in caplog.text


WRONG = {
    "NATS_URL": (f"nats://bot:{SECRET}@127.0.0.1:{SECRET}", "it has a port that is no number from 1 to 65535"),
    "NATS_TLS_HANDSHAKE_FIRST": (SECRET, "is neither yes nor no; give 1 or 0"),
    "NATS_CREDS_FILE": ("", "holds no user JWT; give a credentials file of a NATS user"),
}


@pytest.mark.parametrize("variable", WRONG)
async def test_what_can_never_work_is_one_line_and_status_2(coordinate, tmp_path, variable):
    value, said = WRONG[variable]
    file = tmp_path / "bot.creds"
    file.write_bytes(credentials(jwt=b""))
    variables = {variable: value or str(file)}
    process = await coordinate(**variables)
    async with command(tmp_path, "status", **variables) as status:
        assert (await process.ended(), await status.ended()) == (2, 2)
    for printed in (process.log, status.output):
        (line,) = printed.splitlines()
        assert line.startswith(f"{variable}: {said}")
        assert SECRET not in line


async def test_a_wrong_option_is_named_as_the_option(tmp_path):
    async with command(tmp_path, "status", "--server", "host:x") as status:
        assert await status.ended() == 2
    assert status.lines[0].startswith("--server: it has a port")


@pytest.mark.parametrize("asks", ["URL", "CA"])
async def test_status_sends_no_password_without_tls_where_tls_is_asked_for(listener, certificates, tmp_path, asks):
    port, told = listener
    scheme, ca = ("tls", {}) if asks == "URL" else ("nats", {"NATS_TLS_CA": str(certificates / "ca.pem")})
    variables = {"NATS_URL": f"{scheme}://127.0.0.1:{port}", "NATS_USER": "bot", "NATS_PASSWORD": SECRET, **ca}
    async with command(tmp_path, "status", **variables) as status:
        assert await status.ended() == 1
    assert "the server offers no TLS, and the URL or an option asks for it" in status.output
    assert SECRET.encode() not in told


async def test_status_sends_a_password_where_no_tls_is_asked_for(listener, tmp_path):
    """So the test above could fail."""
    port, told = listener
    async with command(tmp_path, "status", NATS_URL=f"nats://bot:{SECRET}@127.0.0.1:{port}") as status:
        assert await status.ended() == 1
    assert SECRET.encode() in told
    assert SECRET not in status.output


async def test_a_credentials_file_that_breaks_later_stops_no_event_loop(tmp_path, caplog):
    """The file is read at each connect: nats-py's own reading of one without a JWT never ends."""
    caplog.set_level(logging.WARNING, "nats_identify")
    file = tmp_path / "bot.creds"
    file.write_bytes(credentials(jwt=b"header.claims.first"))
    told, writers = bytearray(), []

    async def greet(reader, writer):
        writers.append(writer)
        writer.write(f"INFO {json.dumps(INFO)}\r\n".encode())
        while data := await reader.read(4096):
            told.extend(data)
            writer.write(b"PONG\r\n")
        writer.close()

    async def has_said(text, where):
        async def look():
            return text in where()

        await until(look, f"it says {text!r}")

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with NatsQueue.connect(f"nats://127.0.0.1:{port}", user_credentials=str(file)):
            await has_said(b"header.claims.first", lambda: told)
            file.write_bytes(credentials(jwt=b""))
            writers[0].close()
            await has_said("the credentials file holds no user JWT", lambda: caplog.text)
            file.write_bytes(credentials(jwt=b"header.claims.second"))
            await has_said(b"header.claims.second", lambda: told)
    seed = credentials().splitlines()[-2]
    assert seed not in told
    assert seed.decode() not in caplog.text


def tls(folder, more=""):
    files = f'cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", ca_file: "{folder}/ca.pem"'
    return f"tls {{ {files} {more} }}"


async def test_a_server_that_wants_tls_before_info(coordinate, certificates, tmp_path):
    async with EmbeddedTls(tmp_path / "nats", extra=tls(certificates, ", handshake_first: true")) as server:
        variables = {
            "NATS_URL": server.url.replace("nats:", "tls:"),
            "NATS_TLS_CA": str(certificates / "ca.pem"),
            "NATS_TLS_HANDSHAKE_FIRST": "1",
        }
        await all_get_in(coordinate, tmp_path, **variables)


HINTS = {
    "wants it": (", handshake_first: true, timeout: 0.5", {}, "set NATS_TLS_HANDSHAKE_FIRST=1"),
    "does not want it": ("", {"NATS_TLS_HANDSHAKE_FIRST": "1"}, "If not, unset NATS_TLS_HANDSHAKE_FIRST"),
}


@pytest.mark.parametrize(("more", "variable", "hint"), HINTS.values(), ids=HINTS)
async def test_the_wrong_order_of_tls_and_info_is_hinted_at(
    coordinate, certificates, tmp_path, caplog, more, variable, hint
):
    caplog.set_level(logging.WARNING, "nats_identify")
    async with EmbeddedTls(tmp_path / "nats", extra=tls(certificates, more)) as server:
        variables = {"NATS_URL": server.url.replace("nats:", "tls:"), "NATS_TLS_CA": str(certificates / "ca.pem")}
        process = await coordinate(**variables, **variable)

        async def both_say_it():
            return hint in process.log and hint in caplog.text

        async with (
            queue_from_environment({**variables, **variable}),
            command(tmp_path, "status", **variables, **variable) as status,
        ):
            await until(both_say_it, "the coordinator and the library hint at it")
            assert await status.ended() == 1
    assert hint in status.output
    assert await process.end(signal.SIGTERM) == 0


class EmbeddedTls(EmbeddedNats):
    """A server that greets only over TLS: its port is enough to know that it is ready."""

    async def _greets(self):
        return True
