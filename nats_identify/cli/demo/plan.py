"""What a demo is asked to do, and what that must take at best; it starts nothing."""

from dataclasses import dataclass
from typing import Final

SHARDS_MAX: Final = 1000
"""One machine runs every process of the demo."""

PROCESSES_MAX: Final = 64

SESSION_TOTAL: Final = 1000
"""Discord's daily session starts for a bot below some 200,000 guilds; the simulated Discord allows as many."""

SPARE_SESSIONS: Final = 100
"""A larger fleet gets its own number and this many more: the coordinator keeps a few in reserve."""

SLACK_S: Final = 60.0
"""Time that the fleet's processes may need to start on a slow and busy machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One demo.

    Attributes:
        shards: of the bot.
        max_concurrency: buckets, max_concurrency of the simulated Discord.
        processes: how many the shards are dealt to.
        window_s: two IDENTIFYs of one bucket must be so far apart. Discord: 5.
        connect_delay_ms, frame_latency_ms: of the simulated Discord, ``LOW:HIGH``.
        wants_control: run the same fleet without the queue, too.
        fleet_module: run with ``python -m`` for each process; it takes the arguments of `demo.fleet`.
        fleet_arguments: what it takes besides.

    Raises:
        ValueError: a number is out of its range.
    """

    shards: int = 12
    max_concurrency: int = 2
    processes: int = 3
    window_s: float = 5.0
    connect_delay_ms: str = "0:300"
    frame_latency_ms: str = "20:60"
    wants_control: bool = True
    fleet_module: str = "nats_identify.cli.demo.fleet"
    fleet_arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, most in (
            ("shards", self.shards, SHARDS_MAX),
            ("max_concurrency", self.max_concurrency, SHARDS_MAX),
            ("processes", self.processes, PROCESSES_MAX),
        ):
            if not 1 <= value <= most:
                message = f"{name} is {value}; give 1 to {most}"
                raise ValueError(message)
        if not 0 < self.window_s <= 60:  # noqa: PLR2004  # a demo that takes hours shows nothing
            message = f"window is {self.window_s}; give seconds, above 0 and up to 60"
            raise ValueError(message)

    def deal(self) -> list[list[int]]:
        """Return each process's shards. Neighbours in a bucket go to different processes, so that they share it."""
        hands: list[list[int]] = [[] for _ in range(self.processes)]
        for shard_id in range(self.shards):
            round_in_bucket, bucket = divmod(shard_id, self.max_concurrency)
            hands[(round_in_bucket + bucket) % self.processes].append(shard_id)
        return [hand for hand in hands if hand]

    @property
    def buckets(self) -> int:
        """Buckets that have a shard."""
        return min(self.shards, self.max_concurrency)

    @property
    def fullest(self) -> int:
        """Shards in the fullest bucket."""
        return -(-self.shards // self.max_concurrency)

    @property
    def ideal_s(self) -> float:
        """No queue can bring the fleet up sooner: every IDENTIFY of the fullest bucket a window apart."""
        return (self.fullest - 1) * self.window_s

    @property
    def max_s(self) -> float:
        """The fleet has failed when it is not up by then: twice the ideal, with time to start."""
        return 2 * self.ideal_s + SLACK_S

    @property
    def session_total(self) -> int:
        """Session starts that the simulated Discord allows a day."""
        return max(SESSION_TOTAL, self.shards + SPARE_SESSIONS)

    @property
    def collisions(self) -> int:
        """IDENTIFYs that must come too early when each process paces itself.

        Every process sends its first IDENTIFY of a bucket at once; all but one in each bucket are early.
        """
        firsts = sum(len({shard_id % self.max_concurrency for shard_id in hand}) for hand in self.deal())
        return firsts - self.buckets
