"""The budget of the day's session starts: what is left, for which priority, and until when. It fetches nothing.

Unknown means closed. Each grant is charged, and refunded on proof that no IDENTIFY was sent; only Discord's
own figure (or, with static limits, the end of the day) refills the budget. Discord's day begins with the first
IDENTIFY that arrives, not with the first turn that is granted: with static limits READY and Invalid Session show it.

What was spent stays spent: ``remaining`` falls below zero where more was charged than a new total or figure allows,
and each number that is applied later counts from there.
"""

from typing import NamedTuple

from nats_identify.schedule.model import DAY, Limits, Reason

_DAY_MIN_NS = DAY - DAY // 1000
"""Discord's day is no shorter, by a clock that may run a little slower than Discord's."""


class StaticDay(NamedTuple):
    """What is known of a day of static limits, whose end is not reported; in the ledger each instant is an age.

    Attributes:
        first_ns: Discord's day has not begun earlier; None where nothing was charged.
        late: charged since Discord's next day may have begun. ``late_ns``: the first of these.
    """

    first_ns: int | None = None
    late: int = 0
    late_ns: int = 0

    def shifted(self, now_ns: int) -> "StaticDay":
        """Turn instants into ages, or ages into instants."""
        first_ns = None if self.first_ns is None else now_ns - self.first_ns
        late_ns = now_ns - self.late_ns if self.late else 0
        return StaticDay(first_ns=first_ns, late=self.late, late_ns=late_ns)


