"""What one history will be like, drawn from its seed alone: cluster, bot, weather and faults. It runs nothing."""

from dataclasses import dataclass
from enum import StrEnum

from nats_identify.schedule.model import Limits, Timing
from tests.simulation.discord import DiscordPlan
from tests.simulation.shards import Habits
from tests.simulation.store import StreamWeather
from tests.simulation.traffic import Weather


class Shape(StrEnum):
    """What kind of history: `ORDINARY`, or one of the focused ones, which meet what ordinary ones rarely do."""

    ORDINARY = "ordinary"  # a fleet, a cluster, everything that can go wrong
    FOCUSED = "focused"  # few sessions, mixed settings, leaders that die just after a grant, late messages
    LOSSES = "losses"  # a ledger that is deleted, restored and made anew, and replicas that start again
    BUDGET = "budget"  # a few session starts, short days, figures that take their time
    PLAIN = "plain"  # requesters that renew nothing, and a slow ledger
    DAYS = "days"  # static limits over a day's end
    LOOPS = "loops"  # shards that come back again and again, and leaders that die


class Fault(StrEnum):
    """What chaos does at a moment of its choice."""

    KILL = "kill"
    KILL_LEADER = "kill leader"
    STOP = "stop"
    PAUSE = "pause"
    PAUSE_LEADER = "pause leader"
    CUT_TRAFFIC = "cut traffic"
    CUT_LEDGER = "cut ledger"
    CUT_POD = "cut pod"
    AWAY = "stream without leader"
    DELETE = "delete the key"
    RECREATE = "recreate the bucket"
    RESTORE = "restore an older copy"
    KILL_POD = "kill pod"
    LEAVE_POD = "stop pod"
    PAUSE_POD = "pause pod"
    CHANGE_LIMITS = "change limits"
    DISCORD_AWAY = "Discord's API away"
    EVERYBODY = "kill every coordinator"
    BESIDE = "spend beside the queue"
    REFRESH = "ask Discord again"
    REFUSE = "refuse writes"


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """How many grants of one shard are free in a period; each later one waits, twice as long each time."""

    grants: int
    period_ns: int
    first_wait_ns: int


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """One replica's environment; at each restart it gets the next of its variants."""

    name: str
    variants: tuple[tuple[Timing, int, Limits | None], ...]  # timing, lease_ns, static limits
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Mix:
    """What some histories have besides.

    Attributes:
        rogues: clients that break the contract.
        beside_ns: somebody spends of Discord's day beside the queue once in so long, or Discord lowers its total.
        are_kinds_mixed: some replicas can ask Discord and others have settings, in a day that is tight.
    """

    rogues: int = 0
    beside_ns: int = 0
    are_kinds_mixed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about one history but its chances."""

    seed: int
    shape: Shape
    duration_ns: int
    replicas: tuple[ReplicaPlan, ...]
    fresh_start: bool
    discord: DiscordPlan
    day_ns: int
    is_static: bool
    is_tight: bool
    pods: tuple[tuple[int, ...], ...]
    plain_pods: tuple[tuple[int, ...], ...]
    start_mean_ns: int
    habits: Habits
    weather: Weather
    stream: StreamWeather
    faults: tuple[tuple[Fault, int], ...]  # each with the mean time between two
    stall: float  # how often a coordinator stalls between deciding and doing
    dies_after_grant: float
    wake_late_max_ns: int
    knows_limits: float  # how often a pod knows max_concurrency at its start
    has_one_name: bool  # every replica calls itself the same
    copies_queue: bool  # a starting replica takes the queue from another
    crash_loop: CrashLoop | None = None
    cancel_mean_ns: int = 0  # how often somebody else cancels the request of a shard that waits; 0: never
    mix: Mix = Mix()
    inbox_max_ns: int = 0  # how long a request waits in a coordinator's inbox, at most
    operator_mean_ns: int = 0  # how often an operator gives a command; 0: there is none

    @property
    def timings(self) -> list[Timing]:
        """All that any replica may be told."""
        return [variant[0] for replica in self.replicas for variant in replica.variants]

    @property
    def lease_max_ns(self) -> int:
        """The longest lease that any replica may be told."""
        return max(variant[1] for replica in self.replicas for variant in replica.variants)

    @property
    def hold_max_ns(self) -> int:
        """The longest that any grant can hold its bucket."""
        return max(timing.full_hold_ns for timing in self.timings)


def shape_of(seed: int) -> Shape:
    """The shape of a seed that nobody names one for: of sixteen, five are ordinary."""
    return _SHAPES[seed % len(_SHAPES)]


_O, _F, _L, _B, _P, _D, _C = Shape
_SHAPES = (_O, _F, _L, _O, _B, _F, _O, _P, _F, _O, _L, _O, _F, _B, _C, _D)
