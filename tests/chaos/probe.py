"""Tries a compare-and-set every few milliseconds, beside the product: when is it away, and since when is it back?

It uses the KV bucket of the ledger, so the same replicas and the same stream leader, but keys of its own. It judges
nothing.
"""

import asyncio
import contextlib
import json
from itertools import count

import nats
from nats.js import api

from nats_identify.clock import now_ns
from tests.processes import until

EVERY_S = 0.005
FRESH_KEY = {api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: "0"}


class CompareAndSetProbe:
    """Creates one key after the other; a key that is acknowledged proves that compare-and-set works.

    Attributes:
        sent_ns: when each try left.
        acknowledged_ns: when each success was heard of.
    """

    def __init__(self, bucket, name):
        self.sent_ns = {}
        self.acknowledged_ns = {}
        self._subject = f"$KV.{bucket}.{name}"

    async def run(self, servers):
        connection = await nats.connect(servers, max_reconnect_attempts=-1, error_cb=_ignore)
        inbox = connection.new_inbox()
        try:
            await connection.subscribe(f"{inbox}.*", cb=self._hear)
            for number in count():
                self.sent_ns[number] = now_ns()
                await connection.publish(f"{self._subject}.{number}", b"", reply=f"{inbox}.{number}", headers=FRESH_KEY)
                await asyncio.sleep(EVERY_S)  # between two tries
        finally:
            await connection.close()

    async def _hear(self, message):
        if message.data and "error" not in json.loads(message.data):  # empty: 503, no stream leader listens
            self.acknowledged_ns[int(message.subject.rpartition(".")[2])] = now_ns()

    async def until_away_and_back(self, since_ns):
        """Return three instants: the first try that failed, the last one before it worked again, and its success."""

        async def look():
            failed = [at_ns for number, at_ns in self.sent_ns.items() if number not in self.acknowledged_ns]
            failed = [at_ns for at_ns in failed if at_ns >= since_ns]
            back = [at_ns for at_ns in self.acknowledged_ns.values() if failed and at_ns > failed[0] + AWAY_MIN_NS]
            if not back:
                return None
            return failed[0], max(at_ns for at_ns in failed if at_ns < back[0]), back[0]

        return await until(look, "compare-and-set was away and is back", within_s=60)


AWAY_MIN_NS = 1_000_000_000
"""A stream whose leader was killed is away for longer than this: an acknowledgement sooner was still its own."""


@contextlib.asynccontextmanager
async def probing(servers, bucket, name):
    """Probe during the block."""
    probe = CompareAndSetProbe(bucket, name)
    running = asyncio.create_task(probe.run(servers))
    try:
        yield probe
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _ignore(_error):
    """A server is killed here on purpose."""
