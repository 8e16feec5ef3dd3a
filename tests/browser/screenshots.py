"""Makes the pictures of the page for the docs: python -m tests.browser.screenshots. Needs Chromium; a minute.

A real nats-server, two coordinators, forty shards in four buckets, a crash loop, a rejected IDENTIFY.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.errors import NoRespondersError

from nats_identify.processes.nats_server import EmbeddedNats
from tests.browser.chromium import Tab, chromium, executable
from tests.browser.scene import SceneShard
from tests.processes import QUICK, ROOT, CoordinatorProcess, until

IMAGES = ROOT / "docs" / "images"
SETTINGS = {
    **{name: value for name, value in QUICK.items() if name not in {"IDENTIFY_WINDOW", "IDENTIFY_MARGIN"}},
    "IDENTIFY_USE_WITHIN": "5",
    "IDENTIFY_GRACE": "1",
    "IDENTIFY_MAX_CONCURRENCY": "4",
    "IDENTIFY_CRASH_LOOP_GRANTS": "3",
}
SEEN_S = 25.0


async def main(folder: Path) -> None:
    """Play the scene, and make the pictures."""
    async with EmbeddedNats(folder / "nats") as server:
        named = {"NATS_URL": server.url, "IDENTIFY_LOG_LEVEL": "info"}
        pods = [
            CoordinatorProcess(folder / f"{name}.log", {**SETTINGS, **named, "IDENTIFY_REPLICA_NAME": name})
            for name in ("coordinator-0", "coordinator-1")
        ]
        try:
            for pod in pods:
                await pod.start()
                await until(pod.is_ready, "it is ready")
            await _play(server.url, pods, folder)
        finally:
            for pod in pods:
                await pod.end()


async def _play(url: str, pods: list[CoordinatorProcess], folder: Path) -> None:
    connection = await nats.connect(url)
    shards = [_shard(connection, number) for number in range(40)]
    tasks = []
    for shard in shards:
        tasks.append(asyncio.create_task(shard.run()))
        await asyncio.sleep(0.02)  # in their order
    try:
        (leader,) = [pod for pod in pods if await pod.is_leader()]
        (standby,) = [pod for pod in pods if pod is not leader]
        async with chromium(folder) as tab:
            await tab.open(f"http://{leader.logged('HTTP is served')[-1]['addresses'][0]}/#find=29")
            await asyncio.sleep(SEEN_S)  # the scene is played
            await _pause(connection)
            await _save(tab, "page-light", 1100, 1190)
            await _save(tab, "page-dark", 1100, 1190, dark=True)
            await _save(tab, "page-narrow", 390, 1600)
            await tab.do("Page.navigate", url=f"http://{standby.logged('HTTP is served')[-1]['addresses'][0]}/")
            if "--standby" in sys.argv:
                await _save(tab, "page-standby", 1100, 1190)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()


def _shard(connection: Client, number: int) -> SceneShard:
    outcomes: tuple[str, ...] = ("ready",)
    if number == 2:
        outcomes = ("ready",) * 6  # a crash loop
    elif number == 5:
        outcomes = ("rejected", "ready")
    elif number == 11:
        outcomes = ("declined", "ready")
    priority = 1 if number in {2, 5} else 0  # lost sessions
    return SceneShard(connection, number, 4, f"shards-{number // 8}", outcomes, priority, 0.5 + number % 5 / 10)


async def _pause(connection: Client) -> None:
    pause = {"by": "alice@laptop", "why": "a new release is rolled back", "for_ms": 600_000, "below_priority": 1}
    try:
        await connection.request("identify.pause", json.dumps(pause).encode(), timeout=5)
    except (NoRespondersError, nats.errors.TimeoutError):
        print("this coordinator knows no pause: the pictures have none")


async def _save(tab: Tab, name: str, width: int, height: int, *, dark: bool = False) -> None:
    path = IMAGES / f"{name}.png"
    path.write_bytes(await tab.picture(width, height, dark=dark))
    print(path.relative_to(ROOT), path.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    if executable() is None:
        sys.exit("Chromium is not installed; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(Path(made)))
