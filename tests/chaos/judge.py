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
from nats_identify.clock import NS_PER_MS, NS_PER_S, now_ns
from nats_identify.schedule.model import Outcome
from nats_identify.testing.events import Identified
from nats_identify.testing.judge import Verdict
from nats_identify.wire import Granted, Queued
from tests.processes import until

MESSAGE_SHOWN_MAX = 400
COMMIT_WITHIN_NS = 300 * NS_PER_MS
"""A commit takes less, and less than a window of these tests: one other grant at most can be under way."""


class Deeds:
    """What the shards of all pods did.

    Attributes:
        asked: shard ids, one for each request that was begun.
        answers: what each grant was answered with first.
        messages: by shard, each message that it sent or received, with the time: printed where one lost its place.
    """

    def __init__(self):
        self.asked = []
        self.answers = {}
        self.messages = defaultdict(list)

    def note(self, shard_id, message):
        self.messages[shard_id].append((now_ns(), message))

    def answered(self, outcome):
        return {grant_id for grant_id, said in self.answers.items() if said is outcome}


class RecordingQueue(NatsQueue):
    """One pod's queue, with a connection of its own; it keeps what its shards did."""

    deeds: Deeds

    def _begin(self, shard_id, priority, on_progress, place=None):
        self.deeds.asked.append(shard_id)
        return super()._begin(shard_id, priority, on_progress, place)

    def _send(self, pending, message):
        self.deeds.note(pending.requester.shard_id, message)
        if isinstance(message, SendAnswer):
            self.deeds.answers.setdefault(message.to.rpartition(".")[2], message.outcome)
        super()._send(pending, message)

    def _received(self, request_id, event):
        pending = self._pending.get(request_id) or self._ended.get(request_id)
        if pending is not None:
            self.deeds.note(pending.requester.shard_id, event.reply)
        super()._received(request_id, event)


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
        commits_of: by shard, the commits in which a grant of it was new, with the time at which they were seen.
        remaining, live: of the newest commit.
        went_back: commits that were older than one before them, by (term, sequence).
        missed: commits that were not seen: the key keeps one revision, and a watch that was cut off begins anew.
    """

    def __init__(self):
        self.commits = 0
        self.leaders_by_term = defaultdict(set)
        self.charged = set()
        self.made_by: dict[str, str] = {}
        self.commits_of = defaultdict(list)
        self.remaining = None
        self.live = set()
        self.went_back = 0
        self.missed = 0
        self._revision = None
        self._newest = (0, 0)

    async def hear(self, message):
        before, self._revision = self._revision, message.metadata.sequence.stream
        self.missed += 0 if before is None else max(0, self._revision - before - 1)
        if message.headers and "KV-Operation" in message.headers:  # it was deleted
            return
        ledger = json.loads(message.data)
        age = (ledger["term"], ledger["sequence"])
        self.commits += 1
        self.went_back += age < self._newest
        self._newest = max(age, self._newest)
        self.leaders_by_term[ledger["term"]].add(ledger["instance"])
        grants = {grant["grant_id"]: grant["shard_id"] for grant in ledger["grants"] if grant["request_id"]}
        for grant_id in grants.keys() - self.live:
            self.commits_of[grants[grant_id]].append((now_ns(), f"grant {grant_id} in commit {age}"))
        self.live = set(grants)
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


def demand_served_once_and_in_order(gateway, shards, max_concurrency, deeds=None, ledger=None):
    """Every shard READY once, no window broken, each bucket in the order in which its shards asked.

    With ``deeds`` and ``ledger`` a shard whose grant came too late is excused until a coordinator has its next renewal,
    and all that is known of a shard that lost its place is printed.
    """
    report = gateway.record.report()
    events = gateway.record.of(Identified)
    assert report.violations == 0, [event for event in events if event.verdict is not Verdict.ACCEPTED]
    identified = [event.shard_id for event in events]
    assert dict(report.ready_by_shard) == dict.fromkeys(range(shards), 1)
    for bucket in range(max_concurrency):
        of_bucket = [shard_id for shard_id in identified if shard_id % max_concurrency == bucket]
        in_order = list(range(bucket, shards, max_concurrency))
        assert sorted(of_bucket) == in_order, f"bucket {bucket}: {of_bucket}"
        excused = set() if deeds is None else {one for one in in_order if is_excused(one, of_bucket, deeds)}
        if excused:
            print(f"  bucket {bucket}: the grant of {excused} came too late; later ones were granted before it renewed")
        judged = [one for one in of_bucket if one not in excused]
        if deeds is not None and judged != sorted(judged):
            misplaced = [one for one, other in zip(of_bucket, in_order, strict=True) if one != other]
            print_history(misplaced, deeds, ledger)
        assert judged == sorted(judged), f"bucket {bucket}: {of_bucket}"


def is_excused(shard_id, of_bucket, deeds):
    """Whether each shard that passed this one did so after a grant of this one, and before its next renewal arrived.

    A request that declined a grant as too late keeps its place, and is not granted before it renews (docs/protocol.md):
    its renewal may be lost, too. The commit of another grant may be under way when it arrives.
    """
    passed_by = [one for one in of_bucket[: of_bucket.index(shard_id)] if one > shard_id]
    passed_ns = [used_grant_at_ns(deeds.messages[one]) for one in passed_by]
    absences = absences_of(deeds.messages[shard_id])
    return bool(passed_ns) and all(
        any(from_ns < at_ns < until_ns + COMMIT_WITHIN_NS for from_ns, until_ns in absences) for at_ns in passed_ns
    )


def absences_of(messages):
    """For each declined grant, when it was published, and the first reply after it was declined."""
    found: list[tuple[int, int]] = []
    published_ns: dict[str, int] = {}
    declined: set[str] = set()
    for number, (_, said) in enumerate(messages):
        if isinstance(said, Granted):
            published_ns.setdefault(said.grant_id, published_at_ns(messages, said))
        if isinstance(said, SendAnswer) and said.outcome is Outcome.DECLINED:
            grant_id = said.to.rpartition(".")[2]
            back_ns = [at_ns for at_ns, reply in messages[number + 1 :] if isinstance(reply, Queued | Granted)]
            if grant_id not in declined and back_ns and grant_id in published_ns:
                found.append((published_ns[grant_id], back_ns[0]))
            declined.add(grant_id)  # it is declined again for each copy that arrives
    return found


def used_grant_at_ns(messages):
    """When the grant was first published that the shard used."""
    (used,) = {said.to.rpartition(".")[2] for _, said in messages if is_use(said)}
    return min(
        published_at_ns(messages, said) for _, said in messages if isinstance(said, Granted) and said.grant_id == used
    )


def published_at_ns(messages, granted):
    """``waited_ms`` after its request was begun."""
    begun_at_ns, _ = messages[0]
    return begun_at_ns + granted.waited_ms * NS_PER_MS


def is_use(message):
    return isinstance(message, SendAnswer) and message.outcome is Outcome.IDENTIFIED


def print_history(shard_ids, deeds, ledger):
    """Print the messages of these shards and the commits of their grants in the order of time."""
    known = [
        (at_ns, one, str(text)) for one in shard_ids for at_ns, text in deeds.messages[one] + ledger.commits_of[one]
    ]
    for at_ns, shard_id, text in sorted(known):
        print(f"  {at_ns / NS_PER_S:.3f} shard {shard_id}: {text[:MESSAGE_SHOWN_MAX]}")


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
