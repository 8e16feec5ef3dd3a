"""The ledger's key as a JetStream KV bucket keeps it: revisions, compare-and-set, markers. It is never late or away."""

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum

from coordinator.core.ledger import Ledger

COPIES_KEPT = 500
ANY_REVISION = -1


class PutBack(Enum):
    """How somebody brings an older copy back."""

    SNAPSHOT = "the stream's own snapshot"
    BARE = "a publish of the entry alone"
    COMPARED = "the same, by compare-and-set"


@dataclass(frozen=True, slots=True)
class Copy:
    """What a backup would hold: the entry, from when until when it was the newest."""

    ledger: Ledger
    revision: int
    written_on: int | None
    since_ns: int
    until_ns: int


class Key:
    """One key, alone in its stream: its revision is the stream's last sequence when it was written.

    Attributes:
        ledger: the newest entry; None where there is none, or a delete marker.
        revision: the newest entry's, marker or not; 0 where there has been none.
        written_on: the revision that it was written on by compare-and-set; None where somebody put it there.
    """

    def __init__(self) -> None:
        self.ledger: Ledger | None = None
        self.revision = 0
        self.written_on: int | None = None
        self._last_sequence = 0
        self._since_ns = 0
        self.copies: deque[Copy] = deque(maxlen=COPIES_KEPT)

    @property
    def was_never_written(self) -> bool:
        """Whether the stream has never held a message."""
        return self._last_sequence == 0

    def write(self, ledger: Ledger, revision: int, now_ns: int) -> int | None:
        """Store the entry if the newest revision is this one; return the new one, None where it is not.

        `ANY_REVISION` expects nothing: a publish without the header. The product never says so; a planted fault does.
        """
        if revision not in {self.revision, ANY_REVISION}:
            return None
        self._append(ledger, now_ns, revision)
        return self.revision

    def delete(self, now_ns: int) -> None:
        """Put a delete marker, as `nats kv del` does."""
        self._append(None, now_ns, None)

    def recreate(self, now_ns: int) -> None:
        """Delete the whole bucket and make it anew."""
        self._keep(now_ns)
        self.ledger, self.written_on = None, None
        self.revision, self._last_sequence, self._since_ns = 0, 0, now_ns

    def restore(self, copy: Copy, revision: int, now_ns: int, how: PutBack = PutBack.SNAPSHOT) -> None:
        """Bring an older copy back: the stream's snapshot at its own revision, or put at another.

        Put back by hand it has lost its headers, and with them its lineage; by compare-and-set it has a new one that
        tells what it was written on.
        """
        self._keep(now_ns)
        self.ledger, self.written_on = copy.ledger, copy.written_on if revision == copy.revision else None
        if how is not PutBack.SNAPSHOT:
            self.ledger = replace(copy.ledger, lineage="")
            self.written_on = self.revision if how is PutBack.COMPARED else None
        self.revision, self._last_sequence, self._since_ns = revision, revision, now_ns

    def _append(self, ledger: Ledger | None, now_ns: int, written_on: int | None) -> None:
        self._keep(now_ns)
        self._last_sequence += 1
        self.ledger, self.revision, self._since_ns = ledger, self._last_sequence, now_ns
        self.written_on = written_on

    def _keep(self, now_ns: int) -> None:
        if self.ledger is not None:
            self.copies.append(Copy(self.ledger, self.revision, self.written_on, self._since_ns, now_ns))
