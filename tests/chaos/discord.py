"""The simulated Discord in a process of its own: whatever stalls the shards here does not stall its clock.

It looks and judges nothing itself; it follows the gateway's events, and keeps them in a record of the same kind.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

import aiohttp

from nats_identify.testing import events
from nats_identify.testing.judge import Verdict
from nats_identify.testing.record import Record

_KINDS = {
    kind.kind: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.GatewayEvent) and kind is not events.GatewayEvent
}


class Discord:
    """A gateway elsewhere.

    Attributes:
        record: what its events say so far.
    """

    def __init__(self, ws_url: str):
        self.ws_url = ws_url
        self.record = Record()
        self._news = asyncio.Event()

    async def until(self, condition, *, within_s):
        """Wait for a condition on the report, and return the report that meets it."""
        try:
            async with asyncio.timeout(within_s):
                while not condition(report := self.record.report()):
                    self._news.clear()
                    await self._news.wait()
                return report
        except TimeoutError:
            raise TimeoutError(f"not met within {within_s} s; so far: {self.record.report()}") from None

    async def follow(self, lines: aiohttp.StreamReader):
        async for line in lines:
            fields = json.loads(line)
            kind = _KINDS[fields.pop("event")]
            if "verdict" in fields:
                fields["verdict"] = Verdict(fields["verdict"])
            self.record.add(kind(**fields))
            self._news.set()


@asynccontextmanager
async def running_discord(*, max_concurrency: int, total: int, shards: int, window_s: float):
    """Run it during the block."""
    command = [sys.executable, "-m", "nats_identify.testing", "--shards", str(shards), "--total", str(total)]
    command += ["--max-concurrency", str(max_concurrency), "--window-s", str(window_s)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        urls = json.loads(await process.stdout.readline())
        discord = Discord(urls["ws_url"])
        endless = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=endless) as http, http.get(urls["events_url"]) as stream:
            following = asyncio.create_task(discord.follow(stream.content))
            try:
                yield discord
            finally:
                following.cancel()
    finally:
        process.terminate()
        await process.wait()
