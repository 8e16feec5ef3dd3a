"""Which seeds were run on which commit: a file that git ignores. A swarm goes on where the last one stopped.

Each line is one swarm: commit, first seed, the one behind the last, and those that broke a promise. ``+`` behind the
commit: the tree had changes of its own.
"""

import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(os.environ.get("SIMULATION_ROOT") or Path(__file__).parents[2])  # a compiled copy runs elsewhere
NAME = ".simulated"


class Journal:
    """The file, and the line of the swarm that runs.

    Args:
        root: where it lies, and whose commit is noted.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._path = root / NAME

    def next_seed(self) -> int:
        """Return the first seed that none of these swarms has run; where there was none, any: others run others."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        behind = [int(line.split()[2]) for line in lines]
        return max(behind) if behind else random.SystemRandom().randrange(10**9)

    def note(self, first: int, behind: int, failed: Sequence[int]) -> None:
        """Write that these were run, behind excluded."""
        with self._path.open("a") as file:
            file.write(" ".join(map(str, (self._commit(), first, behind, *failed))) + "\n")

    def _commit(self) -> str:
        try:
            head = self._git("rev-parse", "--short", "HEAD")
            return f"{head}+" if self._git("status", "--porcelain", "--untracked-files=no") else head
        except (OSError, subprocess.CalledProcessError):
            return "unknown"

    def _git(self, *arguments: str) -> str:
        command = ["git", *arguments]  # from PATH
        done = subprocess.run(command, cwd=self._root, check=True, capture_output=True, text=True)
        return done.stdout.strip()
