"""How long an idle bucket makes a shard wait: request to grant, against a bare KV update in the same run.

It never asserts: a small shared machine is too noisy for an absolute figure, so it prints a ratio.

    python -m benchmarks.idle_latency [--buckets 1000] [--at-once 1]
"""

import argparse
import asyncio
import time
from statistics import median

from nats.aio.client import Client
from nats.js.kv import KeyValue

from benchmarks.figures import percentile, ratio
from benchmarks.stage import run_cluster, static_limits
from nats_identify.wire import Granted, decode_reply


async def grant_ms(connection: Client, bucket: int) -> float:
    """Ask one idle bucket, as any NATS client would."""
    begun_s = time.perf_counter()
    reply = await connection.request(f"identify.request.{bucket}", b"", timeout=30)
    taken_ms = (time.perf_counter() - begun_s) * 1000
    if not isinstance(decode_reply(reply.data), Granted):
        raise TypeError(reply.data)
    return taken_ms


async def update_ms(kv: KeyValue, revision: int) -> tuple[float, int]:
    """Update one key by compare-and-set."""
    begun_s = time.perf_counter()
    revision = await kv.update("key", b"x" * 200, last=revision)
    return (time.perf_counter() - begun_s) * 1000, revision


async def measure(buckets: int, at_once: int) -> tuple[list[float], list[float]]:
    """Take turns: some buckets asked, as many bare updates. Return the milliseconds of both."""
    async with run_cluster(static_limits(buckets)) as cluster:
        kv = await cluster.connection.jetstream().create_key_value(bucket="bare")
        revision = await kv.create("key", b"")
        grants: list[float] = []
        updates: list[float] = []
        for first in range(0, buckets, at_once):
            batch = range(first, min(first + at_once, buckets))
            grants += await asyncio.gather(*(grant_ms(cluster.connection, bucket) for bucket in batch))
            for _ in batch:
                taken_ms, revision = await update_ms(kv, revision)
                updates.append(taken_ms)
        return grants, updates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--buckets", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    grants, updates = asyncio.run(measure(options.buckets, options.at_once))
    print(f"{options.buckets} idle buckets, {options.at_once} at once")
    for name, values in (("request to grant", grants), ("bare KV update", updates)):
        p99 = percentile(values, 99)
        print(f"  {name:18} median {median(values):6.2f} ms   p99 {p99:6.2f} ms   max {max(values):6.2f} ms")
    print(f"  ratio of the p99s: {ratio(percentile(grants, 99), percentile(updates, 99)):.2f}")


if __name__ == "__main__":
    main()
