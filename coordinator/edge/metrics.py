"""The metrics of this process, in a registry of its own. Callers set them; it observes nothing itself."""

from collections.abc import Iterator
from copy import copy

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.core.replica import Replica
from nats_identify.wire import Projection, Status

BUCKETS_LISTED = 64
"""Buckets that have a gauge of their own, at most; the total counts all."""

_UNKNOWN = Projection(shards=0)
_COMMIT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_WAIT_S = (0.01, 0.1, 1, 5, 10, 30, 60, 300, 900, 1800, 3600, 10_800)


class Metrics:
    """Everything under /metrics.

    Args:
        prefix: the subject prefix; the label ``prefix`` of each series, so that one Prometheus
            can hold several bots.
        version: of the program, the label of ``identify_build_info``; empty: there is no such series.
    """

    def __init__(self, prefix: str = "identify", version: str = "") -> None:
        self.registry = registry = _PrefixedRegistry(prefix)
        ProcessCollector(registry=registry)
        if version:
            Info("identify_build", "1; its label is the version.", registry=registry).info({"version": version})
        self.events = Counter(
            "identify_events", "What happened, as in the events on NATS.", ["event"], registry=registry
        )
        self._counters: dict[str, Counter] = {}
        self.refusals = Counter("identify_refusals", "Requests refused.", ["code"], registry=registry)
        self._dropped: dict[str, int] = {}
        registry.register(_Dropped(self._dropped))
        self.fetches = Counter(
            "identify_discord_fetches", "GET /gateway/bot, by result.", ["result"], registry=registry
        )
        self.commit = Histogram("identify_commit_seconds", "Writing the ledger.", registry=registry, buckets=_COMMIT_S)
        self.commits_unsettled = Counter(
            "identify_commits_unsettled", "Writes that had to be settled by reading.", registry=registry
        )
        self.writes_refused = Counter(
            "identify_ledger_writes_refused", "Of these, those that NATS refused for a limit.", registry=registry
        )
        self.unwritten = Gauge(
            "identify_ledger_unwritten_seconds",
            "How long writes of the ledger have been refused or unanswered, 0: they are done.",
            registry=registry,
        )
        self.wait = Histogram(
            "identify_wait_seconds", "From the first request to the grant.", registry=registry, buckets=_WAIT_S
        )
        self.leader = Gauge("identify_leader", "1 on the leader.", registry=registry)
        self.term = Gauge("identify_term", "The leader's term.", registry=registry)
        self.connected = Gauge("identify_nats_connected", "1 while connected.", ["name"], registry=registry)
        self.inbox = Gauge("identify_inbox_depth", "Events that wait to be handled.", registry=registry)
        self.waiting = Gauge("identify_waiting", "Requests that wait for a turn.", registry=registry)
        self.paused = Gauge("identify_paused", "1 while an operator's pause is in force.", registry=registry)
        self.bucket_waiting = Gauge(
            "identify_bucket_waiting", "Of these, in each of the first buckets.", ["bucket"], registry=registry
        )
        self.http_queue = Counter(
            "identify_http_queue", "Requests to the queue over HTTP, by outcome.", ["outcome"], registry=registry
        )
        self.http_queue_waiting = Gauge(
            "identify_http_queue_waiting", "Connections of the queue over HTTP that wait.", registry=registry
        )
        self._add_the_day(registry)

    def _add_the_day(self, registry: CollectorRegistry) -> None:
        self.max_concurrency = Gauge("identify_max_concurrency", "Buckets, 0: unknown.", registry=registry)
        self.remaining = Gauge("identify_session_starts_remaining", "Left today, -1: unknown.", registry=registry)
        self.total = Gauge("identify_session_starts_limit", "Of a day, -1: unknown.", registry=registry)

        self.reserve = Gauge("identify_session_starts_reserve", "Kept for priority 1.", registry=registry)
        self.resets_in = Gauge(
            "identify_session_starts_reset_seconds", "Until the day ends, -1: unknown.", registry=registry
        )
        self.margin = Gauge("identify_margin_seconds", "Added to the window, as learnt by now.", registry=registry)
        self.held_back = Gauge(
            "identify_held_back", "Of those that wait, those whose shards crash-loop.", registry=registry
        )
        self.all_up = Gauge(
            "identify_projected_seconds", "Until the last that waits may identify, -1: unknown.", registry=registry
        )
        self.short = Gauge(
            "identify_projected_starts_short", "Session starts that they lack today, -1: unknown.", registry=registry
        )
        self.restart_all_up = Gauge(
            "identify_restart_seconds", "The same if every shard restarted now, -1: unknown.", registry=registry
        )
        self.restart_short = Gauge(
            "identify_restart_starts_short",
            "Session starts that this lacks today, -1: unknown.",
            registry=registry,
        )

    def drop(self, why: str) -> None:
        """Count a message that is neither handled nor answered: in a tenth of the time that a `Counter` takes."""
        self._dropped[why] = self._dropped.get(why, 0) + 1

    def dropped(self, why: str) -> int:
        """Return how many messages were dropped for this."""
        return self._dropped.get(why, 0)

    def count_event(self, name: str, fields: dict[str, str | int | None]) -> None:
        """Count an event."""
        counter = self._counters.get(name)
        if counter is None:  # looking it up takes longer than counting
            counter = self._counters[name] = self.events.labels(name)
        counter.inc()
        match name, fields:
            case "refused", {"code": str(code)}:
                self.refusals.labels(str(code)).inc()
            case "granted", {"waited_ms": int(waited_ms)}:
                self.wait.observe(waited_ms / 1000)

    def look_at(self, replica: Replica, known: Status, inbox_depth: int) -> None:
        """Take the gauges' readings; ``known`` is the status of this replica."""
        state = replica.schedule.state
        limit = known.session_start_limit
        waiting, restart = known.projection or _UNKNOWN, known.restart or _UNKNOWN
        self.reserve.set(known.reserve)
        self.resets_in.set(_seconds(limit.reset_after_ms))
        self.margin.set(known.margin_ms / 1000)
        self.held_back.set(known.held_back)
        self.all_up.set(_seconds(waiting.all_up_in_ms))
        self.short.set(_or_unknown(waiting.session_starts_short))
        self.restart_all_up.set(_seconds(restart.all_up_in_ms))
        self.restart_short.set(_or_unknown(restart.session_starts_short))
        self.leader.set(replica.is_leader)
        self.term.set(max(replica.term, replica.view.newest_age[0]))
        self.inbox.set(inbox_depth)
        self.max_concurrency.set(state.max_concurrency or 0)
        self.remaining.set(_or_unknown(limit.remaining))
        self.total.set(_or_unknown(limit.total))
        self.waiting.set(known.waiting)
        self.paused.set(state.paused is not None)
        self.bucket_waiting.clear()
        for bucket in range(min(state.max_concurrency or 0, BUCKETS_LISTED)):
            self.bucket_waiting.labels(str(bucket)).set(len(state.requests.queues.get(bucket, ())))


class _PrefixedRegistry(CollectorRegistry):
    """Adds the label ``prefix`` to all samples of all collectors, also those that are registered later."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._label = {"prefix": prefix}

    def collect(self) -> Iterator[Metric]:
        """Return all families; those of the collectors themselves are not changed."""
        for family in super().collect():
            labelled = copy(family)
            labelled.samples = [
                sample._replace(labels=self._label | sample.labels)  # a named tuple: its public way to change a field
                for sample in family.samples
            ]
            yield labelled


class _Dropped(Collector):
    """The count of dropped messages, as /metrics shows it."""

    def __init__(self, dropped: dict[str, int]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        """Return it."""
        family = CounterMetricFamily(
            "identify_dropped", "Messages neither handled nor answered, by why.", labels=["why"]
        )
        for why, count in self._dropped.items():
            family.add_metric([why], count)
        yield family


def _or_unknown(number: int | None) -> int:
    return -1 if number is None else number


def _seconds(duration_ms: int | None) -> float:
    return -1 if duration_ms is None else duration_ms / 1000
