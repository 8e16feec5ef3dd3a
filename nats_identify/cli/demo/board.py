"""The state of every shard, from Discord's events and the queue's; it draws nothing.

The two sources can be in either order. Discord's wins: it is the later state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from nats_identify.clock import NS_PER_MS, NS_PER_S
from nats_identify.wire import Status

_ACCEPTED: Final = "accepted"


class Stage(StrEnum):
    """How far a shard has come."""

    UNSEEN = "unseen"
    WAITING = "waiting"  # in the queue
    NEXT = "next"  # at the head of its bucket's line
    GRANTED = "granted"  # may identify now
    IDENTIFIED = "identified"  # has done so
    REFUSED = "refused"  # Discord answered Invalid Session
    UP = "up"  # READY


_HAD_A_TURN, _WAITS, _UNSEEN = range(3)


@dataclass(slots=True)
class _Shard:
    """One shard. ``order`` sorts a bucket: those who had a turn, those who wait, the rest."""

    stage: Stage = Stage.UNSEEN
    order: tuple[int, int] = (_UNSEEN, 0)


@dataclass(frozen=True, slots=True)
class Seat:
    """One shard as it is shown."""

    shard_id: int
    stage: Stage


class Board:
    """The state of one run.

    Args:
        shards: of the bot.
        max_concurrency: buckets.
        started_ns: when the fleet was started, on `nats_identify.clock.now_ns`.

    Attributes:
        first_up_ns, last_up_ns: READYs as Discord saw them; None before the first.
        smallest_gap_s: by bucket, as Discord measured it.
        identifies, violations: IDENTIFYs that Discord judged, and those it refused.
        remaining: session starts left today, as the queue counts them; None where there is no queue.
        next_turn_ns: when a waiting shard may go at the soonest; None where none waits.
    """

    def __init__(self, shards: int, max_concurrency: int, *, started_ns: int) -> None:
        self.first_up_ns: int | None = None
        self.last_up_ns: int | None = None
        self.smallest_gap_s: dict[int, float] = {}
        self.identifies = 0
        self.violations = 0
        self.remaining: int | None = None
        self.next_turn_ns: int | None = None
        self._started_ns = started_ns
        self._max_concurrency = max_concurrency
        self._shards = {shard_id: _Shard() for shard_id in range(shards)}
        self._moves = 0

    def discord_said(self, event: Mapping[str, Any]) -> None:
        """Take note of one event of the simulated Discord."""
        shard = self._shards.get(event.get("shard_id", -1))
        if shard is None:
            return
        match event:
            case {"event": "identify", "bucket": bucket, "verdict": verdict, "gap_ns": gap_ns}:
                self.identifies += 1
                self.violations += verdict != _ACCEPTED
                self._note_gap(bucket, gap_ns)
                self._move(shard, Stage.IDENTIFIED if verdict == _ACCEPTED else Stage.REFUSED)
            case {"event": "ready", "at_ns": at_ns}:
                self.first_up_ns = at_ns if self.first_up_ns is None else self.first_up_ns
                self.last_up_ns = at_ns
                self._move(shard, Stage.UP)
            case {"event": "disconnect"} if shard.stage is Stage.UP:
                self._move(shard, Stage.UNSEEN)

    def queue_said(self, name: str, facts: Mapping[str, Any]) -> None:
        """Take note of one event of the queue, ``identify.event.<name>``."""
        shard = self._shards.get(facts.get("shard_id", -1))
        if shard is None:
            return
        match name, shard.stage:
            case "queued", Stage.UNSEEN | Stage.REFUSED:
                self._move(shard, Stage.WAITING)
            case "granted", Stage.UNSEEN | Stage.WAITING | Stage.REFUSED:
                self._move(shard, Stage.GRANTED)
            case "declined" | "undeliverable", Stage.GRANTED:
                self._move(shard, Stage.WAITING)
            case "identified", Stage.GRANTED:
                self._move(shard, Stage.IDENTIFIED)

    def queue_answered(self, status: Status, at_ns: int) -> None:
        """Take note of ``identify.status``."""
        self.remaining = status.session_start_limit.remaining
        releases_ms = [bucket.next_release_ms for bucket in status.buckets if bucket.waiting]
        self.next_turn_ns = at_ns + min(releases_ms) * NS_PER_MS if releases_ms else None

    @property
    def buckets(self) -> list[list[Seat]]:
        """Each bucket's shards, in the order of their turns."""
        lines: dict[int, list[Seat]] = {bucket: [] for bucket in range(min(len(self._shards), self._max_concurrency))}
        waits_already = set[int]()
        for shard_id, shard in sorted(self._shards.items(), key=lambda item: (item[1].order, item[0])):
            bucket, stage = shard_id % self._max_concurrency, shard.stage
            if stage is Stage.WAITING and bucket not in waits_already:
                waits_already.add(bucket)
                stage = Stage.NEXT
            lines[bucket].append(Seat(shard_id, stage))
        return list(lines.values())

    @property
    def up(self) -> int:
        """How many shards are up."""
        return sum(shard.stage is Stage.UP for shard in self._shards.values())

    @property
    def is_all_up(self) -> bool:
        """Whether the job is done."""
        return self.up == len(self._shards)

    def seconds_since_start(self, at_ns: int) -> float:
        """Return how long after the fleet's start this was."""
        return (at_ns - self._started_ns) / NS_PER_S

    def _note_gap(self, bucket: int, gap_ns: int | None) -> None:
        if gap_ns is not None:
            gap_s = gap_ns / NS_PER_S
            self.smallest_gap_s[bucket] = min(gap_s, self.smallest_gap_s.get(bucket, gap_s))

    def _move(self, shard: _Shard, stage: Stage) -> None:
        """A shard gets its place when it enters a group, and keeps it there: the row must not jump about."""
        self._moves += 1
        group = {Stage.UNSEEN: _UNSEEN, Stage.WAITING: _WAITS}.get(stage, _HAD_A_TURN)
        if shard.order[0] != group:
            shard.order = (group, self._moves)
        shard.stage = stage
