"""Describes a run in words, and judges whether it passes; every figure is the simulated Discord's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nats_identify.cli.demo.plan import Plan

BUCKETS_NAMED: Final = 4
"""Buckets that are named in the verdict, those with the smallest gaps; the others are counted."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as recorded by the simulated Discord.

    Attributes:
        ready_by_shard: READYs sent to each shard.
        smallest_gap_s, mean_gap_s: by bucket; a bucket with one IDENTIFY has none.
        over_limit: IDENTIFYs beyond the day's limit, or resets of the token.
        remaining: session starts left of the day.
        first_up_s, all_up_s: after the start of the fleet; None where it did not happen.
    """

    identifies: int
    violations: int
    over_limit: int
    ready_by_shard: Mapping[int, int]
    smallest_gap_s: Mapping[int, float]
    mean_gap_s: Mapping[int, float]
    remaining: int
    first_up_s: float | None
    all_up_s: float | None


@dataclass(slots=True)
class Verdict:
    """What is printed at the end, line by line, and what went wrong, if anything did."""

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.failures else 0

    @property
    def sentence(self) -> str:
        """The whole of it."""
        if self.failures:
            return f"FAILED: {'; '.join(self.failures)}"
        return "PASSED"


def judge_queue(plan: Plan, run: Run) -> Verdict:
    """Judge the fleet with the queue: all up, each once, nothing early, nothing over the limit."""
    verdict = Verdict()
    once = sum(run.ready_by_shard.get(shard_id) == 1 for shard_id in range(plan.shards))
    up = sum(shard_id in run.ready_by_shard for shard_id in range(plan.shards))
    ideal = f"ideal {plan.ideal_s:.1f} s: {plan.fullest} in a bucket, {plan.window_s:g} s apart"
    took = "" if run.all_up_s is None else f" in {run.all_up_s:.1f} s"
    first = "none" if run.first_up_s is None else f"after {run.first_up_s:.1f} s"
    verdict.lines = [
        f"{up} of {plan.shards} shards up{took} ({ideal})",
        f"first shard up {first}",
        f"smallest gap: {_gaps(run.smallest_gap_s)}",
        f"mean gap: {_gaps(run.mean_gap_s)}",
        f"violations: {run.violations}",
        f"session starts: {run.identifies} used, {run.remaining} of {plan.session_total} left",
    ]
    if up < plan.shards:
        verdict.failures.append(f"{plan.shards - up} of {plan.shards} shards did not come up")
    if once < up:
        verdict.failures.append(f"{up - once} shards had more than one READY")
    if run.violations:
        verdict.failures.append(f"{run.violations} violations with the queue")
    if run.over_limit:
        verdict.failures.append(f"{run.over_limit} IDENTIFYs over the day's limit")
    return verdict


def judge_control(run: Run) -> Verdict:
    """Judge the fleet without the common queue: it must break the limit, which proves that violations are detected."""
    line = f"control without the common queue: {run.violations} violations in {run.identifies} IDENTIFYs"
    verdict = Verdict([line])
    if not run.violations:
        verdict.failures.append("the control, which has no common queue, violated nothing")
    return verdict


def no_control(plan: Plan) -> Verdict:
    """Say why there was none; that is no failure."""
    why = "not wanted" if not plan.wants_control else "no two processes share a bucket, so nothing can collide"
    return Verdict([f"control without the common queue: left out ({why})"])


def together(*verdicts: Verdict) -> Verdict:
    """Return all of them as one."""
    return Verdict(
        [line for verdict in verdicts for line in verdict.lines],
        [failure for verdict in verdicts for failure in verdict.failures],
    )


def _gaps(gap_s: Mapping[int, float]) -> str:
    """Name the buckets with the smallest gaps, in their own order."""
    if not gap_s:
        return "none, each bucket has one shard"
    smallest = sorted(gap_s, key=gap_s.__getitem__)[:BUCKETS_NAMED]
    named = ", ".join(f"bucket {bucket} {gap_s[bucket]:.3f} s" for bucket in sorted(smallest))
    others = len(gap_s) - len(smallest)
    return f"{named}, and {others} buckets with larger ones" if others else named
