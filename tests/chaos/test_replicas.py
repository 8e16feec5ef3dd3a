"""The leader ends, is killed or freezes while a request falls due: who grants next, and how soon."""

import asyncio
import signal
from typing import Any

import pytest

from nats_identify import NatsQueue
from nats_identify.clock import NS_PER_MS, now_ns
from tests.chaos.figures import REPETITIONS, Figures, show
from tests.chaos.fleet import sleep_s
from tests.chaos.judge import watched_ledger
from tests.chaos.line import Line
from tests.chaos.replicas import LEASE_S, MARGIN_S, WINDOW_S, running_replicas
from tests.processes import Mailbox, until

pytestmark = pytest.mark.slow

LEADS_MS = (1, 5, 10, 20, 40)
"""The fault comes so long before the bucket opens, in turn: an unlucky instant must not be missed by luck."""

LONG_S = 6

SETTLED_TURNS = 3  # every standby has seen the ledger move since it was ready


@pytest.fixture
async def replicas(nats_server, tmp_path):
    async with running_replicas(tmp_path, nats_server.url) as replicas:
        yield replicas


@pytest.fixture
async def line(nats_server, replicas):
    async with (
        watched_ledger(nats_server.url) as ledger,
        NatsQueue.connect(nats_server.url) as queue,
        Line(queue, ledger, hold_s=WINDOW_S + MARGIN_S).moving() as line,
    ):
        await line.until_turns(SETTLED_TURNS)
        yield line


async def leader_when_due(line, replicas, repetition):
    """Wait until a request is about to be due; return the leader."""
    await line.until_turns(SETTLED_TURNS)
    leader = replicas.by_instance(await line.granter_of(line.turns[-1]))
    await line.until_due_in(LEADS_MS[repetition % len(LEADS_MS)])
    assert leader.instance == await line.granter_of(line.turns[-1])
    return leader


async def test_sigterm_of_the_leader(replicas, line):
    without, late, ended = (Figures(what) for what in ("without a fault: late", "late", "process gone after"))
    for repetition in range(REPETITIONS):
        leader = await leader_when_due(line, replicas, repetition)
        without.add(line.turns[-1].late_ms)
        gone, at_ns = leader.instance, now_ns()
        leader.process.send_signal(signal.SIGTERM)
        turn = await line.until_granted_by_another(gone, at_ns)
        late.add(turn.late_ms)
        assert await leader.ended() == 0
        ended.add((now_ns() - at_ns) / NS_PER_MS)
        await leader.start_again()
    show("SIGTERM of the leader, a request being due", without, late, ended)
    assert late.worst < without.worst + 100  # the lock was released: nobody waits for a lease


async def test_sigkill_of_the_leader(replicas, line):
    after = Figures("next grant after the kill")
    for repetition in range(REPETITIONS):
        leader = await leader_when_due(line, replicas, repetition)
        gone, at_ns = leader.instance, now_ns()
        leader.process.kill()
        turn = await line.until_granted_by_another(gone, at_ns)
        after.add((turn.at_ns - at_ns) / NS_PER_MS)
        await leader.ended()
        await leader.start_again()
    show(f"SIGKILL of the leader, lease {LEASE_S:g} s, a request being due", after)
    assert after.worst < (LEASE_S + 1) * 1000


async def test_sigstop_past_the_lease_and_sigcont(replicas, line):
    after, standby = Figures("next grant after SIGSTOP"), Figures("standby after SIGCONT")
    for repetition in range(REPETITIONS):
        leader = await leader_when_due(line, replicas, repetition)
        frozen, at_ns, roles = leader.instance, now_ns(), len(leader.roles)
        leader.freeze()
        turn = await line.until_granted_by_another(frozen, at_ns)
        after.add((turn.at_ns - at_ns) / NS_PER_MS)
        await line.until_due_in(LEADS_MS[repetition % len(LEADS_MS)])
        leader.thaw()
        thawed_ns = now_ns()

        async def has_stepped_down(leader=leader, roles=roles):
            return leader.roles[roles:]

        assert await until(has_stepped_down, "it takes note") == ["standby"]
        standby.add((now_ns() - thawed_ns) / NS_PER_MS)
        await line.until_turns(SETTLED_TURNS)
        assert frozen not in await line.granters_since(thawed_ns)
        await leader.until_ready()
    show("SIGSTOP of the leader past its lease, then SIGCONT: it granted nothing", after, standby)
    assert after.worst < (LEASE_S + 1) * 1000


async def test_two_replicas_with_one_name_never_both_lead(nats_server, tmp_path):
    async with (
        running_replicas(tmp_path, nats_server.url, count=2, IDENTIFY_REPLICA_NAME="twin") as twins,
        watched_ledger(nats_server.url) as ledger,
        NatsQueue.connect(nats_server.url) as queue,
        Line(queue, ledger, hold_s=WINDOW_S + MARGIN_S).moving() as line,
    ):
        for _ in range(REPETITIONS):
            await line.until_turns(SETTLED_TURNS)
            first = twins.by_instance(await line.granter_of(line.turns[-1]))
            (second,) = (twin for twin in twins if twin is not first)
            first.freeze()
            await until(second.is_leader, "the second leads")
            first.thaw()
            await line.until_turns(SETTLED_TURNS)
            assert (first.roles[-1], second.roles[-1]) == ("standby", "leader")
    print(f"\ntwo replicas with one name, {REPETITIONS} x SIGSTOP of the one that led: {ledger.summary()}")
    ledger.demand_one_leader_in_each_term()
    assert len(ledger.leaders_by_term) == REPETITIONS + 1


async def test_a_successor_with_a_shorter_use_within_keeps_the_promise(nats_server, client, tmp_path):
    """The first shard never answers: its bucket stays shut for as long as its leader promised, not its successor."""
    hold_s = LONG_S + WINDOW_S + MARGIN_S
    waited = Figures(f"granted after the unanswered grant of a leader that promised {hold_s:g} s")
    for repetition in range(REPETITIONS):
        prefix = f"run{repetition}"
        common: dict[str, Any] = {"count": 1, "IDENTIFY_PREFIX": prefix}
        async with (
            running_replicas(tmp_path, nats_server.url, IDENTIFY_USE_WITHIN=str(LONG_S), **common) as before,
            running_replicas(tmp_path / prefix, nats_server.url, IDENTIFY_USE_WITHIN="0.5", **common) as after,
            NatsQueue.connect(nats_server.url, prefix=prefix) as queue,
        ):
            (leader,), (successor,) = before, after
            await until(leader.is_leader, "the one with the longer time leads")
            await sleep_s(LEASE_S / 2)  # a heartbeat: the successor has seen the ledger move, and trusts it
            silent, asked_ns = Mailbox(client, prefix), now_ns()
            await silent.open()
            granted, _ = await silent.until_granted("silent")
            assert granted["use_within_ms"] == LONG_S * 1000
            next_one = asyncio.create_task(queue.acquire(1))
            await sleep_s(0.2)  # the successor has seen the grant
            leader.process.kill()
            grant = await next_one
            waited.add((now_ns() - asked_ns) / NS_PER_MS)
            assert await successor.is_leader()
            queue.decline(grant)
    show("A successor with IDENTIFY_USE_WITHIN=0.5 after kill -9 of a leader with 6", waited)
    assert min(waited.values) >= hold_s * 1000
