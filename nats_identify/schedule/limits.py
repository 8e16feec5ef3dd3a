"""The day's course: figures from Discord, its end, and what happens when the budget runs out. It fetches nothing."""

from nats_identify.schedule import plain, replies
from nats_identify.schedule.model import MAX_BUCKETS, Event, FetchLimits, Limits, Reason, ScheduleAction
from nats_identify.schedule.state import ScheduleState
from nats_identify.schedule.timers import TimerKind


class LimitsTracker:
    """Keeps the book's budget true between two of Discord's figures."""

    def __init__(self, state: ScheduleState) -> None:
        self._state = state
        self._uncounted: int | None = None  # grants that the figure being fetched may not show
        self._closed = (False, False)  # whether the budget had run out for priority 0, for priority 1

    def fetch_started(self, now_ns: int) -> None:
        """Discord is asked from now on: what is in the air, and what is granted meanwhile, it may not show."""
        self._uncounted = self._state.unconfirmed_count(now_ns)

    def forget_asking(self) -> None:
        """Whatever Discord answers, it is not for us."""
        self._uncounted, self._closed = None, (False, False)

    def learn(self, limits: Limits, now_ns: int) -> list[ScheduleAction]:
        """Take Discord's figure; nonsense leaves the old limits as they are."""
        state = self._state
        if not 1 <= limits.max_concurrency <= MAX_BUCKETS:
            return []
        uncounted = state.unconfirmed_count(now_ns) if self._uncounted is None else self._uncounted
        self._uncounted = None
        state.budget.set(limits, unconfirmed_count=uncounted, now_ns=now_ns)
        state.renumber(limits.max_concurrency)
        self.watch()
        return [Event("limits", replies.limits(state, now_ns))]

    def charge(self, now_ns: int) -> None:
        """Spend one identify."""
        self._state.budget.charge(now_ns)
        if self._uncounted is not None:
            self._uncounted += 1
        self.watch()

    def watch(self) -> None:
        """Look again at the day's end."""
        if self._state.budget.resets_at_ns is not None:
            self._state.timers.at(self._state.budget.resets_at_ns, TimerKind.BUDGET)

    def kind(self, now_ns: int) -> list[ScheduleAction]:
        """Close or refill the budget if the day has ended."""
        state = self._state
        has_ended = state.budget.end_day(now_ns, unconfirmed_count=state.unconfirmed_count(now_ns))
        self.watch()
        if not has_ended:
            return []
        state.mark_all_dirty()
        over = Event("limits", replies.limits(state, now_ns))
        return [over] if state.budget.static else [over, FetchLimits("the day has ended")]

    def refuse_plain_when_exhausted(self, now_ns: int) -> list[ScheduleAction]:
        """When the budget runs out for a priority, those who cannot be told to wait are told so at once."""
        state, limit = self._state, Reason.SESSION_LIMIT
        closed = (state.budget.closed_for(0) is limit, state.budget.closed_for(1) is limit)
        has_run_out, self._closed = closed > self._closed, closed
        if not has_run_out:
            return []
        actions: list[ScheduleAction] = [Event("exhausted", replies.limits(state, now_ns))]
        for request in [request for queue in state.requests.queues.values() for request in queue]:
            if not request.message.managed and state.budget.closed_for(request.message.priority) is limit:
                refusal = replies.exhausted(state, request.message.request_id, now_ns)
                actions += plain.final(state, request.message, replies.refuse(request.message, refusal))
        return actions
