"""What tests of the way into NATS share: a server that only listens, and certificates."""

import asyncio
import json
import shutil
import subprocess

import pytest

INFO = {
    "server_id": "x",
    "version": "2.11.0",
    "max_payload": 1_048_576,
    "proto": 1,
    "headers": True,
    "auth_required": True,
    "nonce": "bm9uY2U",
}
"""What a server says of itself that offers no TLS, and wants a signature from those who have a key."""


@pytest.fixture
async def listener():
    """A server that says it is NATS without TLS, and keeps what it is told."""
    told = bytearray()

    async def greet(reader, writer):
        writer.write(f"INFO {json.dumps(INFO)}\r\n".encode())
        while data := await reader.read(4096):
            told.extend(data)
            writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], told


def openssl(folder, *arguments):
    command = [shutil.which("openssl"), *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path):
    """An authority, a server's certificate for 127.0.0.1 and a client's."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates, and is not there")
    folder = tmp_path / "certificates"
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    for name in ("server", "client"):
        openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder
