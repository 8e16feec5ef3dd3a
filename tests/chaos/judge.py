"""Judges a chaos run: by what the simulated Discord saw, what the shards answered, and every commit of the ledger.

It causes nothing. What it demands holds whatever befell the processes; what a fault excuses, the test says.
"""

import json
from collections import defaultdict
from contextlib import asynccontextmanager

import nats
from nats.js import api

from nats_identify import NatsQueue
from nats_identify.attempt import SendAnswer
from nats_identify.schedule.model import Outcome
from nats_identify.testing.events import Identified
from nats_identify.testing.judge import Verdict
from tests.processes import until


class RecordingQueue(NatsQueue):
    """A queue that keeps what its shards did.

    Attributes:
        asked: shard ids, one for each asking that was begun.
        answers: what each grant was answered with first.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.asked = []
        self.answers = {}

    def _begin(self, shard_id, priority, on_progress):
        self.asked.append(shard_id)
        return super()._begin(shard_id, priority, on_progress)

    def _post(self, entry, message):
        if isinstance(message, SendAnswer):
            self.answers.setdefault(message.to.rpartition(".")[2], message.outcome)
        super()._post(entry, message)

    def answered(self, outcome):
        return {grant_id for grant_id, said in self.answers.items() if said is outcome}


class WatchedLedger:
    """Every commit that was seen, added up.

    Attributes:
        leaders_by_term: which processes wrote in each term.
        charged: every grant that was ever in it; a hold on everything is none.
        remaining, live: of the newest commit.
        went_back: commits that were older than one before them, by (term, sequence).
    """

    def __init__(self):
        self.commits = 0
        self.leaders_by_term = defaultdict(set)
        self.charged = set()
        self.remaining = None
        self.live = set()
        self.went_back = 0
        self._newest = (0, 0)

    async def hear(self, message):
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
        self.remaining = ledger["remaining"]

    async def until_settled(self):
        """Wait until no grant is live: what was to be given back has been."""

        async def look():
            return not self.live

        await until(look, "the last hold is over")

    def summary(self):
        return f"{self.commits} commits seen, terms {min(self.leaders_by_term)} to {max(self.leaders_by_term)}"

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


def demand_exact_budget(queue, ledger, *, total, shards, unanswered_most=0):
    """Each IDENTIFY was charged once, and nothing else was.

    ``unanswered_most``: grants whose hold may have run out before their shard could answer, as when NATS was cut
    off. They stay charged, since nobody can know that nothing was sent.
    """
    used = queue.answered(Outcome.IDENTIFIED)
    assert queue.asked == list(range(shards))
    assert len(used) == shards
    assert used <= ledger.charged
    unused = total - ledger.remaining - shards
    lost = ledger.charged - used - queue.answered(Outcome.DECLINED)
    print(
        f"budget: {total - ledger.remaining} charged for {shards} IDENTIFYs; {len(ledger.charged)} grants committed,"
        f" {len(queue.answered(Outcome.DECLINED))} declined, {len(lost)} never answered"
    )
    assert 0 <= unused <= min(len(lost), unanswered_most)
