"""All scenarios, in the order of the table, by their names."""

from typing import Final

from benchmarks.scenarios import Scenario, crowds, fleets, queues

EVERY: Final[dict[str, Scenario]] = {
    "cold-start-16": fleets.cold_start_16,
    "cold-start-64": fleets.cold_start_64,
    "two-processes": fleets.two_processes,
    "killed": fleets.killed,
    "more-concurrency": fleets.more_concurrency,
    "spent-day": fleets.spent_day,
    "idle-bucket": queues.idle_bucket,
    "head-gives-up": queues.head_gives_up,
    "dead-in-front": queues.dead_in_front,
    "crowds": crowds.crowds,
    "throughput": crowds.throughput,
}
