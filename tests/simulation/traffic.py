"""The network between processes and NATS: it delays, loses, doubles and reorders. It reads no message."""

from collections.abc import Callable
from dataclasses import dataclass

from nats_identify.schedule.model import MS, SECOND
from tests.simulation.broker import Broker, Delivery
from tests.simulation.engine import Engine
from tests.simulation.process import Process


@dataclass(frozen=True, slots=True)
class Weather:
    """How often a hop fails a message; there are two hops from one process to another.

    Attributes:
        late: how often a message takes up to ``late_max_ns`` longer, and others overtake it.
        reorder: how often a message may overtake the one before it by a little.
    """

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_max_ns: int = 5 * SECOND
    reorder: float = 0.0
    hop_max_ns: int = 3 * MS


CALM = Weather()


class Traffic:
    """One NATS server (or cluster, taken as one) and everybody's connection to it."""

    def __init__(self, engine: Engine, weather: Weather) -> None:
        self.engine = engine
        self.broker = Broker()
        self.weather = weather
        self.lines: dict[int, Line] = {}
        self.suffered = 0  # messages lost, doubled or late

    def hops_ns(self, free_at_ns: int, *, may_double: bool) -> tuple[list[int], int]:
        """When each copy of a message arrives over one hop, and when the next one in order may."""
        engine, weather = self.engine, self.weather
        chance = engine.random.random
        hop_ns = 100_000 + int(chance() * weather.hop_max_ns)
        if weather is CALM:
            at_ns = max(engine.now_ns + hop_ns, free_at_ns)
            return [at_ns], at_ns
        if chance() < weather.lost:
            self.suffered += 1
            return [], free_at_ns
        if chance() < weather.late:
            self.suffered += 1
            return [engine.now_ns + hop_ns + int(chance() * weather.late_max_ns)], free_at_ns
        at_ns = engine.now_ns + hop_ns
        if chance() >= weather.reorder:
            at_ns = free_at_ns = max(at_ns, free_at_ns)
        if may_double and chance() < weather.doubled:
            self.suffered += 1
            longer_ns = weather.late_max_ns if chance() < 0.3 else 20 * MS
            return [at_ns, at_ns + int(chance() * longer_ns)], free_at_ns
        return [at_ns], free_at_ns


class Line:
    """One process's connection, as nats-py keeps it: reconnecting for ever, subscriptions remembered.

    Args:
        hear: told of each delivery, while the process runs.
        reconnected: told when the connection is back.
    """

    def __init__(
        self,
        traffic: Traffic,
        process: Process,
        hear: Callable[[Delivery], None],
        reconnected: Callable[[], None] | None = None,
    ) -> None:
        self._traffic = traffic
        self._engine = traffic.engine
        self._process = process
        self._hear = hear
        self._reconnected = reconnected
        self._patterns: list[str] = []
        self._connection = 0
        self._is_cut = False
        self._holds = False
        self._held: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self._cuts = 0
        self._up_ns = self._down_ns = 0
        self.is_connected = False

    def connect(self) -> None:
        """Connect, or connect again."""
        if self._is_cut or not self._process.is_alive or self.is_connected:
            return
        traffic = self._traffic
        self._connection = traffic.broker.open()
        traffic.lines[self._connection] = self
        self.is_connected = True
        for pattern in self._patterns:
            traffic.broker.subscribe(self._connection, pattern)

    def subscribe(self, pattern: str) -> None:
        """Listen, now and after every reconnect."""
        self._patterns.append(pattern)
        if self.is_connected:
            self._traffic.broker.subscribe(self._connection, pattern)

    def unsubscribe(self, pattern: str) -> None:
        """Listen no more."""
        self._patterns.remove(pattern)
        if self.is_connected:
            self._traffic.broker.unsubscribe(self._connection, pattern)

    def publish(self, subject: str, payload: object, reply_to: str = "") -> None:
        """Send, if the connection is believed to stand."""
        if self.is_connected:
            self._up(subject, payload, reply_to)

    # --- faults

    def cut(self, *, holds: bool) -> None:
        """Let nothing through, both ways. ``holds``: TCP keeps it, and delivers if the cut is short."""
        self._is_cut, self._holds = True, holds
        self._cuts += 1
        is_reset = self._engine.chance(0.3)  # otherwise two pings of nats-py go unanswered
        noticed_after_ns = self._engine.between(0, SECOND) if is_reset else self._engine.between(2 * SECOND, 6 * SECOND)
        self._engine.after(noticed_after_ns, self._notice, self._cuts)

    def mend(self) -> None:
        """Let everything through again."""
        if not self._is_cut:
            return
        self._is_cut = False
        held, self._held = self._held, []
        if self.is_connected:
            for call, args in held:
                call(*args)
        else:
            self._engine.after(self._engine.between(10 * MS, 500 * MS), self._come_back)

    def abandon(self, *, noticed_after_ns: int) -> None:
        """The process has died; the server notices at once (a FIN), or not before its pings."""
        self._engine.after(noticed_after_ns, self._forget, self._connection)

    def _notice(self, cuts: int) -> None:
        if self._is_cut and cuts == self._cuts:
            self._forget(self._connection)
            self._held.clear()

    def _forget(self, connection: int) -> None:
        if self._traffic.lines.pop(connection, None) is not None:
            self._traffic.broker.close(connection)
        if connection == self._connection:
            self.is_connected = False

    def _come_back(self) -> None:
        if self.is_connected:
            return
        self.connect()
        if self.is_connected and self._reconnected is not None:
            self._process.meet(self._reconnected)

    # --- hops

    def _up(self, subject: str, payload: object, reply_to: str) -> None:
        if self._is_cut:
            self._keep(self._up, subject, payload, reply_to)
            return
        # A client's publish reaches its server once: NATS would say 503 to the second copy of a delivered grant.
        arrivals_ns, self._up_ns = self._traffic.hops_ns(self._up_ns, may_double=False)
        for at_ns in arrivals_ns:
            self._engine.at(at_ns, self._arrive, self._connection, subject, payload, reply_to)

    def _arrive(self, connection: int, subject: str, payload: object, reply_to: str) -> None:
        traffic = self._traffic
        for delivery in traffic.broker.publish(connection, subject, payload, reply_to):
            line = traffic.lines.get(delivery.connection)
            if line is not None:
                line._down(delivery)  # the same class, at the other end

    def _down(self, delivery: Delivery) -> None:
        if self._is_cut:
            self._keep(self._down, delivery)
            return
        arrivals_ns, self._down_ns = self._traffic.hops_ns(self._down_ns, may_double=True)
        for at_ns in arrivals_ns:
            self._engine.at(at_ns, self._process.meet, self._hear, delivery)

    def _keep(self, call: Callable[..., None], *args: object) -> None:
        if self._holds:
            self._held.append((call, args))
        else:
            self._traffic.suffered += 1
