"""The command line of the simulation: replay a seed, or run a swarm of them. It holds no part of the world."""

import argparse
import itertools
import sys

from tests.simulation.journal import Journal
from tests.simulation.plan import Shape
from tests.simulation.run import run
from tests.simulation.swarm import Tally, say, swarm


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the exit status is 1 where a promise was broken."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options.seed, options.shape, options.tail)
    if options.swarm is not None:
        return _swarm(options.swarm, options.first)
    first, _, behind = options.seeds.partition(":")
    tally = Tally()
    swarm(range(int(first), int(behind)), tally)
    return 1 if tally.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="replay this history, with its transcript")
    what.add_argument("--seeds", metavar="A:B", help="run the histories from A on, B excluded")
    what.add_argument("--swarm", type=float, metavar="SECONDS", help="run fresh histories for so long")
    parser.add_argument("--shape", type=Shape, choices=list(Shape), help="another shape than the seed's own")
    parser.add_argument("--tail", type=int, default=0, help="only so many lines of the transcript")
    parser.add_argument("--first", type=int, help="the first seed of the swarm, if not the one after the last swarm")
    return parser


def _swarm(max_s: float, first: int | None) -> int:
    journal = Journal()
    first = journal.next_seed() if first is None else first
    say(f"seeds from {first} on, for {max_s:.0f} s")
    tally = Tally()
    try:
        swarm(itertools.count(first), tally, max_s=max_s)
    finally:
        journal.note(first, first + tally.seeds, [report.seed for report in tally.failed])
    return 1 if tally.failed else 0


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
