"""What the tests of the crate share: its examples, built once, and processes of them."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from tests.processes import ROOT, WITHIN_S

CRATE = ROOT / "clients/rust"


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of the crate's examples, built; its crates come from a registry, or from cargo's cache."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("there is no cargo: install Rust 1.89 or later")
    command = [cargo, "build", "--quiet", "--examples"]
    build = subprocess.run(command, cwd=CRATE, capture_output=True, text=True, check=False)
    if "failed to download" in build.stderr or "Could not resolve host" in build.stderr:
        pytest.skip("no registry of crates can be reached")
    assert build.returncode == 0, build.stderr
    return Path(os.environ.get("CARGO_TARGET_DIR", CRATE / "target")) / "debug/examples"


class FleetProcess:
    """A process of twilight shards in the queue: the crate's example `fleet`."""

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self.process = process
        self._log_file = log_file

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log_file.read_text()

    async def end(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), WITHIN_S)


@pytest.fixture
async def start_fleet(examples: Path, nats_server: EmbeddedNats, tmp_path: Path):
    """Start twilight shards: `await start_fleet(gateway.ws_url, [0, 2], shard_count=4)`; they are killed in the end."""
    started: list[FleetProcess] = []

    async def start(gateway_url: str, shard_ids: list[int], shard_count: int, *, busy_ms: int = 0) -> FleetProcess:
        log_file = tmp_path / f"fleet-{len(started)}.log"
        with log_file.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                str(examples / "fleet"),
                env={
                    "NATS_URL": nats_server.url,
                    "GATEWAY_URL": gateway_url,
                    "SHARD_IDS": ",".join(str(shard_id) for shard_id in shard_ids),
                    "SHARD_COUNT": str(shard_count),
                    "BUSY_MS": str(busy_ms),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        started.append(FleetProcess(process, log_file))
        return started[-1]

    yield start
    for fleet in started:
        if fleet.process.returncode is None:
            fleet.process.kill()
            await fleet.process.wait()
