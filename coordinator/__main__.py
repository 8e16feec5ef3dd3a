"""Runs a coordinator, or checks whether one is healthy, and returns the exit status. It decides nothing else."""

import sys


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    # Imported late: a health check must not load a whole coordinator.
    if arguments == ["healthcheck"]:
        from coordinator.healthcheck import check  # noqa: PLC0415  # see above

        return check()
    if arguments:
        sys.stderr.write("python -m coordinator [healthcheck]: every setting is an environment variable\n")
        return 2
    try:
        from coordinator.process import run  # noqa: PLC0415  # see above
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"python -m coordinator needs {missing.name}; in a clone: pip install '.[coordinator]'\n")
        return 1
    return run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
