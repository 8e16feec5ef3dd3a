"""Measures what a commit costs the processor with a thousand live grants, and with histories of looping shards beside.

python -m benchmarks.commit_cost [--rounds 200]. It asserts nothing, and writes no ledger.
"""

import argparse
from statistics import median
from time import perf_counter_ns

from coordinator.core.ledger import Ledger
from coordinator.edge.ledger_json import LedgerWriter
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.grants import Grant, Hold, HoldState, records_of
from nats_identify.schedule.model import SECOND, Timing
from nats_identify.schedule.state import ScheduleState

GRANTS = 1_000


def book_of(looping: int, *, healthy: int = GRANTS) -> ScheduleState:
    """A state with a thousand live grants, and some shards that crash-loop; each other shard was granted twice."""
    guard = CrashLoopGuard(10)
    state = ScheduleState(Timing(), SessionBudget(), guard, GRANTS, GRANTS)
    for shard_id in range(GRANTS):
        name = f"0123456789ab-{shard_id}"
        grant = Grant(
            grant_id=name,
            request_id=f"r{shard_id:032x}",
            shard_id=shard_id,
            bucket=shard_id,
            max_concurrency=GRANTS,
            renewal=3,
            use_within_ns=5 * SECOND,
        )
        state.add_hold(Hold(grant=grant, state=HoldState.UNANSWERED, opens_at_ns=100 * SECOND))
    for shard_id in range(healthy):
        for turn in range(12 if shard_id < looping else 2):
            guard.count(shard_id, turn, turn)
    return state


def commit(state: ScheduleState, writer: LedgerWriter, *, now_ns: int, has_guard: bool) -> int:
    """Make one entry as a replica does; return its size."""
    ages = state.guard.ages(now_ns) if has_guard else ()
    head = ("identify", "pod-0", "0123456789ab", 7, 1234, 3 * SECOND, GRANTS, 1000, 900, 3600 * SECOND)
    return len(writer.write(Ledger(*head, records_of(state.holds, now_ns), crash_loops=ages, margin_ns=200_000_000)))


def main() -> None:
    """Measure the cases in turn, round by round, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    cases = {"without a guard": (0, False), "no shard loops": (0, True), "10 loop": (10, True), "100 loop": (100, True)}
    made = {name: (book_of(looping), LedgerWriter(), has_guard) for name, (looping, has_guard) in cases.items()}
    spent: dict[str, list[int]] = {name: [] for name in cases}
    sizes: dict[str, int] = {}
    for number in range(rounds):
        for name, (state, writer, has_guard) in made.items():
            begun_ns = perf_counter_ns()
            sizes[name] = commit(state, writer, now_ns=1_000 + number, has_guard=has_guard)
            spent[name].append(perf_counter_ns() - begun_ns)
    for name, times in spent.items():
        print(f"{name:16} median {median(times) / 1e6:.3f} ms, {sizes[name] / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
