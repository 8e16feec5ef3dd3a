"""Judges a chaos run: by what the simulated Discord saw, what the shards answered, and every commit of the ledger.

It causes nothing. What it demands holds whatever befell the processes; what a fault excuses, the test says.
"""

import json
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager

import nats
from nats.js import api

from nats_identify import NatsQueue
from nats_identify.client.requester import SendAnswer
from nats_identify.schedule.model import Outcome
from nats_identify.testing.events import Identified
from nats_identify.testing.judge import Verdict
from tests.processes import until


class Deeds:
    """What the shards of all pods did.

    Attributes:
        asked: shard ids, one for each request that was begun.
        answers: what each grant was answered with first.
    """

    def __init__(self):
        self.asked = []
        self.answers = {}

    def answered(self, outcome):
        return {grant_id for grant_id, said in self.answers.items() if said is outcome}


class RecordingQueue(NatsQueue):
    """One pod's queue, with a connection of its own; it keeps what its shards did."""

    deeds: Deeds

    def _begin(self, shard_id, priority, on_progress, place=None):
        self.deeds.asked.append(shard_id)
        return super()._begin(shard_id, priority, on_progress, place)

    def _send(self, entry, message):
        if isinstance(message, SendAnswer):
            self.deeds.answers.setdefault(message.to.rpartition(".")[2], message.outcome)
        super()._send(entry, message)


@asynccontextmanager
async def recording_pods(urls, count):
    """So many queues, each with a connection of its own that comes back in its own time; and what they did."""
    deeds = Deeds()
    async with AsyncExitStack() as stack:
        queues = []
        for _ in range(count):
            queue = RecordingQueue.connect(urls)
            queue.deeds = deeds
            queues.append(await stack.enter_async_context(queue))
        yield queues, deeds


class WatchedLedger:
    """Every commit that was seen, added up.

    Attributes:
        leaders_by_term: which processes wrote in each term.
        charged: every grant that was ever in it; a hold on everything is none.
        made_by: by grant, the process that wrote it first.
        remaining, live: of the newest commit.
        went_back: commits that were older than one before them, by (term, sequence).
        missed: commits that were not seen: the key keeps one revision, and a watch that was cut off begins anew.
    """

    def __init__(self):
        self.commits = 0
        self.leaders_by_term = defaultdict(set)
        self.charged = set()
        self.made_by: dict[str, str] = {}
        self.remaining = None
        self.live = set()
        self.went_back = 0
        self.missed = 0
        self._revision = None
        self._newest = (0, 0)

    async def hear(self, message):
        before, self._revision = self._revision, message.metadata.sequence.stream
        self.missed += 0 if before is None else max(0, self._revision - before - 1)
        if message.headers and "KV-Operation" in message.headers:  # somebody deleted it
            return
        ledger = json.loads(message.data)
        age = (ledger["term"], ledger["sequence"])
        self.commits += 1
        self.went_back += age < self._newest
        self._newest = max(age, self._newest)
        self.leaders_by_term[ledger["term"]].add(ledger["instance"])
        self.live = {grant["grant_id"] for grant in ledger["grants"] if grant["request_id"]}
        self.charged |= self.live
        for grant_id in self.live:
            self.made_by.setdefault(grant_id, ledger["instance"])
        self.remaining = ledger["remaining"]

    async def until_settled(self):
        """Wait until no grant is live: what was to be given back has been."""

        async def look():
            return not self.live

        await until(look, "the last hold is over")

    def summary(self):
        terms = f"terms {min(self.leaders_by_term)} to {max(self.leaders_by_term)}"
        return f"{self.commits} commits seen, {self.missed} missed, {terms}"

    def demand_one_leader_in_each_term(self):
        """A term is one leader's, and the ledger never went back."""
        assert self.went_back == 0
        assert all(len(leaders) == 1 for leaders in self.leaders_by_term.values()), self.leaders_by_term


@asynccontextmanager
async def watched_ledger(servers, bucket="identify"):
    """Watch every commit during the block."""
    connection = await nats.connect(
        servers, max_reconnect_attempts=-1, reconnect_time_wait=0.1, ping_interval=2, error_cb=ignore
    )
    ledger = WatchedLedger()
    try:
        await connection.jetstream().subscribe(
            f"$KV.{bucket}.ledger",
            stream=f"KV_{bucket}",
            cb=ledger.hear,
            ordered_consumer=True,
            idle_heartbeat=0.5,
            deliver_policy=api.DeliverPolicy.LAST,
        )
        yield ledger
    finally:
        await connection.close()


async def ignore(_error):
    """Servers are killed here on purpose; the client mends itself."""


def demand_served_once_and_in_order(gateway, shards, max_concurrency):
    """Every shard READY once, no window broken, each bucket in the order in which its shards asked."""
    report = gateway.record.report()
    events = gateway.record.of(Identified)
    assert report.violations == 0, [event for event in events if event.verdict is not Verdict.ACCEPTED]
    identified = [event.shard_id for event in events]
    assert dict(report.ready_by_shard) == dict.fromkeys(range(shards), 1)
    for bucket in range(max_concurrency):
        of_bucket = [shard_id for shard_id in identified if shard_id % max_concurrency == bucket]
        assert of_bucket == list(range(bucket, shards, max_concurrency)), f"bucket {bucket}: {of_bucket}"


def demand_exact_budget(deeds, ledger, *, total, shards, unanswered_most=0):
    """Each IDENTIFY was charged once, and nothing else was.

    ``unanswered_most``: grants whose hold may have run out before their shard could answer, as when NATS was cut
    off, or their leader died between its commit and its reply. They stay charged, since it cannot be known that nothing
    was sent. Each was seen in a commit, but for those that the watch missed.
    """
    used = deeds.answered(Outcome.IDENTIFIED)
    assert deeds.asked == list(range(shards))
    assert len(used) == shards
    assert ledger.missed or used <= ledger.charged
    unused = total - ledger.remaining - shards
    lost = ledger.charged - used - deeds.answered(Outcome.DECLINED)
    print(
        f"budget: {total - ledger.remaining} charged for {shards} IDENTIFYs; {len(ledger.charged)} grants committed,"
        f" {len(deeds.answered(Outcome.DECLINED))} declined, {len(lost)} never answered"
    )
    assert 0 <= unused <= (unanswered_most if ledger.missed else min(len(lost), unanswered_most))
