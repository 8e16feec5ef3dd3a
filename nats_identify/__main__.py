"""The command line, ``nats-identify``; what it starts is elsewhere.

It needs the extra ``cli``, which a bot does not; one command may need more.
"""

import sys
from typing import Final

from nats_identify import __version__

_EXTRAS: Final = {"typer": "cli", "rich": "cli", "aiohttp": "testing", "zstandard": "testing"}


def main() -> int:
    """Run a command. Return the exit status."""
    if sys.argv[1:] == ["--version"]:  # the one thing that needs no extra
        sys.stdout.write(f"nats-identify {__version__}\n")
        return 0
    try:
        from nats_identify.cli.commands import app  # noqa: PLC0415  # what it needs may be missing

        app()
    except KeyboardInterrupt:
        return 130  # as a shell says of ctrl-C
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        extra = _EXTRAS.get(package)
        if extra is None:
            raise
        sys.stderr.write(f"nats-identify needs {package}; in a clone of it: pip install '.[{extra}]'\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
