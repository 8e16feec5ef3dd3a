"""A hundred clients that take any response as permission, while coordinators are killed and the queue is overloaded."""

import asyncio
import contextlib
import signal
import socket
import time
from functools import partial

import pytest

from nats_identify.testing.judge import Day, Judge, Verdict
from tests.http_clients import twilight
from tests.processes import until

pytestmark = pytest.mark.slow

SHARDS = 100
BUCKETS = 4
KILLS = 8
WINDOW_NS = 400_000_000
GRACE_S = 0.5
SENT_WITHIN_S = 0.3
"""What a client takes of it at most; the rest is for a busy machine. Reported at once, the window would be broken."""
SETTINGS = {
    "IDENTIFY_LEASE": "0.6",
    "IDENTIFY_LOG_LEVEL": "info",
    "IDENTIFY_MAX_CONCURRENCY": str(BUCKETS),
    "IDENTIFY_GRACE": str(GRACE_S),
    "IDENTIFY_USE_WITHIN": "2",
    "IDENTIFY_MAX_WAITING": "120",  # a replica's clients share a quarter of it: the others are refused `overloaded`
    "IDENTIFY_QUEUE_HTTP_MAX_WAITING": "40",  # the others are closed without a response
}


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


async def test_no_client_is_early_through_kills_and_overload(start_coordinator):
    """Clients identify within the grace after their permission, at random: none may be early."""
    ports = free_ports(2)
    replicas = [await start_coordinator(**SETTINGS, IDENTIFY_QUEUE_HTTP_PORT=str(ports[0]))]
    replicas.append(await start_coordinator(**SETTINGS, IDENTIFY_QUEUE_HTTP_PORT=str(ports[1]), until_leader=False))
    await until(replicas[1].is_ready, "both are ready")
    judge, judgements, begun_s = Judge(Day(time.monotonic_ns()), window_ns=WINDOW_NS), [], time.monotonic()

    def identify(shard_id):
        judgements.append(judge.identify(time.monotonic_ns(), shard_id, BUCKETS))

    at = [("127.0.0.1", port) for port in ports]
    clients = [
        asyncio.create_task(twilight(at, shard_id, partial(identify, shard_id), SENT_WITHIN_S))
        for shard_id in range(SHARDS)
    ]

    async def is_further_than(count):
        return len(judgements) >= count

    refused = {"full": 0.0, "overloaded": 0.0}
    try:
        for kill in range(KILLS):
            await until(partial(is_further_than, 8 * (kill + 1)), f"{8 * (kill + 1)} identified", within_s=240)
            killed = replicas[kill % 2]
            refused["full"] += await killed.metric('identify_http_queue_total{outcome="full"}')
            refused["overloaded"] += await killed.metric('identify_refusals_total{code="overloaded"}')
            await killed.end(signal.SIGKILL)
            await killed.start()
        broken = await asyncio.wait_for(asyncio.gather(*clients), 600)
    finally:
        for client in clients:
            client.cancel()
    verdicts = [one.verdict for one in judgements]
    gaps_ns = [one.gap_ns for one in judgements if one.gap_ns is not None]
    print(
        f"\n{SHARDS} twilight clients in {BUCKETS} buckets, {KILLS} x kill -9: {time.monotonic() - begun_s:.0f} s, "
        f"{verdicts.count(Verdict.ACCEPTED)} accepted, {SHARDS - verdicts.count(Verdict.ACCEPTED)} early, "
        f"smallest gap {min(gaps_ns) / 1e9:.3f} s of {WINDOW_NS / 1e9} s, {sum(broken)} connections broken, {refused}"
    )
    assert sorted(one.shard_id for one in judgements) == list(range(SHARDS))
    assert set(verdicts) == {Verdict.ACCEPTED}
    assert refused["full"] > 0
    assert refused["overloaded"] > 0
