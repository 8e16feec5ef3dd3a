"""The command line of the compiled simulation: builds a compiled copy where the text has changed, and runs it.

All options are those of ``python -m tests.simulation``. It needs mypyc (it comes with mypy) and a C compiler.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from compiled.build import CannotCompileError, build

ROOT = Path(__file__).parents[3]
BUILT = ROOT / ".compiled"

COPIED = (
    "nats_identify",
    "coordinator",
    "tests/simulation",
    "tests/__init__.py",
    "tests/invariants.py",
    "tests/view.py",
)

COMPILED = (
    "coordinator/core/*.py",
    "nats_identify/schedule/*.py",
    "nats_identify/client/requester.py",
    "tests/simulation/*.py",
    "tests/simulation/checkers/*.py",
)

LEFT = {"__init__", "__main__", "dice", "patience", "plan", "styles", "swarm", "violation"}
"""Run once in a history, or patched by text; tests are left as well."""


def main(arguments: list[str]) -> int:
    """Build if need be, then run."""
    modules = sorted(path for pattern in COMPILED for path in ROOT.glob(pattern) if _is_compiled(path))
    stamp, version = BUILT / "stamp", _version()
    if not stamp.exists() or stamp.read_text() != version:
        _build(modules)
        stamp.write_text(version)
    environment = {**os.environ, "PYTHONPATH": str(BUILT), "SIMULATION_ROOT": str(ROOT)}
    return subprocess.call([sys.executable, "-m", "tests.simulation", *arguments], cwd=BUILT, env=environment)


def _is_compiled(path: Path) -> bool:
    return path.stem not in LEFT and not path.name.startswith("test_")


def _version() -> str:
    """Name the text that a build was made from, and the Python that it was made for."""
    digest = hashlib.sha256(sys.version.encode())
    for place in COPIED:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _build(modules: list[Path]) -> None:
    shutil.rmtree(BUILT, ignore_errors=True)
    for place in COPIED:
        if (ROOT / place).is_dir():
            shutil.copytree(ROOT / place, BUILT / place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (BUILT / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / place, BUILT / place)
    try:
        build(BUILT, [str(path.relative_to(ROOT)) for path in modules])
    except CannotCompileError as error:
        sys.exit(f"mypyc failed; `make simulate` runs the same without it:\n{error}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
