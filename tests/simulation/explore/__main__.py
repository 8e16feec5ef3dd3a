"""The command line of the exploration: how deep, with how many faults, and what is planted. It searches nothing."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from nats_identify.schedule.model import Timing
from tests.simulation.explore.search import MIXED, SAME, Found, explore, told
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.hunt import CATALOGUE
from tests.simulation.planted.patching import planted
from tests.simulation.swarm import say

DEEPER_EACH = 2
"""With a fault less to spare a hunt looks so many events deeper."""

TABLE = """\
| planted fault | checker | events | states | seconds of CPU |
|---|---|---|---|---|"""


def main(arguments: list[str] | None = None) -> int:
    """Explore; the exit status is 1 where a promise is broken with nothing planted, or none with a fault planted."""
    options = _parser().parse_args(arguments)
    timings = MIXED if options.mixed else SAME
    if options.hunt is not None:
        return _hunt([fault for fault in CATALOGUE if options.hunt in fault.name], options)
    faults = [fault for fault in CATALOGUE if options.planted and options.planted in fault.name]
    if options.planted and len(faults) != 1:
        say(f"{len(faults)} planted faults have {options.planted!r} in their name; name one")
        return 2
    with _in_place(faults):
        found = explore(timings, depth=options.depth, faults=options.faults, states_most=options.states, say=say)
        say(_summary(found))
        if found.violation is None:
            return 1 if faults else 0
        for line in told(timings, options.faults, found.history):
            say(line)
    return 0 if faults else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.explore", description=__doc__)
    parser.add_argument("--depth", type=int, default=6, help="every order of up to so many events")
    parser.add_argument("--faults", type=int, default=2, help="of which so many may be faults")
    parser.add_argument("--states", type=int, default=1_000_000, help="give up after so many states")
    parser.add_argument("--mixed", action="store_true", help="the second replica has a shorter use_within")
    parser.add_argument("--planted", default="", metavar="NAME", help="with this fault planted into the product")
    parser.add_argument("--hunt", metavar="NAME", help="a table of the planted faults whose names contain this")
    return parser


@contextmanager
def _in_place(faults: Iterable[Planted]) -> Iterator[None]:
    with planted(*[edit for fault in faults for edit in fault.edits]):
        yield


def _summary(found: Found) -> str:
    what = "found at" if found.violation else "every order of up to" if found.is_complete else "too many states after"
    each = found.states / max(found.seconds, 1e-9)
    cost = f"{found.transitions} events tried, {found.seconds:.1f} s of CPU, {each:,.0f} states a second"
    return f"{what} {found.depth} events: {found.states} states, {cost}"


def _hunted(timings: tuple[Timing, Timing], options: argparse.Namespace) -> Found:
    """Search with few faults first, and deeper with fewer: that is where a shortest history is found soonest."""
    states, transitions, seconds = 0, 0, 0.0
    for faults in range(options.faults + 1):
        depth = options.depth + DEEPER_EACH * (options.faults - faults)
        found = explore(timings, depth=depth, faults=faults, states_most=options.states)
        states, transitions = states + found.states, transitions + found.transitions
        seconds += found.seconds
        if found.violation is not None:
            break
    return replace(found, states=states, transitions=transitions, seconds=seconds)


def _hunt(faults: Iterable[Planted], options: argparse.Namespace) -> int:
    say(TABLE)
    count = 0
    for fault in faults:
        count += 1
        with planted(*fault.edits):
            found = _hunted(MIXED if options.mixed else SAME, options)
        checker = "not found" if found.violation is None else found.violation.checker
        events = found.depth if found.violation is not None else "-"
        say(f"| {fault.name} | {checker} | {events} | {found.states:,} | {found.seconds:.0f} |")
    return 0 if count else 2


if __name__ == "__main__":
    sys.exit(main())
