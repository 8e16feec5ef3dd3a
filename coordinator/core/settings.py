"""The settings of one replica's core. They are read from the environment elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.crash_loop import CrashLoopGuard
from nats_identify.schedule.model import SECOND, Limits, Timing
from nats_identify.schedule.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one replica's core.

    Attributes:
        name, prefix: the replica's name, and the subject prefix of its bot.
        instance: random for each process: two replicas may have one name.
        grant_key: random and secret for each process, 64 bytes at most; grant ids are derived from it.
        lease_ns: a standby takes over when the ledger has not changed for this time.
        fresh_start: a ledger that never existed means that nothing was ever granted.
        static: the limits where there is no token to ask Discord with, else None.
        crash_loop_grants, crash_loop_period_ns: how many grants of one shard are free in a period; 0: no guard.
    """

    name: str
    prefix: str
    instance: str
    timing: Timing
    lease_ns: int
    fresh_start: bool = False
    static: Limits | None = None
    reserve: int = 0
    crash_loop_grants: int = 0
    crash_loop_period_ns: int = 3600 * SECOND
    max_waiting: int = 200_000
    grant_key: bytes = field(default=b"", repr=False)


def new_schedule(settings: Settings, name_grant: Callable[[], str]) -> Scheduler:
    """Return an empty schedule with these settings; ``name_grant`` returns a new grant_id at each call."""
    static = settings.static
    return Scheduler(
        settings.timing,
        SessionBudget(reserve=settings.reserve, static=static is not None),
        CrashLoopGuard(settings.crash_loop_grants, settings.crash_loop_period_ns),
        max_concurrency=static.max_concurrency if static else None,
        name_grant=name_grant,
        max_waiting=settings.max_waiting,
    )
