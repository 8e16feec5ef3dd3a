"""How long an idle bucket makes a shard wait: request to grant, against a bare KV update in the same run.

It never asserts: a small shared machine is too noisy for an absolute figure, so it prints a ratio.

    python -m benchmarks.idle_latency [--buckets 1000] [--at-once 1]
"""

import argparse
import asyncio
import time
from dataclasses import dataclass
from statistics import median
from typing import Final

from nats.aio.client import Client
from nats.js.kv import KeyValue

from benchmarks.figures import percentile, ratio
from benchmarks.stage import run_cluster, static_limits
from nats_identify.wire import Granted, decode_reply

KEY_BYTES: Final = 200
LARGE_UPDATES: Final = 400
LONG_HOLD: Final = {"IDENTIFY_WINDOW": "60"}
"""Every grant of a run stays live to its end."""


async def grant_ms(connection: Client, bucket: int) -> float:
    """Ask one idle bucket, as any NATS client would."""
    begun_s = time.perf_counter()
    reply = await connection.request(f"identify.request.{bucket}", b"", timeout=30)
    taken_ms = (time.perf_counter() - begun_s) * 1000
    if not isinstance(decode_reply(reply.data), Granted):
        raise TypeError(reply.data)
    return taken_ms


async def update_ms(kv: KeyValue, revision: int, size: int = KEY_BYTES) -> tuple[float, int]:
    """Update one key by compare-and-set."""
    value = b"x" * size
    begun_s = time.perf_counter()
    revision = await kv.update("key", value, last=revision)
    return (time.perf_counter() - begun_s) * 1000, revision


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run measured, in milliseconds.

    Attributes:
        grants: from the request to the grant, in the order of the requests: each stays live for the whole run.
        updates: bare updates of a small value, in turn with the requests.
        ledger_bytes: the size of the ledger at the end.
        large_updates: then, bare updates of a value of that size.
    """

    grants: list[float]
    updates: list[float]
    ledger_bytes: int
    large_updates: list[float]


async def measure(buckets: int, at_once: int) -> Measured:
    """Take turns: some buckets asked, as many bare updates; then updates as large as the ledger has become."""
    async with run_cluster({**static_limits(buckets), **LONG_HOLD}) as cluster:
        jetstream = cluster.connection.jetstream()
        kv = await jetstream.create_key_value(bucket="bare")
        revision = await kv.create("key", b"")
        grants: list[float] = []
        updates: list[float] = []
        large: list[float] = []
        for first in range(0, buckets, at_once):
            batch = range(first, min(first + at_once, buckets))
            grants += await asyncio.gather(*(grant_ms(cluster.connection, bucket) for bucket in batch))
            for _ in batch:
                taken_ms, revision = await update_ms(kv, revision)
                updates.append(taken_ms)
        ledger = await (await jetstream.key_value("identify")).get("ledger")
        size = len(ledger.value or b"")
        for _ in range(LARGE_UPDATES):
            taken_ms, revision = await update_ms(kv, revision, size)
            large.append(taken_ms)
        return Measured(grants, updates, size, large)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--buckets", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    measured = asyncio.run(measure(options.buckets, options.at_once))
    grants, updates = measured.grants, measured.updates
    print(f"{options.buckets} idle buckets, {options.at_once} at once")
    large = f"of {measured.ledger_bytes} B"
    for name, values in (("request to grant", grants), ("bare KV update", updates), (large, measured.large_updates)):
        p99 = percentile(values, 99)
        print(f"  {name:18} median {median(values):6.2f} ms   p99 {p99:6.2f} ms   max {max(values):6.2f} ms")
    print(f"  ratio of the p99s: {ratio(percentile(grants, 99), percentile(updates, 99)):.2f}")


if __name__ == "__main__":
    main()
