"""What a replica has seen of the ledger, on its own clock: has it changed, and is it trusted? It writes nothing."""

from coordinator.core.ledger import Ledger


class LedgerView:
    """The last known ledger, and when it was last seen to change.

    Attributes:
        ledger, revision: as last seen; the revision is what a takeover compares against.
        newest_age: the highest (term, sequence) ever seen; anything below is an older copy.
        newest_at_ns: when that was.
        last_change_ns: when it was last seen to change.
        longest_hold_ns: the longest that a grant of any ledger seen can matter, adopted or not.
        is_trusted: it was seen to advance by one entry since we have been in contact. A copy that was restored while
            we were out of contact is not trusted; neither is the first one that we read, or one of another lineage.
    """

    def __init__(self, lease_ns: int, full_hold_ns: int) -> None:
        self.lease_ns = lease_ns
        self.longest_hold_ns = full_hold_ns
        self.ledger: Ledger | None = None
        self.revision = 0
        self.newest_age = (0, 0)
        self.newest_at_ns = 0
        self.last_change_ns = 0
        self.is_trusted = False
        self._contact_at_ns: int | None = None

    def observe(self, ledger: Ledger | None, revision: int, now_ns: int, *, is_put_back: bool = False) -> bool:
        """Apply what was read or watched; return whether it is newer than all seen before.

        Whether the ledger is trusted is decided here alone. ``is_put_back``: it was not written by compare-and-set,
        so it is a copy: two older copies, one after the other, look like progress.
        """
        before = self._contact_at_ns
        was_out_of_contact = before is None or now_ns - before > self.lease_ns
        self._contact_at_ns = now_ns
        age = ledger.age if ledger else (0, 0)
        has_moved = revision != self.revision or _identity(ledger) != _identity(self.ledger)
        is_newer = age > self.newest_age
        # A leader's entries follow one another. From one copy to a newer one there is a jump, which proves nothing.
        is_next = revision == self.revision + 1
        is_another_stream = revision < self.revision  # within one a revision never goes down
        # The lineage is in the headers. An entry put back by hand has none: two such entries are not of one lineage.
        is_descended = ledger is not None and ledger.lineage == self.lineage != ""
        self.ledger, self.revision, self.newest_age = ledger, revision, max(age, self.newest_age)
        if is_newer:
            self.newest_at_ns = now_ns
        if was_out_of_contact or (has_moved and not (is_newer and is_descended)):
            self.is_trusted = False
        elif has_moved and is_next:
            self.is_trusted = True
        if is_put_back or is_another_stream:
            self.is_trusted = False
        if was_out_of_contact or has_moved:
            self.last_change_ns = now_ns
        return is_newer

    def is_overtaken(self, revision: int, started_at_ns: int) -> bool:
        """Whether the answer to a read that began then is from before a later entry, which was seen meanwhile."""
        return revision < self.revision and started_at_ns < self.last_change_ns

    def note_hold(self, hold_ns: int) -> None:
        """A grant may matter for this time."""
        self.longest_hold_ns = max(self.longest_hold_ns, hold_ns)

    def record_own_write(self, ledger: Ledger, revision: int, now_ns: int) -> None:
        """Record our own write: it is the newest entry."""
        self.ledger, self.revision, self.newest_age = ledger, revision, ledger.age
        self.last_change_ns = self.newest_at_ns = self._contact_at_ns = now_ns
        self.is_trusted = True

    @property
    def lineage(self) -> str:
        """The lineage of the last known ledger."""
        return self.ledger.lineage if self.ledger else ""

    @property
    def has_regressed(self) -> bool:
        """Whether newer ledgers were seen than what there is now, an older copy or none."""
        return self.newest_age > (self.ledger.age if self.ledger else (0, 0))

    @property
    def is_known(self) -> bool:
        """Whether the ledger, or its absence, was ever seen."""
        return self._contact_at_ns is not None

    def lease_expires_at_ns(self) -> int:
        """When the leader's lease expires, as seen from here; in the past where there is no leader."""
        if self.ledger is None or self.ledger.leader is None:
            return self.last_change_ns
        return self.last_change_ns + max(self.lease_ns, self.ledger.lease_ns)


def _identity(ledger: Ledger | None) -> tuple[object, ...]:
    """How two entries are distinguished. A copy of another lineage may have the same age, and the same revision."""
    return () if ledger is None else (ledger.age, ledger.instance, ledger.lineage)
