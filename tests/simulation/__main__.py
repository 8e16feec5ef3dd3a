"""The command line of the simulation: replay a seed, or run a swarm of them. It holds no part of the world."""

import argparse
import itertools
import random
import sys

from tests.simulation.plan import Shape
from tests.simulation.run import run
from tests.simulation.swarm import say, swarm


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the exit status is 1 where a promise was broken."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options.seed, options.shape, options.tail)
    if options.swarm is not None:
        first = options.first if options.first is not None else random.SystemRandom().randrange(10**9)
        say(f"seeds from {first} on, for {options.swarm:.0f} s")
        return 1 if swarm(itertools.count(first), most_s=options.swarm).failed else 0
    first, _, behind = options.seeds.partition(":")
    return 1 if swarm(range(int(first), int(behind))).failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="replay this history, with its transcript")
    what.add_argument("--seeds", metavar="A:B", help="run the histories from A on, B excluded")
    what.add_argument("--swarm", type=float, metavar="SECONDS", help="run fresh histories for so long")
    parser.add_argument("--shape", type=Shape, choices=list(Shape), help="another shape than the seed's own")
    parser.add_argument("--tail", type=int, default=0, help="only so many lines of the transcript")
    parser.add_argument("--first", type=int, help="the first seed of the swarm")
    return parser


def _replay(seed: int, shape: Shape | None, tail: int) -> int:
    report = run(seed, shape, keep_lines=True)
    lines = report.lines or []
    say("\n".join(lines[-tail:] if tail else lines))
    faults, virtual_s = sum(report.faults.values()), report.virtual_ns / 1e9
    what = f"{report.grants} grants, {faults} faults, {virtual_s:.1f} s of virtual time, digest {report.digest:08x}"
    say(f"seed {seed}, {report.shape}: {what}")
    if report.violation is None:
        return 0
    say(f"VIOLATION {report.violation}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
