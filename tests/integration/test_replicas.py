"""Three coordinators, and the leader goes while shards wait: a short form of what `make chaos` does at length."""

from typing import Any

from tests.chaos import faults
from tests.chaos.discord import running_discord
from tests.chaos.faults import Stage
from tests.chaos.judge import (
    demand_exact_budget,
    demand_served_once_and_in_order,
    recording_pods,
    watched_ledger,
)
from tests.chaos.ordeal import asking_fleet, go_through
from tests.chaos.replicas import WINDOW_S, running_replicas

SHARDS = 48
PODS = 3
MAX_CONCURRENCY = 4
TOTAL = 100
SETTINGS: dict[str, Any] = {
    "IDENTIFY_LEASE": "1",
    "IDENTIFY_MARGIN": "0.2",
    "IDENTIFY_MAX_CONCURRENCY": str(MAX_CONCURRENCY),
    "IDENTIFY_SESSION_TOTAL": str(TOTAL),
}
TROUBLES = (faults.sigterm_of_the_leader, faults.sigkill_of_the_leader)


async def test_the_leader_ends_and_is_killed_while_shards_wait(nats_server, tmp_path, capsys):
    async with (
        running_discord(max_concurrency=MAX_CONCURRENCY, total=TOTAL, shards=SHARDS, window_s=WINDOW_S) as gateway,
        running_replicas(tmp_path, nats_server.url, **SETTINGS) as replicas,
        watched_ledger(nats_server.url) as ledger,
        recording_pods(nats_server.url, PODS) as (queues, deeds),
        asking_fleet(queues, gateway, SHARDS),
    ):
        await go_through(Stage(replicas), gateway, SHARDS, TROUBLES)
        demand_served_once_and_in_order(gateway, SHARDS, MAX_CONCURRENCY)
        await ledger.until_settled()
        ledger.demand_one_leader_in_each_term()
        assert max(ledger.leaders_by_term) > len(TROUBLES)
        demand_exact_budget(deeds, ledger, total=TOTAL, shards=SHARDS)
    assert "sigkill of the leader: longest silence" in capsys.readouterr().out
