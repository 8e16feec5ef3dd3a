"""Compiles what a coordinator runs for each request, in an installed tree: python -m compiled FOLDER.

FOLDER holds the packages ``nats_identify`` and ``coordinator``, such as the site-packages of a virtual environment. The
extension modules are put beside their source, which stays as it is: it is what tracebacks show, and without the
extension modules the same program runs, more slowly. It needs mypy, setuptools and a C compiler; the wheel ziglang has
one.
"""

import argparse
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from compiled.build import CannotCompileError, build

PACKAGES: Final = ("nats_identify", "coordinator")

MODULES: Final = (
    "coordinator/core/*.py",
    "coordinator/edge/allowance.py",
    "coordinator/edge/busiest.py",
    "coordinator/edge/event_queue.py",
    "coordinator/edge/intake.py",
    "coordinator/edge/ledger_json.py",
    "coordinator/edge/publisher.py",
    "coordinator/edge/recent.py",
    "coordinator/edge/refusals.py",
    "coordinator/edge/store.py",
    "coordinator/runtime.py",
    "nats_identify/nats_protocol.py",
    "nats_identify/schedule/*.py",
)
"""What runs for each request. Models of pydantic stay interpreted, and the connections, which mypyc cannot compile."""


def main() -> int:
    """Compile; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m compiled", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="holds the packages nats_identify and coordinator")
    parser.add_argument("--python", default=sys.executable, help="of the environment with what they import")
    options = parser.parse_args()
    folder: Path = options.folder
    if missing := [name for name in PACKAGES if not (folder / name / "__init__.py").exists()]:
        parser.error(f"{folder} does not hold {' and '.join(missing)}")
    try:
        count = _compile(folder, options.python)
    except CannotCompileError as error:
        sys.stderr.write(f"not compiled; the coordinator runs without it, more slowly\n{error}\n")
        return 1
    sys.stdout.write(f"{count} modules compiled in {folder}\n")
    return 0


def _compile(folder: Path, python: str) -> int:
    with tempfile.TemporaryDirectory(prefix="nats-identify-compiled-") as made:
        copy = Path(made)
        for name in PACKAGES:
            shutil.copytree(folder / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        paths = [path for pattern in MODULES for path in copy.glob(pattern) if path.stem != "__init__"]
        build(copy, [str(path.relative_to(copy)) for path in paths], f"--python-executable={Path(python).absolute()}")
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        extensions = [path.relative_to(copy) for path in copy.rglob(f"*{suffix}") if "build" not in path.parts]
        for path in extensions:
            shutil.copy(copy / path, folder / path)
    return len(extensions) - 1  # one holds the code of all


if __name__ == "__main__":
    sys.exit(main())
