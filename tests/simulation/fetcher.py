"""How a coordinator asks Discord for its figures, as the edge does: one at a time, at the product's own pace."""

from typing import TYPE_CHECKING

from nats_identify.discord.backoff import Backoff, FetchResult
from nats_identify.schedule.model import LimitsFetched, LimitsFetchStarted
from tests.simulation.discord import Told

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator
    from tests.simulation.world import World


class Fetcher:
    """One coordinator's requests to Discord."""

    def __init__(self, world: "World", owner: "Coordinator") -> None:
        self._world = world
        self._owner = owner
        self._backoff = Backoff()
        self._is_wished = False
        self._is_busy = False

    def request_refresh(self) -> None:
        """Fetch as soon as that is allowed; wishes made meanwhile are one."""
        self._is_wished = True
        if not self._is_busy:
            self._is_busy = True
            # The wish is met in a turn of the loop of its own.
            self._world.engine.after(0, self._owner.meet, self._ask)

    def _ask(self) -> None:
        self._is_wished = False
        self._owner.tell(LimitsFetchStarted())
        if self._owner.is_alive:
            self._world.discord.serve(lambda told: self._owner.meet(self._answered, told))

    def _answered(self, told: Told) -> None:
        engine = self._world.engine
        if told.limits is not None:
            self._owner.tell(LimitsFetched(told.limits))
        wait_ns = self._backoff.answered(told.answer, jitter=engine.random.random(), retry_after_ns=told.retry_after_ns)
        engine.after(wait_ns, self._owner.meet, self._rested, told.answer is not FetchResult.OK)

    def _rested(self, failed: bool) -> None:  # called by the engine alone
        if self._is_wished or (failed and self._owner.is_leading):
            self._ask()
        else:
            self._is_busy = False
