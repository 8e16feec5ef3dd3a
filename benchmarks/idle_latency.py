"""How long an idle bucket makes a shard wait: request to grant, against a bare KV update in the same run.

It never asserts: a small shared machine is too noisy for an absolute figure, so it prints a ratio.

    python -m benchmarks.idle_latency [--buckets 1000] [--at-once 1]
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median, quantiles

import nats
from nats.aio.client import Client
from nats.js.kv import KeyValue

from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.wire import Granted, decode_reply

TRIES = 200


@asynccontextmanager
async def coordinator(url: str, buckets: int) -> AsyncIterator[None]:
    """A coordinator process with this many buckets."""
    settings = {
        "NATS_URL": url,
        "IDENTIFY_FRESH_START": "1",
        "IDENTIFY_MAX_CONCURRENCY": str(buckets),
        "IDENTIFY_SESSION_TOTAL": "1000000",
        "IDENTIFY_HTTP_PORT": "0",
        "IDENTIFY_LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "coordinator", env={**os.environ, **settings}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def leading(connection: Client) -> None:
    """Wait until somebody leads."""
    for _ in range(TRIES):
        with suppress(nats.errors.Error):
            info = await connection.request("identify.info", b"", timeout=1)
            if b'"leader":null' not in info.data:
                return
        await asyncio.sleep(0.05)  # between two looks
    raise TimeoutError("no coordinator leads")


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
    """Take turns: some buckets asked, as many bare updates."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedNats(Path(folder)) as server, coordinator(server.url, buckets):
            connection = await nats.connect(server.url)
            await leading(connection)
            kv = await connection.jetstream().create_key_value(bucket="bare")
            revision = await kv.create("key", b"")
            grants: list[float] = []
            updates: list[float] = []
            for first in range(0, buckets, at_once):
                batch = range(first, min(first + at_once, buckets))
                grants += await asyncio.gather(*(grant_ms(connection, bucket) for bucket in batch))
                for _ in batch:
                    taken_ms, revision = await update_ms(kv, revision)
                    updates.append(taken_ms)
            await connection.close()
            return grants, updates


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100)[98]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--buckets", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    grants, updates = asyncio.run(measure(options.buckets, options.at_once))
    print(f"{options.buckets} idle buckets, {options.at_once} at once")
    for name, values in (("request to grant", grants), ("bare KV update", updates)):
        print(f"  {name:18} median {median(values):6.2f} ms   p99 {p99(values):6.2f} ms   max {max(values):6.2f} ms")
    print(f"  ratio of the p99s: {p99(grants) / p99(updates):.2f}")


if __name__ == "__main__":
    main()
