"""Who takes part: how each contestant is installed and started. What cannot be had on a machine is left out, and named.

Each has an environment of its own below ``.venvs`` or ``.tools``, made once.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PEERS: Final = ROOT / "benchmarks/peers"
INSTALL_MAX_S: Final = 900.0

OURS: Final = "nats-identify"
OURS_IN_A_BOT: Final = "nats-identify in discord.py"
OURS_ALONE: Final = "LargeBotQueue"
DISCORD_PY: Final = "discord.py"
HIKARI: Final = "hikari"
DISCORD_JS: Final = "@discordjs/ws"
TWILIGHT: Final = "twilight"


class NotHereError(Exception):
    """A contestant cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One that takes part.

    Attributes:
        name: in the tables.
        what: what is run.
        fleet: a command that takes the arguments of `nats_identify.cli.demo.fleet`, and runs the shards of one process.
        queue: a command as `benchmarks.peers.program_queue` describes it; None where the library has no queue that
            can be used on its own, or it is one of ours.
        has_coordinator: the shards wait for turns of a coordinator, on NATS.
    """

    name: str
    what: str
    fleet: tuple[str, ...]
    queue: tuple[str, ...] | None = None
    has_coordinator: bool = False


def find_contestants(say: Callable[[str], None]) -> tuple[list[Contestant], dict[str, str]]:
    """Install what can be had. Return who takes part, and why the others do not.

    Args:
        say: shows what is being installed.
    """
    found: list[Contestant] = []
    left_out: dict[str, str] = {}
    for name, make in _MAKERS.items():
        say(name)
        try:
            found.append(make())
        except NotHereError as error:
            left_out[name] = str(error)
    return found, left_out


def _ours() -> Contestant:
    fleet = (sys.executable, "-m", "nats_identify.cli.demo.fleet")
    return Contestant(OURS, "this queue: bare shards, `NatsQueue`, a coordinator", fleet, has_coordinator=True)


def _ours_in_a_bot() -> Contestant:
    what = "the same queue in real discord.py bots, by `nats_identify.integrations.discord_py`"
    return Contestant(OURS_IN_A_BOT, what, _discord_py_fleet(), has_coordinator=True)


def _ours_alone() -> Contestant:
    fleet = (sys.executable, "-m", "benchmarks.peers.one_process_fleet", "large")
    return Contestant(OURS_ALONE, "this project's queue for one process, without NATS: bare shards", fleet)


def _discord_py() -> Contestant:
    return Contestant(DISCORD_PY, "`AutoShardedClient` of discord.py 2.7.1 as it comes", _discord_py_fleet())


def _discord_py_fleet() -> tuple[str, ...]:
    constraints = ROOT / "tests/clients/constraints-discord-py.txt"
    python = _python_with("discord-py", "-c", str(constraints), "-e", f"{ROOT}[discord]")
    return (python, "-m", "nats_identify.cli.demo.bots", "--library", "discord.py")


def _hikari() -> Contestant:
    fleet = (_python_with("hikari", "hikari==2.7.0"), str(PEERS / "hikari_fleet.py"))
    return Contestant(HIKARI, "`GatewayBot` of hikari 2.7.0 as it comes", fleet)


def _discord_js() -> Contestant:
    node, npm = _program("node"), _program("npm")
    folder = _built("discordjs", (npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"))
    what = "`WebSocketManager` of @discordjs/ws 2.0.4 as it comes, with its `SimpleIdentifyThrottler`"
    return Contestant(DISCORD_JS, what, (node, f"{folder}/fleet.mjs"), (node, f"{folder}/queue.mjs"))


def _twilight() -> Contestant:
    build = (_program("cargo"), "build", "--release", "--quiet")
    folder = _built("twilight", build, layout={"main.rs": "src/main.rs"})
    queue = (str(folder / "target/release/twilight-queue-program"),)
    fleet = (sys.executable, "-m", "benchmarks.peers.one_process_fleet", "program", shlex.join(queue))
    return Contestant(TWILIGHT, "`InMemoryQueue` of twilight-gateway-queue 0.18.0, with bare shards", fleet, queue)


_MAKERS: Final[dict[str, Callable[[], Contestant]]] = {
    OURS: _ours,
    OURS_IN_A_BOT: _ours_in_a_bot,
    OURS_ALONE: _ours_alone,
    DISCORD_PY: _discord_py,
    HIKARI: _hikari,
    DISCORD_JS: _discord_js,
    TWILIGHT: _twilight,
}


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        message = f"there is no {name} on PATH"
        raise NotHereError(message)
    return found


def _python_with(name: str, *wanted: str) -> str:
    """Return the interpreter of an environment with these packages."""
    home = ROOT / ".venvs" / f"bench-{name}"
    python = home / "bin/python"
    if not _is_made(home, digest := _digest(*wanted, sys.version)):
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=False, symlinks=True)
        pip = (sys.executable, "-m", "pip", f"--python={python}", "--quiet", "--disable-pip-version-check", "install")
        _run((*pip, *wanted), cwd=ROOT)
        _stamp(home, digest)
    return str(python)


def _built(name: str, command: Sequence[str], layout: dict[str, str] | None = None) -> Path:
    """Copy a peer's sources out of the repository, and install or build it there; return the folder."""
    home = ROOT / ".tools" / f"bench-{name}"
    sources = sorted(path for path in (PEERS / name).iterdir() if path.is_file())
    digest = _digest(*(path.read_text(encoding="utf-8") for path in sources), *command)
    if not _is_made(home, digest):
        shutil.rmtree(home, ignore_errors=True)
        for source in sources:
            target = home / (layout or {}).get(source.name, source.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        _run(command, cwd=home)
        _stamp(home, digest)
    return home


def _run(command: Sequence[str], *, cwd: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # our own commands
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=INSTALL_MAX_S, env=os.environ
        )
    except subprocess.TimeoutExpired:
        message = f"{Path(command[0]).name} did not install it within {INSTALL_MAX_S:g} s"
        raise NotHereError(message) from None
    if done.returncode != 0:
        message = f"{Path(command[0]).name} could not install it (status {done.returncode})"
        raise NotHereError(message)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_made(home: Path, digest: str) -> bool:
    stamp = home / "installed"
    return stamp.exists() and stamp.read_text(encoding="utf-8") == digest


def _stamp(home: Path, digest: str) -> None:
    (home / "installed").write_text(digest, encoding="utf-8")
