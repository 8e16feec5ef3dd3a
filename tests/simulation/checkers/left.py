"""Checks, in hindsight, what each entry says is left of the day against Discord's count. It knows no charge."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.ledger import Ledger
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from nats_identify.testing.judge import Day

ENTRIES_KEPT = 5_000


@dataclass(slots=True)
class Entry:
    """One entry: what Discord had left beyond it when it was stored, less what came later of its grants."""

    index: int
    instance: str
    age: tuple[int, int]
    day: int
    left: int
    spare: int


class Left:
    """``left``: an entry says that no more is left than Discord has, less the grants committed so far that count later.

    Discord's count is taken as if nobody but the queue had spent anything. Settings are judged where they are true of
    Discord; one that can ask Discord grants nothing on another's settings.
    """

    def __init__(self, day: "Day", *, settings_are_true: bool) -> None:
        self._day = day
        self._settings_are_true = settings_are_true
        self._is_unknown = False  # what is left, by the last entry
        self._number = 0  # of Discord's day
        self._ends_ns: int | None = None
        self._beside = 0  # spent by others in it
        self._lowered = 0  # in it, of the total
        self._unknowable = 0  # used in it, of a lost ledger, later than a writer could know
        self._index = 0
        self._committed: dict[str, int] = {}  # by grant: the first entry that had it
        self._stored: set[tuple[str, int, int]] = set()
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_KEPT)

    @property
    def is_shared(self) -> bool:
        """Whether others have spent of Discord's day: then the queue may be refused though it did right."""
        return self._beside + self._lowered != 0

    def beside(self, count: int, now_ns: int) -> None:
        """Others have spent this number."""
        self._look(now_ns)
        self._beside += count

    def lowered(self, count: int, now_ns: int) -> None:
        """Discord has lowered its total by this number."""
        self._look(now_ns)
        self._lowered += count

    def broken(self, now_ns: int) -> None:
        """An IDENTIFY was sent and never arrived: a day of which it was the first begins later than shards say."""
        self._look(now_ns)
        if self._ends_ns is None:
            self._settings_are_true = False

    def applied(self, ledger: Ledger, now_ns: int, *, can_ask: bool) -> None:
        """The stream has stored an entry of a replica that can ask Discord, or cannot.

        An entry that was stored before says what was left then: a late copy of a write, after the ledger was put back.
        """
        self._index += 1
        new = [r for r in ledger.grants if r.grant.request_id and r.grant.grant_id not in self._committed]
        self._committed.update((record.grant.grant_id, self._index) for record in new)
        is_of_settings = ledger.static_day is not None
        if can_ask and is_of_settings and new:
            what = f"{ledger.instance} grants {new[0].grant.grant_id} on settings, and can ask Discord"
            raise Violation("left", now_ns, what)
        was_unknown, self._is_unknown = self._is_unknown, ledger.remaining is None
        if was_unknown and not can_ask:
            self._settings_are_true = False  # one that could ask had doubts, and wrote of nothing spent: settings count
        is_judged = not is_of_settings if can_ask else self._settings_are_true
        name = (ledger.instance, *ledger.age)
        is_copy = name in self._stored
        self._stored.add(name)
        if ledger.remaining is None or not is_judged or is_copy:
            return
        self._look(now_ns)
        # A later day begins with the lowered total, of which the entry may not know yet.
        not_known = max(self._lowered, (ledger.total or 0) - self._day.total)
        spent_beside = self._beside + self._unknowable
        spare = self._day.remaining(now_ns) + spent_beside + not_known - ledger.remaining
        entry = Entry(self._index, ledger.instance, ledger.age, self._number, ledger.remaining, spare)
        self._entries.append(entry)
        self._judge(entry, now_ns)

    def counted(self, grant_id: str, now_ns: int, *, knew: Callable[[str], bool]) -> None:
        """Discord has counted the IDENTIFY of this grant.

        ``knew``: whether a replica could know that it might be used for so long. One of a lost ledger may be used after
        a replica with a shorter IDENTIFY_USE_WITHIN, which has never seen a longer one, believed a figure.
        """
        self._look(now_ns)
        since = self._committed.get(grant_id, 0)
        entries = [entry for entry in self._entries if entry.index >= since and entry.day == self._number]
        if not all(knew(entry.instance) for entry in entries):
            self._unknowable += 1  # for the later entries, too, which go on from what is left by these
            return
        for entry in reversed(entries):
            entry.spare -= 1
            self._judge(entry, now_ns)

    def lost(self, *, may_forget: bool) -> None:
        """The ledger is gone: with settings nobody knows what was spent."""
        self._entries.clear()
        if may_forget:
            self._settings_are_true = False

    def healed(self, now_ns: int) -> None:
        """Discord's day is made anew."""
        self._look(now_ns)
        self._number += 1
        self._beside = self._lowered = self._unknowable = 0

    def _look(self, now_ns: int) -> None:
        if self._ends_ns is not None and now_ns >= self._ends_ns:
            self._number += 1
            self._beside = self._lowered = self._unknowable = 0
        self._day.remaining(now_ns)
        self._ends_ns = self._day._ends_ns  # to the nanosecond; what it tells is rounded

    @staticmethod
    def _judge(entry: Entry, now_ns: int) -> None:
        if entry.spare < 0:
            what = f"{entry.instance} {entry.age} has {entry.left} left, {-entry.spare} more than Discord has for it"
            raise Violation("left", now_ns, what)
