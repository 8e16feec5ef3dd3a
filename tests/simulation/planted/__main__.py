"""The command line of the planted faults: hunts each, and prints a table. It plants nothing itself."""

import argparse
import sys

from tests.simulation.planted.hunt import hunt_all
from tests.simulation.swarm import say

TABLE = """\
| rule | fault | checker | seed | seeds needed |
|---|---|---|---|---|"""


def main(arguments: list[str] | None = None) -> int:
    """Hunt; the exit status is 1 where the unpatched code breaks a promise, or a rule can go and nobody sees it."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    parser.add_argument("--seeds", metavar="A:B", default="0:160", help="the histories from A on, B excluded")
    parser.add_argument("--only", default="", help="the faults whose names contain this")
    options = parser.parse_args(arguments)
    first, _, behind = options.seeds.partition(":")
    say(TABLE)
    found = hunt_all(range(int(first), int(behind)), say, options.only)
    named = [one for one in found if one.checker is not None]
    broken = [one.seed for one in named if not one.is_clean_without]
    say(f"\n{len(named)} of {len(found)} found, each by the checker in its row")
    say(
        f"with no fault planted, {len(named) - len(broken)} of the {len(named)} histories that found them break nothing"
    )
    unguarded = {one.fault.rule for one in found} - {one.fault.rule for one in named} - {None}
    for rule in sorted(rule for rule in unguarded if rule is not None):
        say(f"nothing that takes rule {rule} away was found: is it needed no more, or judged no more?")
    return 1 if broken or unguarded else 0


if __name__ == "__main__":
    sys.exit(main())
