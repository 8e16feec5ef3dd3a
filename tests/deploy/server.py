"""A real nats-server on the rendered configuration; only addresses and paths are another machine's.

A server of three needs the names of its pods, so the one that is run is dev's; its accounts are the same file.
"""

import asyncio
import base64
import json
import os
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats_identify.processes.nats_server import find_nats_server
from tests.deploy.objects import Doc, containers, environment_of, get, name_of, of_kind, plain
from tests.processes import until

HOST = "127.0.0.1"


def write_config(docs: list[Doc], folder: Path) -> Path:
    """Write the files that the NATS pod sees in /etc/nats; return the main one."""
    folder.mkdir(parents=True, exist_ok=True)
    for doc in docs:
        if plain(doc["metadata"]["name"]) in {"nats-config", "nats-accounts", "nats-passwords"}:
            for name, value in doc["data"].items():
                content = base64.b64decode(value) if doc["kind"] == "Secret" else value.encode()
                (folder / name).write_bytes(content)
    return folder / "nats.conf"


def server_environment(docs: list[Doc]) -> dict[str, str]:
    """Return what the pod's process sees; its name is what it would be in a cluster."""
    container = containers(get(docs, "StatefulSet", "nats"))[0]
    return {**environment_of(container, docs), "SERVER_NAME": "nats-0", "PATH": os.environ["PATH"]}


def objections(file: Path, environment: dict[str, str]) -> str:
    """Return what `nats-server -t` has against a configuration; nothing where it is valid."""
    command = [str(find_nats_server()), "-t", "-c", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def passwords(docs: list[Doc]) -> dict[str, str]:
    """Return the password of each role, as the Secrets hold them."""
    (secret,) = [doc for doc in of_kind(docs, "Secret") if plain(doc["metadata"]["name"]) == "nats-passwords"]
    lines = base64.b64decode(secret["data"]["users.conf"]).decode().splitlines()
    pairs = [line.split(": ") for line in lines if not line.startswith("#")]
    return {name.removesuffix("_PASSWORD").lower(): value.strip('"') for name, value in pairs}


class Server:
    """A running server.

    Attributes:
        port: where it listens.
        log: what it says.
        passwords: by role.
    """

    def __init__(self, port: int, log_file: Path, words: dict[str, str]) -> None:
        self.port = port
        self.url = f"nats://{HOST}:{port}"
        self.passwords = words
        self._log_file = log_file

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def way_in(self, role: str, inbox: str | None = None) -> dict[str, Any]:
        """Return the options of `nats.connect` for a role."""
        return {"user": role, "password": self.passwords[role], "inbox_prefix": inbox or f"_INBOX_{role}"}


@asynccontextmanager
async def running(docs: list[Doc], folder: Path, *, certificates: Path | None = None, everywhere: bool = False):
    """Run the server of these objects during the block, on loopback, or where its configuration says."""
    file = write_config(docs, folder / "etc")
    file.write_text(file.read_text().replace("store_dir: /data", f"store_dir: {folder}/data"))
    if certificates is not None:  # the pod mounts them elsewhere
        tls = file.with_name("tls.conf")
        tls.write_text(tls.read_text().replace("/etc/nats-tls", str(certificates)))
    places = (*(() if everywhere else ("-a", HOST)), "-p", "-1", "-m", "-1", "-P", folder / "pid", "-l", folder / "log")
    command = [str(part) for part in (find_nats_server(), "-c", file, *places, "--ports_file_dir", folder)]
    environment = server_environment(docs)
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        port = await until(lambda: _port(folder, process), "the server listens")
        yield Server(port, folder / "log", passwords(docs))
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _port(folder: Path, process: asyncio.subprocess.Process) -> int:
    assert process.returncode is None, "the server has ended; what it said is above"
    return await asyncio.to_thread(_told_port, folder)


def _told_port(folder: Path) -> int:
    for file in folder.glob("*.ports"):
        try:
            return int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
        except (ValueError, LookupError):
            continue
    return 0


def environment_in_pod(docs: list[Doc], workload: str, pod: str, server: Server) -> dict[str, str]:
    """Return what a container of ours sees, with the Secrets' values, this server for NATS, and this pod's name."""
    (found,) = [doc for doc in docs if name_of(doc) == workload]
    (container,) = containers(found)
    seen = environment_of(container, docs)
    seen["NATS_PASSWORD"] = server.passwords[seen["NATS_USER"]]
    seen["NATS_URL"] = server.url
    if "POD_NAME" in seen:
        seen["POD_NAME"] = pod
    return {name: value.replace("$(POD_NAME)", pod) for name, value in seen.items()}
