"""What is counted, in a registry of this process's own. It measures what it is handed, and watches nothing."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from coordinator.core.replica import Replica, Role

BUCKETS_LISTED = 64
"""Only so many buckets have a gauge of their own; the total counts them all."""

_COMMIT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_WAIT_S = (0.01, 0.1, 1, 5, 10, 30, 60, 300, 900, 1800, 3600, 10_800)


class Metrics:
    """Everything under /metrics."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.events = Counter(
            "identify_events", "What happened, as in the events on NATS.", ["event"], registry=registry
        )
        self.refusals = Counter("identify_refusals", "Requests refused.", ["code"], registry=registry)
        self.dropped = Counter(
            "identify_dropped", "Messages neither handled nor answered, by why.", ["why"], registry=registry
        )
        self.fetches = Counter(
            "identify_discord_fetches", "GET /gateway/bot, by result.", ["result"], registry=registry
        )
        self.commit = Histogram("identify_commit_seconds", "Writing the ledger.", registry=registry, buckets=_COMMIT_S)
        self.commits_unsettled = Counter(
            "identify_commits_unsettled", "Writes that had to be settled by reading.", registry=registry
        )
        self.wait = Histogram(
            "identify_wait_seconds", "From the first asking to the grant.", registry=registry, buckets=_WAIT_S
        )
        self.leader = Gauge("identify_leader", "1 on the leader.", registry=registry)
        self.term = Gauge("identify_term", "The term of whoever leads.", registry=registry)
        self.connected = Gauge("identify_nats_connected", "1 while connected.", ["name"], registry=registry)
        self.inbox = Gauge("identify_inbox_depth", "Events that wait to be handled.", registry=registry)
        self.waiting = Gauge("identify_waiting", "Requests that wait for a turn.", registry=registry)
        self.bucket_waiting = Gauge(
            "identify_bucket_waiting", "Of these, in each of the first buckets.", ["bucket"], registry=registry
        )
        self.max_concurrency = Gauge("identify_max_concurrency", "Buckets, 0: unknown.", registry=registry)
        self.remaining = Gauge("identify_session_starts_remaining", "Left today, -1: unknown.", registry=registry)
        self.total = Gauge("identify_session_starts_total", "Of a day, -1: unknown.", registry=registry)

    def happened(self, name: str, facts: dict[str, str | int | None]) -> None:
        """Count an event."""
        self.events.labels(name).inc()
        match name, facts:
            case "refused", {"code": str(code)}:
                self.refusals.labels(str(code)).inc()
            case "granted", {"waited_ms": int(waited_ms)}:
                self.wait.observe(waited_ms / 1000)

    def look_at(self, replica: Replica, inbox_depth: int) -> None:
        """Take the gauges' readings."""
        book = replica.schedule.book
        self.leader.set(replica.role is Role.LEADER)
        self.term.set(max(replica.term, replica.seen.newest_age[0]))
        self.inbox.set(inbox_depth)
        self.max_concurrency.set(book.max_concurrency or 0)
        self.remaining.set(-1 if book.budget.remaining is None else book.budget.remaining)
        self.total.set(-1 if book.budget.total is None else book.budget.total)
        self.waiting.set(sum(len(line) for line in book.room.lines.values()))
        self.bucket_waiting.clear()
        for bucket in range(min(book.max_concurrency or 0, BUCKETS_LISTED)):
            self.bucket_waiting.labels(str(bucket)).set(len(book.room.lines.get(bucket, ())))
