"""The virtual environments of the real libraries, one for each: discord.py and py-cord take the same package name.

Made when a test first asks, under ``.venvs``, and kept until what goes into them changes.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
VENVS: Final = ROOT / ".venvs"


@dataclass(frozen=True, slots=True)
class Environment:
    """One library.

    Attributes:
        front: its module in `nats_identify.integrations`.
        package: how it is imported.
        extra: ours, which installs it.
        besides: what else it is tried with.
        many: its class for many shards; ``one`` those for a single one, ``bots`` other classes for many.
        name: what pip, and the demo, know it by.
        preamble: what a program of the document needs first.
    """

    front: str
    package: str
    extra: str
    besides: tuple[str, ...] = ()
    many: str = "AutoShardedClient"
    one: tuple[str, ...] = ("Client", "Bot")
    bots: tuple[str, ...] = ("AutoShardedBot",)
    name: str = ""
    preamble: str = "intents = {package}.Intents.default()"

    @property
    def constraints(self) -> Path:
        return Path(__file__).with_name(f"constraints-{self.front.replace('_', '-')}.txt")

    def python(self) -> Path:
        """Return its interpreter; the first time, this takes as long as pip does."""
        home = VENVS / self.front
        stamp = home / "installed"
        VENVS.mkdir(exist_ok=True)
        with (VENVS / f"{self.front}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may start at once
            if not stamp.exists() or stamp.read_text() != self._contents():
                shutil.rmtree(home, ignore_errors=True)
                self._make(home)
                stamp.write_text(self._contents())
        return home / "bin" / "python"

    def _make(self, home: Path) -> None:
        venv.create(home, with_pip=False)  # ours installs into it: a copy of pip for each takes seconds
        pip = (sys.executable, "-m", "pip", f"--python={home}/bin/python", "--quiet", "--disable-pip-version-check")
        made = subprocess.run(
            [*pip, "install", "-c", f"{self.constraints}", "-e", f"{ROOT}[{self.extra}]", *self.besides],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr

    def _contents(self) -> str:
        """What goes into it."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [project["dependencies"], project["optional-dependencies"][self.extra], self.besides, sys.version]
        return hashlib.sha256(json.dumps(wanted).encode() + self.constraints.read_bytes()).hexdigest()


FAMILY: Final = {
    environment.front: environment
    for environment in (
        Environment("discord_py", "discord", "discord", besides=("zstandard", "pytest"), name="discord.py"),
        Environment("disnake", "disnake", "disnake"),
        Environment("nextcord", "nextcord", "nextcord"),
        Environment("pycord", "discord", "pycord", name="py-cord"),
        Environment(
            *("hikari", "hikari", "hikari"),
            besides=("backports.zstd",),
            many="GatewayBot",
            one=(),
            bots=(),
            preamble="token = 'MTAw.simulated.token'",
        ),
        Environment(
            *("interactions", "interactions", "interactions"),
            one=("Client",),
            bots=(),
            name="interactions.py",
            preamble="token = 'MTAw.simulated.token'",
        ),
    )
}
