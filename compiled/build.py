"""Has mypyc compile modules of a source tree, in place. It changes no module that is not named to it."""

import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from compiled.text import compilable

OPTIMIZATION: Final = "2"
"""The compiler's -O. All figures of the documents were measured with it."""

ERRORS_SHOWN_BYTES: Final = 2_000


class CannotCompileError(Exception):
    """The compiler refused; the message has its words."""


def build(folder: Path, names: Iterable[str], *options: str) -> None:
    """Compile modules; an extension module lies beside each afterwards, and Python imports that instead.

    Args:
        folder: holds the packages. The text of the named modules in it is replaced by what mypyc gets.
        names: paths of modules below it.
        options: of mypy.

    Raises:
        CannotCompileError: mypyc or the C compiler failed, or is not there.
    """
    names = sorted(names)
    for name in names:
        path = folder / name
        path.write_text(compilable(path.read_text()))
    command = [str(Path(sys.executable).with_name("mypyc")), "--config-file=", *options, *names]
    environment = {**_c_compiler(), **os.environ, "MYPYC_OPT_LEVEL": OPTIMIZATION}
    try:
        made = subprocess.run(  # noqa: S603  # our own command
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        message = f"{command[0]} cannot be run: {error}; install mypy"
        raise CannotCompileError(message) from error
    if made.returncode != 0:
        what = "\n".join(line for line in made.stdout.splitlines() if "error" in line)
        raise CannotCompileError(what or (made.stdout + made.stderr)[-ERRORS_SHOWN_BYTES:])


def _c_compiler() -> dict[str, str]:
    """Return the setting that names the C compiler of the wheel ziglang, where that is installed."""
    return {"CC": f"{sys.executable} -m ziglang cc"} if find_spec("ziglang") else {}
