"""The way to the ledger, as a coordinator's edge walks it: late, lossy, sometimes a liar. It decides no write.

Each call has one outcome within the edge's timeout; what arrives at the stream later is still applied.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.core.ledger import (
    Ledger,
    LedgerRead,
    LedgerSeen,
    LedgerUnreadable,
    Write,
    WriteUnsettled,
    Written,
)
from nats_identify.schedule.model import MS, SECOND
from tests.simulation.engine import Engine
from tests.simulation.key import Key

TIMEOUT_NS: Final = SECOND
"""As the edge's own."""

SHOW_EVERY_NS: Final = 25 * MS
"""As the edge's watch: what is written faster is shown once."""


@dataclass(frozen=True, slots=True)
class StreamWeather:
    """How often the stream fails a call.

    Attributes:
        ack_lost: the write is done, nobody says so. ``late``: it is done after the caller has given up.
        refused: "wrong last sequence" with no competitor, the write not done; ``done_refused``: or done.
        watch_lost, watch_late: a commit that the watch does not show, or up to ``watch_max_ns`` later.
    """

    ack_lost: float = 0.0
    late: float = 0.0
    late_max_ns: int = 3 * SECOND
    refused: float = 0.0
    done_refused: float = 0.0
    call_lost: float = 0.0
    watch_lost: float = 0.0
    watch_late: float = 0.0
    watch_max_ns: int = 2 * SECOND
    hop_max_ns: int = 3 * MS
    commit_least_ns: int = 0


FAIR = StreamWeather()


class Stream:
    """The stream's leader: one key, everybody's calls, everybody's watches.

    Attributes:
        refuses_until_ns: until then an entry of more than ``grants_most`` grants is too large for the stream.
        applied: told of each write that was done: by whom, what, on what, and the revision.
    """

    def __init__(self, engine: Engine, weather: StreamWeather) -> None:
        self.engine = engine
        self.key = Key()
        self.weather = weather
        self.away_until_ns = 0
        self.refuses_until_ns = 0
        self.grants_most = 0
        self.suffered = 0
        self.applied: Callable[[Write, Ledger | None, int], None] = lambda _write, _before, _revision: None
        self._watches: list[StoreLine] = []

    def watch(self, line: "StoreLine") -> None:
        """Show this one what is written from now on."""
        self._watches.append(line)

    def unwatch(self, line: "StoreLine") -> None:
        """Show it nothing more."""
        if line in self._watches:
            self._watches.remove(line)

    @property
    def is_away(self) -> bool:
        """Whether the stream has no leader just now."""
        return self.engine.now_ns < self.away_until_ns

    def refuses(self, write: Write) -> bool:
        """Whether it stores no entry of this size just now: a limit, or a disk that is full."""
        return self.engine.now_ns < self.refuses_until_ns and len(write.ledger.grants) > self.grants_most

    def apply(self, write: Write) -> int | None:
        """Do a write that has arrived, if it may be done."""
        before = self.key.ledger
        revision = self.key.write(write.ledger, write.revision, self.engine.now_ns)
        if revision is not None:
            self.applied(write, before, revision)
            self.show()
        return revision

    def show(self) -> None:
        """Let every watch hear of the newest entry."""
        for line in self._watches:
            line.show_soon()


