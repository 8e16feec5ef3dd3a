"""The server that leads the ledger's stream is killed: nothing is granted without it, all goes on after it."""

import asyncio
from functools import partial

import pytest

from nats_identify import NatsQueue
from nats_identify.clock import NS_PER_MS, now_ns
from tests.chaos.figures import REPETITIONS, Figures, show
from tests.chaos.judge import watched_ledger
from tests.chaos.line import Line
from tests.chaos.nats_cluster import running_cluster
from tests.chaos.probe import probing
from tests.chaos.replicas import MARGIN_S, WINDOW_S, running_replicas
from tests.processes import until

pytestmark = pytest.mark.slow

ON_ITS_WAY_NS = 50 * NS_PER_MS
"""A grant that was committed right before the kill may be received so long after it."""


async def test_the_stream_leader_is_killed(tmp_path):
    away, late, granted_meanwhile = Figures("compare-and-set away"), Figures("first grant after its return"), []
    async with (
        running_cluster(tmp_path) as cluster,
        running_replicas(tmp_path, cluster.url) as replicas,
        watched_ledger(cluster.urls) as ledger,
        NatsQueue.connect(cluster.urls) as queue,
        Line(queue, ledger, hold_s=WINDOW_S + MARGIN_S).moving() as line,
    ):
        for repetition in range(REPETITIONS):
            name = await cluster.until_whole()
            await replicas.until_all_ready()
            await line.until_turns(3)
            async with probing(cluster.urls_without(name), "identify", f"probe-{repetition}") as probe:
                await line.until_due_in(lead_ms=20)
                killed_ns = now_ns()
                await cluster.servers[name].kill()
                gone_ns, still_gone_ns, back_ns = await probe.until_away_and_back(killed_ns)
                turn = await until(partial(first_turn, line, back_ns), "a grant")
            away.add((back_ns - gone_ns) / NS_PER_MS)
            late.add((turn.at_ns - back_ns) / NS_PER_MS)
            granted_meanwhile += [t for t in line.turns if gone_ns + ON_ITS_WAY_NS < t.at_ns < still_gone_ns]
            await cluster.servers[name].start()
        show("kill -9 of the nats-server that leads the ledger's stream, a request being due", away, late)
        print(f"  granted meanwhile: {len(granted_meanwhile)}; {ledger.summary()}")
    ledger.demand_one_leader_in_each_term()
    assert granted_meanwhile == []
    assert late.worst < 1000


async def first_turn(line, since_ns):
    """The first grant that the return allowed; the probe may hear of the return a moment later than the leader."""
    await asyncio.sleep(0)
    return next((turn for turn in line.turns if turn.at_ns > since_ns - 20 * NS_PER_MS), None)
