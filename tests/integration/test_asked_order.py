"""Those who ask in an order from one process are served in it: a short form of what `make chaos` does at length."""

from tests.chaos.asked_order import SETTINGS, swaps_of_fresh_queues, swaps_over_restarts
from tests.processes import until

RUNS = 10
TURNS = 10
RESTARTS = 2
SHARDS = 12


async def test_turns_asked_for_at_once_on_a_fresh_queue_come_in_order(nats_server, start_coordinator):
    await start_coordinator(**SETTINGS)
    assert await swaps_of_fresh_queues(nats_server.url, runs=RUNS, turns=TURNS) == [0] * RUNS


async def test_the_order_of_asking_outlives_all_coordinators(nats_server, tmp_path):
    found = await swaps_over_restarts(tmp_path, nats_server.url, restarts=RESTARTS, shards=SHARDS, until_served=until)
    assert found == 0
