"""The day's course: figures from Discord, its end, and what happens when the budget runs out. It fetches nothing."""

from nats_identify.schedule import plain, replies
from nats_identify.schedule.alarms import Look
from nats_identify.schedule.book import Book
from nats_identify.schedule.model import MAX_BUCKETS, FetchFigure, Happened, Limits, Reason, ScheduleAction


class Day:
    """Keeps the book's budget true between two of Discord's figures."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._uncounted: int | None = None  # grants that the figure being fetched may not show
        self._closed = (False, False)  # whether the budget had run out for priority 0, for priority 1

    def ask(self, now_ns: int) -> None:
        """Discord is asked from now on: what is in the air, and what is granted meanwhile, it may not show."""
        self._uncounted = self._book.in_the_air(now_ns)

    def forget_asking(self) -> None:
        """Whatever Discord answers, it is not for us."""
        self._uncounted, self._closed = None, (False, False)

    def learn(self, limits: Limits, now_ns: int) -> list[ScheduleAction]:
        """Take Discord's figure; nonsense leaves the old limits as they are."""
        book = self._book
        if not 1 <= limits.max_concurrency <= MAX_BUCKETS:
            return []
        uncounted = book.in_the_air(now_ns) if self._uncounted is None else self._uncounted
        self._uncounted = None
        book.budget.set(limits, in_the_air=uncounted, now_ns=now_ns)
        book.renumber(limits.max_concurrency)
        self.watch()
        return [Happened("limits", replies.limits(book, now_ns))]

    def charge(self, now_ns: int) -> None:
        """Spend one identify."""
        self._book.budget.charge(now_ns)
        if self._uncounted is not None:
            self._uncounted += 1
        self.watch()

    def watch(self) -> None:
        """Look again at the day's end."""
        if self._book.budget.resets_at_ns is not None:
            self._book.alarms.at(self._book.budget.resets_at_ns, Look.BUDGET)

    def look(self, now_ns: int) -> list[ScheduleAction]:
        """Close or refill the budget if the day has ended."""
        book = self._book
        has_ended = book.budget.end_day(now_ns, in_the_air=book.in_the_air(now_ns))
        self.watch()
        if not has_ended:
            return []
        book.all_due()
        over = Happened("limits", replies.limits(book, now_ns))
        return [over] if book.budget.static else [over, FetchFigure("the day has ended")]

    def refuse_plain_when_exhausted(self, now_ns: int) -> list[ScheduleAction]:
        """When the budget runs out for a priority, those who cannot be told to wait are told so at once."""
        book, limit = self._book, Reason.SESSION_LIMIT
        closed = (book.budget.closed_for(0) is limit, book.budget.closed_for(1) is limit)
        has_run_out, self._closed = closed > self._closed, closed
        if not has_run_out:
            return []
        actions: list[ScheduleAction] = [Happened("exhausted", replies.limits(book, now_ns))]
        for asking in [asking for line in book.room.lines.values() for asking in line]:
            if not asking.ask.managed and book.budget.closed_for(asking.ask.priority) is limit:
                refusal = replies.exhausted(book, asking.ask.request_id, now_ns)
                actions += plain.final(book, asking.ask, replies.refuse(asking.ask, refusal))
        return actions