class StoreLine:
    """One coordinator's calls and its watch.

    Args:
        tell: told of each outcome and sighting.
    """

    def __init__(
        self,
        stream: Stream,
        tell: Callable[[LedgerRead | LedgerUnreadable | LedgerSeen | Written | WriteUnsettled], None],
    ) -> None:
        self._stream = stream
        self._engine = stream.engine
        self._tell = tell
        self._calls = 0
        self._open: set[int] = set()
        self._is_cut = False
        self._has_seen_one = False
        self._is_showing = False

    def cut(self, *, is_cut: bool) -> None:
        """Let nothing through to the stream, or again."""
        self._is_cut = is_cut

    def read(self) -> None:
        """Read the ledger from the stream's leader."""
        call = self._call(LedgerUnreadable())
        if self._goes_through():
            self._engine.after(self._hop_ns(), self._read, call)

    def write(self, write: Write) -> None:
        """Write the ledger by compare-and-set."""
        call = self._call(WriteUnsettled())
        weather, engine = self._stream.weather, self._engine
        if not self._goes_through():
            return
        delay_ns = self._hop_ns() + weather.commit_least_ns
        if engine.chance(weather.refused):
            self._stream.suffered += 1
            engine.after(delay_ns, self._end, call, WriteUnsettled())
            return
        if engine.chance(weather.late):
            self._stream.suffered += 1
            delay_ns += engine.between(0, weather.late_max_ns)
        engine.after(delay_ns, self._write, call, write)

    # --- calls

    def _call(self, given_up: LedgerUnreadable | WriteUnsettled) -> int:
        self._calls += 1
        self._open.add(self._calls)
        self._engine.after(TIMEOUT_NS, self._end, self._calls, given_up)
        return self._calls

    def _end(self, call: int, outcome: LedgerRead | LedgerUnreadable | Written | WriteUnsettled) -> None:
        if call in self._open:
            self._open.remove(call)
            self._tell(outcome)

    def _goes_through(self) -> bool:
        if self._is_cut or self._engine.chance(self._stream.weather.call_lost):
            self._stream.suffered += 1
            return False
        return True

    def _hop_ns(self) -> int:
        return 200_000 + int(self._engine.random.random() * self._stream.weather.hop_max_ns)

    def _read(self, call: int) -> None:
        if self._stream.is_away:
            return
        key = self._stream.key
        never_written = key.was_never_written and not self._has_seen_one
        answer = LedgerRead(key.ledger, key.revision, never_written, key.written_on)
        if self._goes_through():
            self._has_seen_one = self._has_seen_one or key.ledger is not None
            is_slow = self._engine.chance(self._stream.weather.late)
            slow_ns = self._engine.between(0, TIMEOUT_NS) if is_slow else 0
            self._engine.after(self._hop_ns() + slow_ns, self._end, call, answer)

    def _write(self, call: int, write: Write) -> None:
        stream, weather = self._stream, self._stream.weather
        if stream.is_away and not self._engine.chance(0.2):  # what was proposed before may still be done
            return
        if stream.refuses(write) and not self._engine.chance(weather.done_refused):
            stream.suffered += 1
            if self._goes_through():
                self._engine.after(self._hop_ns(), self._end, call, WriteUnsettled(is_refused=True))
            return
        revision = stream.apply(write)
        if stream.is_away or not self._goes_through() or self._engine.chance(weather.ack_lost):
            stream.suffered += 1
            return
        is_refused = revision is None or self._engine.chance(weather.done_refused)
        outcome = WriteUnsettled() if is_refused or revision is None else Written(revision)
        self._has_seen_one = self._has_seen_one or not is_refused
        self._engine.after(self._hop_ns(), self._end, call, outcome)

    # --- the watch

    def show_soon(self) -> None:
        """A newer entry is there; show whatever is newest when the watch gets to it."""
        weather, engine = self._stream.weather, self._engine
        if self._is_showing or self._is_cut or engine.chance(weather.watch_lost):
            return
        self._is_showing = True
        if engine.chance(weather.watch_late):
            self._stream.suffered += 1
            self._is_showing = False
            engine.after(
                engine.between(0, weather.watch_max_ns), self._show, self._stream.key.ledger, self._stream.key.revision
            )
            return
        engine.after(self._hop_ns(), self._show_newest)

    def _show_newest(self) -> None:
        key = self._stream.key
        self._engine.after(SHOW_EVERY_NS, self._rest, key.revision)
        self._show(key.ledger, key.revision)

    def _rest(self, shown: int) -> None:
        self._is_showing = False
        if self._stream.key.revision > shown:
            self.show_soon()

    def _show(self, ledger: Ledger | None, revision: int) -> None:
        if ledger is not None and not self._is_cut:
            self._tell(LedgerSeen(ledger, revision))
