"""The leader alone loses its way to NATS and finds it again: another grants; what it still tried is of no effect."""

import asyncio
from functools import partial

import pytest

from nats_identify import NatsQueue
from nats_identify.clock import NS_PER_MS, now_ns
from tests.chaos.figures import REPETITIONS, Figures, show
from tests.chaos.fleet import sleep_s
from tests.chaos.judge import watched_ledger
from tests.chaos.line import Line
from tests.chaos.relay import relays_to
from tests.chaos.replicas import LEASE_S, MARGIN_S, WINDOW_S, running_replicas
from tests.processes import until

pytestmark = pytest.mark.slow

REPLICAS = 3


async def test_the_leader_is_cut_off_past_its_lease_and_healed(nats_server, tmp_path):
    after, standby = Figures("next grant after the cut"), Figures("standby after the healing")
    async with (
        relays_to(nats_server.port, REPLICAS) as relays,
        running_replicas(tmp_path, [relay.url for relay in relays]) as replicas,
        watched_ledger(nats_server.url) as ledger,
        NatsQueue.connect(nats_server.url) as queue,
        Line(queue, ledger, hold_s=WINDOW_S + MARGIN_S).moving() as line,
    ):
        for _ in range(REPETITIONS):
            await line.until_turns(3)
            leader = replicas.by_instance(await line.granter_of(line.turns[-1]))
            relay = relays[replicas.members.index(leader)]
            await line.until_due_in(lead_ms=20)
            cut_ns = now_ns()
            relay.cut()
            turn = await line.until_granted_by_another(leader.instance, cut_ns)
            after.add((turn.at_ns - cut_ns) / NS_PER_MS)
            await sleep_s(LEASE_S / 2)  # the cut goes on after another leads
            relay.heal()
            healed_ns = now_ns()
            await until(partial(is_standby, leader), "it steps down")
            standby.add((now_ns() - healed_ns) / NS_PER_MS)
            await leader.until_ready()
            await line.until_turns(3)
            assert leader.instance not in await line.granters_since(healed_ns)
        show("the leader cut off from NATS past its lease, then healed: it granted nothing", after, standby)
        print(f"  {ledger.summary()}")
    ledger.demand_one_leader_in_each_term()
    assert after.worst < (LEASE_S + 1) * 1000


async def is_standby(replica):
    await asyncio.sleep(0)
    return replica.roles[-1] == "standby"
