"""The commands of a history: one line each, a verb, names, and pairs of a key and a value. Times are in seconds."""

from collections.abc import Callable

from coordinator.core.ledger import Stop, TrafficReceived, TrafficReturned
from nats_identify.schedule import model
from nats_identify.schedule.model import SECOND, Limits, Outcome, Timing
from tests.histories.stage import Shard, Stage

KEYS = {
    *("shard", "priority", "renewal", "identifies_after"),
    *("max_concurrency", "total", "remaining", "reserve", "resets_in", "lease", "free_grants", "use_within"),
}
"""The words that are followed by a value."""

UNIT = "s"
"""It may stand after a time, and says nothing more."""


class History:
    """Runs the commands of one history."""

    def __init__(self):
        self._stage: Stage | None = None
        self._verbs: dict[str, Callable[..., object]] = {
            "cluster": self._cluster,
            "start": lambda *names: [self.stage.start(name) for name in names],
            "kill": lambda *names: [self.stage.kill(name) for name in names],
            "stop": lambda *names: [self.stage.tell(name, Stop()) for name in names],
            "request": self._request,
            "plain": lambda **fields: self._request(is_managed=False, **fields),
            "renew": self._renew,
            "confirm": self._confirm,
            "cancel": lambda shard: self.stage.tell_all(model.Cancel(self._shard(shard).request_id)),
            "inbox": self._inbox,
            "limits": self._limits,
            "nats": self._nats,
            "ledger": self._ledger,
            "pass": lambda duration: self.stage.pass_ns(ns(duration)),
        }

    def run(self, line):
        """Run one command; return the lines that say what happened.

        Raises:
            ValueError: there is no such command, or it lacks its value.
        """
        verb, *rest = line.split()
        if verb not in self._verbs:
            raise ValueError(f"{verb!r} is no command: use one of {', '.join(sorted(self._verbs))}")
        names, fields = [], {}
        tokens = iter(rest)
        for token in tokens:
            if token in KEYS:
                fields[token] = float(next(tokens, ""))
            elif token != UNIT:
                names.append(token)
        self._verbs[verb](*names, **fields)
        return self.stage.take_lines()

    @property
    def stage(self):
        if self._stage is None:
            raise ValueError("the first command is `cluster`")
        return self._stage

    def _shard(self, shard):
        return self.stage.shards[int(shard)]

    def _cluster(self, *names, max_concurrency=1, total=1000, remaining=None, reserve=0, lease=3, **fields):
        """`token`: limits come from Discord. `restored`: the ledger was there before, and may be an older copy."""
        left = total if remaining is None else remaining
        options = {
            "static": None if "token" in names else Limits(int(max_concurrency), int(total), int(left)),
            "fresh": "restored" not in names,
            "reserve": int(reserve),
            "lease_ns": ns(lease),
            "crash_loop_grants": int(fields.get("free_grants", 0)),
            "timing": Timing(use_within_ns=ns(fields.get("use_within", 5))),
        }
        self._stage = Stage(*(name for name in names if name not in {"token", "restored"}), **options)

    def _request(self, *, shard, priority=0, identifies_after=None, is_managed=True):
        """A new request of this shard; it renews by itself as the replies say."""
        number = int(shard)
        before = self.stage.shards.get(number)
        count = 1 if before is None else int(before.request_id.partition(".")[2]) + 1
        one = Shard(number, {"priority": int(priority), "managed": is_managed}, f"r{number}.{count}")
        one.is_renewing = is_managed
        one.identify_after_ns = None if identifies_after is None else ns(identifies_after)
        self.stage.shards[number] = one
        self.stage.request(one)

    def _renew(self, *, shard, renewal=None):
        """The next renewal of its request, or the one with this number once more."""
        one = self._shard(shard)
        one.renewal = one.renewal + 1 if renewal is None else int(renewal)
        self.stage.request(one)

    def _confirm(self, outcome, *, shard):
        self.stage.confirm(self._shard(shard), Outcome(outcome))

    def _inbox(self, state, *, shard):
        """`gone`: NATS answers 503 to what is sent to it. `silent`: it receives, and does not renew. `back`."""
        one = self._shard(shard)
        one.is_there, one.is_renewing = state != "gone", state == "back"
        one.renew_at_ns = self.stage.now_ns if state == "back" else None

    def _limits(self, *, max_concurrency, total, remaining, resets_in=None):
        """The leader fetches Discord's limits, and gets these."""
        resets_in_ns = None if resets_in is None else ns(resets_in)
        limits = Limits(int(max_concurrency), int(total), int(remaining), resets_in_ns)
        leader = self.stage.leader
        self.stage.tell(leader, model.LimitsFetchStarted())
        self.stage.tell(leader, model.LimitsFetched(limits))

    def _nats(self, state):
        stage = self.stage
        stage.is_down = stage.is_away = state == "down"
        if state == "up":
            stage.tell_all(TrafficReturned())
            stage.tell_all(TrafficReceived())

    def _ledger(self, state):
        """`lost`: its key is gone, as after a lost disk."""
        if state != "lost":
            raise ValueError("a ledger can be `lost`")
        self.stage.restore(None)


def ns(duration_s):
    """Seconds as nanoseconds."""
    return round(float(duration_s) * SECOND)
