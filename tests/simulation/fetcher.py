"""How a coordinator asks Discord for its figures, as the edge does: one at a time, a second apart. It judges none."""

from typing import TYPE_CHECKING, Final

from nats_identify.schedule.model import SECOND, Figure, FigureAsked, Limits

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator
    from tests.simulation.world import World

ASK_EVERY_NS: Final = SECOND
BACK_OFF_MOST_NS: Final = 60 * SECOND


class Fetcher:
    """One coordinator's requests to Discord."""

    def __init__(self, world: "World", owner: "Coordinator") -> None:
        self._world = world
        self._owner = owner
        self._is_wished = False
        self._is_busy = False
        self._failures = 0

    def wish(self) -> None:
        """Fetch as soon as that is allowed; wishes made meanwhile are one."""
        self._is_wished = True
        if not self._is_busy:
            self._is_busy = True
            # The wish is met in a turn of the loop of its own.
            self._world.engine.after(0, self._owner.meet, self._ask)

    def _ask(self) -> None:
        self._is_wished = False
        self._owner.tell(FigureAsked())
        if self._owner.is_alive:
            self._world.discord.serve(lambda limits: self._owner.meet(self._answered, limits))

    def _answered(self, limits: Limits | None) -> None:
        engine = self._world.engine
        if limits is None:
            self._failures += 1
            back_off_ns = min(ASK_EVERY_NS << self._failures, BACK_OFF_MOST_NS)
            wait_ns = engine.between(back_off_ns // 2, back_off_ns)
        else:
            self._failures, wait_ns = 0, ASK_EVERY_NS
            self._owner.tell(Figure(limits))
        engine.after(wait_ns, self._owner.meet, self._rested, limits is None)

    def _rested(self, failed: bool) -> None:  # called by the engine alone
        if self._is_wished or (failed and self._owner.is_leading):
            self._ask()
        else:
            self._is_busy = False
