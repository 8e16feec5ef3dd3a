"""Searches every order of events, the short ones first: the first history that breaks a promise is a shortest one."""

import hashlib
import pickle
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from nats_identify.schedule.model import SECOND, Timing
from tests.simulation.explore.cluster import Cluster, Event
from tests.simulation.violation import Violation

SAME = (Timing(), Timing())
MIXED = (Timing(), Timing(use_within_ns=SECOND))
"""The second replica has other settings: it promises a fifth of the first one's use_within."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        depth: how many events deep every order was tried, or those of the violation.
        states: how many different states were met. ``transitions``: how many events were tried.
        is_complete: every state of this depth was met; otherwise there were too many.
    """

    depth: int
    states: int
    transitions: int
    seconds: float
    violation: Violation | None = None
    history: tuple[Event, ...] = ()
    is_complete: bool = True


def explore(
    timings: tuple[Timing, Timing],
    *,
    depth: int,
    faults: int,
    states_most: int = 1_000_000,
    say: Callable[[str], None] = lambda _: None,
) -> Found:
    """Try every order of up to ``depth`` events of which ``faults`` may be faults."""
    began_s = time.process_time()
    try:
        first = _kept(Cluster(timings, faults))
    except Violation as violation:
        return Found(0, 0, 0, time.process_time() - began_s, violation)
    seen = {first[0]}
    level: list[tuple[bytes, tuple[Event, ...]]] = [(first[1], ())]
    transitions = 0
    for done in range(depth):
        following: list[tuple[bytes, tuple[Event, ...]]] = []
        for packed, history in level:
            raw = zlib.decompress(packed)
            events = pickle.loads(raw).events()  # noqa: S301  # our own bytes
            for event in events:
                cluster = pickle.loads(raw)  # noqa: S301  # our own bytes
                transitions += 1
                try:
                    cluster.happen(event)
                except Violation as violation:
                    seconds = time.process_time() - began_s
                    return Found(done + 1, len(seen), transitions, seconds, violation, (*history, event))
                name, kept = _kept(cluster)
                if name not in seen:
                    seen.add(name)
                    following.append((kept, (*history, event)))
            if len(seen) > states_most:
                seconds = time.process_time() - began_s
                return Found(done, len(seen), transitions, seconds, is_complete=False)
        level = following
        say(f"depth {done + 1}: {len(seen)} states, {transitions} events, {time.process_time() - began_s:.0f} s of CPU")
    return Found(depth, len(seen), transitions, time.process_time() - began_s)


def _kept(cluster: Cluster) -> tuple[bytes, bytes]:
    """A short name of the state, and the state."""
    raw = pickle.dumps(cluster, pickle.HIGHEST_PROTOCOL)
    return hashlib.blake2b(raw, digest_size=12).digest(), zlib.compress(raw, 1)


def told(timings: tuple[Timing, Timing], faults: int, history: tuple[Event, ...]) -> list[str]:
    """Tell a history, a line for each event."""
    cluster = Cluster(timings, faults)
    begun_ns, lines = cluster.now_ns, []
    for event in history:
        lines.append(f"{(cluster.now_ns - begun_ns) / SECOND:8.3f} s  {cluster.describe(event)}")
        try:
            cluster.happen(event)
        except Violation as violation:
            at_s = (violation.at_ns - begun_ns) / SECOND
            lines.append(f"{at_s:8.3f} s  VIOLATION {violation.checker}: {violation.what}")
    return lines
