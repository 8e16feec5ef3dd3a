"""Keeps what happened at the gateway and adds it up for tests; it never judges and never waits."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final, TypeVar

from nats_identify.clock import NS_PER_S
from nats_identify.testing.events import (
    BecameReady,
    Disconnected,
    GatewayEvent,
    HeartbeatMissed,
    Identified,
    Resumed,
    TokenReset,
)
from nats_identify.testing.judge import Verdict

EVENTS_KEPT: Final = 100_000
"""The newest events stay readable; the sums of the report are exact however many there were."""

EventT = TypeVar("EventT", bound=GatewayEvent)


@dataclass(frozen=True, slots=True)
class Report:
    """A run, added up.

    Attributes:
        identifies: IDENTIFYs that were judged, refused ones included.
        violations: those refused for any reason.
        over_limit: those of them that the day's limit refused.
        token_resets: how often real Discord would have reset the token.
        ready_by_shard: READYs sent to each shard id.
        identifies_by_bucket: IDENTIFYs that were judged in each bucket.
        smallest_gap_s: seconds between two IDENTIFYs of a bucket; a bucket with fewer than two is left out.
        mean_gap_s: seconds, as above.
        first_identify_ns: when it arrived, in nanoseconds on the gateway's clock; None before the first.
        last_identify_ns: nanoseconds, as above.
        resumes: RESUMEs accepted.
        resumes_refused: RESUMEs answered with Invalid Session.
        disconnects_by_code: how often each close code ended a connection.
        heartbeat_timeouts: connections closed because their client sent no heartbeat.
    """

    identifies: int
    violations: int
    over_limit: int
    token_resets: int
    ready_by_shard: Mapping[int, int]
    identifies_by_bucket: Mapping[int, int]
    smallest_gap_s: Mapping[int, float]
    mean_gap_s: Mapping[int, float]
    first_identify_ns: int | None
    last_identify_ns: int | None
    resumes: int
    resumes_refused: int
    disconnects_by_code: Mapping[int, int]
    heartbeat_timeouts: int

    @property
    def ready(self) -> int:
        """READYs sent, over all shards."""
        return sum(self.ready_by_shard.values())

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON-ready values; keys that are numbers become strings in JSON."""
        return asdict(self)

    def __str__(self) -> str:
        refused = f"{self.violations} violations ({self.over_limit} over the day's limit)"
        ready = f"{self.ready} READYs to {len(self.ready_by_shard)} shards"
        lines = [f"{self.identifies} IDENTIFYs, {refused}, {ready}, {self.resumes} RESUMEs"]
        lines += [
            f"bucket {bucket}: {self.identifies_by_bucket[bucket]} IDENTIFYs, "
            f"smallest gap {smallest_s:.4f} s, mean {self.mean_gap_s[bucket]:.4f} s"
            for bucket, smallest_s in sorted(self.smallest_gap_s.items())
        ]
        return "\n".join(lines)


@dataclass(slots=True)
class _Gaps:
    """The gaps of one bucket, added up."""

    count: int = 0
    sum_ns: int = 0
    smallest_ns: int = 0

    def add(self, gap_ns: int) -> None:
        self.smallest_ns = gap_ns if self.count == 0 else min(self.smallest_ns, gap_ns)
        self.count += 1
        self.sum_ns += gap_ns


class Record:
    """Everything that happened at one gateway: the newest events, and exact sums over all of them."""

    def __init__(self, *, events_kept: int = EVENTS_KEPT) -> None:
        self.events: deque[GatewayEvent] = deque(maxlen=events_kept)
        self._listeners: list[Callable[[GatewayEvent], None]] = []
        self._count_by_kind: Counter[str] = Counter()
        self._verdicts: Counter[Verdict] = Counter()
        self._by_bucket: Counter[int] = Counter()
        self._gaps: dict[int, _Gaps] = {}
        self._ready: Counter[int] = Counter()
        self._resumes_accepted = 0
        self._close_codes: Counter[int] = Counter()
        self._first_identify_ns: int | None = None
        self._last_identify_ns: int | None = None

    def add(self, event: GatewayEvent) -> None:
        """Keep one event, and notify the listeners."""
        self.events.append(event)
        self._count_by_kind[event.kind] += 1
        match event:
            case Identified():
                self._add_identify(event)
            case BecameReady():
                self._ready[event.shard_id] += 1
            case Resumed(accepted=True):
                self._resumes_accepted += 1
            case Disconnected():
                self._close_codes[event.close_code] += 1
            case _:
                pass
        for listener in tuple(self._listeners):
            listener(event)

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the kept events of one kind, oldest first, e.g. ``record.of(Identified)``."""
        return [event for event in self.events if isinstance(event, kind)]

    def listen(self, listener: Callable[[GatewayEvent], None]) -> Callable[[], None]:
        """Call ``listener`` with every event from now on. Return a function that ends this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def report(self) -> Report:
        """Add up everything so far."""
        refused = sum(count for verdict, count in self._verdicts.items() if verdict is not Verdict.ACCEPTED)
        gaps = sorted(self._gaps.items())
        return Report(
            identifies=self._verdicts.total(),
            violations=refused,
            over_limit=self._verdicts[Verdict.OVER_LIMIT],
            token_resets=self._count_by_kind[TokenReset.kind],
            ready_by_shard=dict(self._ready),
            identifies_by_bucket=dict(self._by_bucket),
            smallest_gap_s={bucket: sums.smallest_ns / NS_PER_S for bucket, sums in gaps},
            mean_gap_s={bucket: sums.sum_ns / sums.count / NS_PER_S for bucket, sums in gaps},
            first_identify_ns=self._first_identify_ns,
            last_identify_ns=self._last_identify_ns,
            resumes=self._resumes_accepted,
            resumes_refused=self._count_by_kind[Resumed.kind] - self._resumes_accepted,
            disconnects_by_code=dict(self._close_codes),
            heartbeat_timeouts=self._count_by_kind[HeartbeatMissed.kind],
        )

    def _add_identify(self, event: Identified) -> None:
        self._verdicts[event.verdict] += 1
        self._by_bucket[event.bucket] += 1
        if event.gap_ns is not None:
            self._gaps.setdefault(event.bucket, _Gaps()).add(event.gap_ns)
        if self._first_identify_ns is None:
            self._first_identify_ns = event.at_ns
        self._last_identify_ns = event.at_ns
