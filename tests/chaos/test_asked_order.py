"""Those who ask in an order from one process are served in it: fresh queues, and restarts of all coordinators."""

import pytest

from tests.chaos.asked_order import SETTINGS, swaps_of_fresh_queues, swaps_over_restarts
from tests.processes import until

pytestmark = pytest.mark.slow

RUNS = 100
TURNS = 10
RESTARTS = 20
SHARDS = 50


async def test_ten_turns_at_once_on_a_fresh_queue(nats_server, start_coordinator):
    await start_coordinator(IDENTIFY_SESSION_TOTAL="100000", **SETTINGS)
    found = await swaps_of_fresh_queues(nats_server.url, runs=RUNS, turns=TURNS)
    print(f"\n{RUNS} fresh queues, {TURNS} turns at once on each: {sum(found)} swaps")
    assert found == [0] * RUNS


async def test_all_coordinators_are_killed_twenty_times_while_fifty_wait(nats_server, tmp_path):
    found = await swaps_over_restarts(tmp_path, nats_server.url, restarts=RESTARTS, shards=SHARDS, until_served=until)
    print(f"\n{RESTARTS} x kill -9 of both coordinators, {SHARDS} shards of one process: {found} swaps")
    assert found == 0