class SessionBudget:
    """Discord's ``session_start_limit``, counted here between two figures.

    Args:
        reserve: the last identifies, for priority 1 and above only.
        static: the figures are settings, so no new ones are fetched: the day refills itself.

    Attributes:
        total, remaining: None means unknown; a deficit is below zero.
        from_settings: these numbers are settings. A replica with a token keeps them for one without, and
            charges nothing to them.
        resets_at_ns: when the day ends; None while nothing was charged.
        is_begun: whether that is certain. Until an IDENTIFY is known to have arrived in it, a static day ends a
            whole day after the newest charge, or after a successor has read it.
    """

    def __init__(self, *, reserve: int = 0, static: bool = True) -> None:
        self.reserve = reserve
        self.static = static
        self.total: int | None = None
        self.remaining: int | None = None
        self.from_settings = static
        self.resets_at_ns: int | None = None
        self.is_begun = False
        self.day = StaticDay()
        self._since_ns = 0  # what was granted before may have been used in the day before

    def set(self, limits: Limits, *, unconfirmed_count: int, now_ns: int, from_settings: bool | None = None) -> None:
        """Set the budget to a figure, less the grants that it may not have counted yet.

        ``from_settings``: whether the numbers are settings; None: they are of the kind that this replica uses.
        """
        self.from_settings = self.static if from_settings is None else from_settings
        self.total = limits.total
        self.remaining = None if limits.remaining is None else limits.remaining - unconfirmed_count
        self.resets_at_ns = None if limits.reset_in_ns is None else now_ns + limits.reset_in_ns
        self.is_begun = self.resets_at_ns is not None
        if not self.is_begun and self.remaining is not None and self.remaining < (self.total or 0):
            self._begin_day(now_ns)

    def set_static(self, limits: Limits, *, unconfirmed_count: int, now_ns: int) -> None:
        """Set the budget to figures of the settings: what is known to be spent stays spent.

        If Discord's figure was known once and is unknown now, the whole day counts as spent, by the larger of the two
        totals. So settings never open a budget that is closed until the next figure, nor do those of a later leader.
        """
        if self.total is None or limits.total is None:
            self.set(limits, unconfirmed_count=unconfirmed_count, now_ns=now_ns)
            return
        spent = max(self.total, limits.total) if self.remaining is None else self.total - self.remaining
        self.remaining = limits.total - spent
        self.total = limits.total
        if self.resets_at_ns is None and self.remaining < limits.total:
            self._begin_day(now_ns)
        if not self.from_settings and self.resets_at_ns is not None:
            self.resets_at_ns += DAY // 1000  # Discord's reset by our clock, which may run a little faster
        self.from_settings = True

    def close(self) -> None:
        """Mark what is left as unknown."""
        self.remaining = None

    @property
    def known(self) -> int | None:
        """What is left, or a deficit; None where nothing may be charged before a figure: none, or another kind."""
        return None if self.from_settings and not self.static else self.remaining

    @property
    def left(self) -> int | None:
        """What is left, for people: never below zero."""
        return None if self.known is None else max(0, self.known)

    def closed_for(self, priority: int) -> Reason | None:
        """Why an identify of this priority may not be charged now, or None where it may."""
        known = self.known
        if known is None:
            return Reason.LIMITS_UNKNOWN
        return Reason.SESSION_LIMIT if known <= self.reserved_from(priority) else None

    @property
    def is_open(self) -> bool:
        """Whether an identify of any priority may be charged now."""
        known = self.known
        return known is not None and known > self.reserve >= 0

    @property
    def is_low(self) -> bool:
        """Whether, without the reserve, at most a twentieth of the day is left, or an unknown part."""
        return self.known is None or (self.known - self.reserve) * 20 <= (self.total or 0)

    def reserved_from(self, priority: int) -> int:
        """How many of each day this priority never gets."""
        return 0 if priority >= 1 else self.reserve

    def charge(self, now_ns: int) -> None:
        """Spend one identify; a day that is not known to have begun begins with it at the earliest."""
        if self.known is None or self.known <= 0:
            text = "a grant was charged to a closed budget"
            raise AssertionError(text)
        self.spend(now_ns)

    def spend(self, now_ns: int) -> None:
        """Count one identify that was granted, whether anything was left or not."""
        if self.remaining is None:
            return
        self.remaining -= 1
        self.day = self._counted(self.day, now_ns)
        if not self.is_begun:
            self._begin_day(now_ns)

    def use(self, granted_at_ns: int, now_ns: int) -> None:
        """Discord had an IDENTIFY of a grant made at ``granted_at_ns``: the day has begun, now at the latest."""
        if not self.is_begun and granted_at_ns >= self._since_ns:
            self._begin_day(now_ns)
            self.is_begun = True

    def refund(self) -> None:
        """Give one session start back: it is proved that no IDENTIFY was sent."""
        if self.remaining is not None:
            self.remaining = min(self.remaining + 1, self.total or 0)

    def end_day(self, now_ns: int, *, unconfirmed_count: int) -> bool:
        """Close or refill at the day's end; return whether the day has just ended.

        With static limits the unconfirmed grants, and those since Discord's day may have ended, may count for
        the new day, so it is charged with them.
        """
        if self.resets_at_ns is None or now_ns < self.resets_at_ns:
            return False
        self._since_ns = now_ns
        if self.from_settings and self.total is not None:
            before, carried = self.day, max(unconfirmed_count, self.day.late)
            first_ns = before.late_ns if before.late else now_ns - DAY // 100  # each unconfirmed grant is younger
            self.day = StaticDay(first_ns=first_ns if carried else None)
            limits = Limits(max_concurrency=1, total=self.total, remaining=self.total)
            self.set(limits, unconfirmed_count=carried, now_ns=now_ns, from_settings=True)
        else:
            self.close()
            self.resets_at_ns, self.is_begun = None, False
        return True

    def restore_day(self, ages: StaticDay | None, now_ns: int) -> None:
        """Take over the leader's day; without one in the ledger, it is unknown when the day began."""
        self.day = StaticDay(first_ns=now_ns - DAY) if ages is None else ages.shifted(now_ns)

    def mark_unknown(self, now_ns: int) -> None:
        """Mark what is left as unknown; for a static day, when it began: later grants may count for the next day."""
        if self.static or self.from_settings:
            self.day = self.day._replace(first_ns=now_ns - DAY)
        else:
            self.close()

    def _counted(self, day: StaticDay, now_ns: int) -> StaticDay:
        if day.first_ns is None:
            return StaticDay(first_ns=now_ns)
        if now_ns < day.first_ns + _DAY_MIN_NS:
            return day
        return StaticDay(first_ns=day.first_ns, late=day.late + 1, late_ns=day.late_ns or now_ns)

    def _begin_day(self, now_ns: int) -> None:
        # Our clock may run a little faster than Discord's: a static day is 0.1 % longer, 86 s.
        self.resets_at_ns = now_ns + DAY + (DAY // 1000 if self.from_settings else 0)
