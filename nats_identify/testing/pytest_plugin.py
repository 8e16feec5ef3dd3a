"""A pytest plugin: the fixture ``simulated_discord``, a Discord that fails the test when a limit is broken.

It is loaded where it is named, and nowhere else: ``pytest_plugins = ["nats_identify.testing.pytest_plugin"]`` in the
``conftest.py`` beside pytest's configuration file. It needs pytest 8 or later and the extra ``testing``. Tests may run
by pytest-asyncio, by anyio or by ``asyncio.run``.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

import pytest

from nats_identify.clock import NS_PER_S
from nats_identify.testing.events import Identified
from nats_identify.testing.gateway import SimulatedGateway
from nats_identify.testing.judge import Verdict
from nats_identify.testing.record import Report
from nats_identify.testing.redirect import redirect

MARKER: Final = "simulated_discord"
ANSWER_MAX_S: Final = 30.0
"""The gateway's thread answers within milliseconds; one that needs this long is stuck."""

ResultT = TypeVar("ResultT")


class SimulatedDiscord:
    """A `SimulatedGateway` in a thread of its own, so that a bot which blocks its event loop does not stop it.

    Args:
        options: of `SimulatedGateway`.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # as SimulatedGateway takes them
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulated Discord", daemon=True)
        self._violations_are_allowed = False
        self._violations_reported = 0
        self.gateway = SimulatedGateway(**options)
        """The gateway itself. It lives in another thread: use `call` for its methods."""

    @property
    def rest_url(self) -> str:
        """Discord's API, e.g. ``http://127.0.0.1:40001/api/v10``."""
        return self.gateway.rest_url

    @property
    def ws_url(self) -> str:
        """Where the gateway listens, e.g. ``ws://127.0.0.1:40001``."""
        return self.gateway.ws_url

    def redirect(self, package: str) -> None:
        """Let every bot of this process that uses the library log in here, as `redirect.redirect` does."""
        redirect(package, rest_url=self.rest_url, gateway_url=self.ws_url)

    def report(self) -> Report:
        """Return what has happened so far, added up."""
        return self._run(self._report())

    async def until(self, condition: Callable[[Report], bool], *, within_s: float = 120.0) -> Report:
        """Wait for a condition on the report, in any event loop, and return the report that meets it.

        Raises:
            TimeoutError: it was not met in ``within_s`` seconds; the message holds the report.
        """
        waiting = self.gateway.until(condition, within_s=within_s)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, self._loop))

    def wait_until(self, condition: Callable[[Report], bool], *, within_s: float = 120.0) -> Report:
        """Wait as `until` does, in a test without an event loop.

        Raises:
            TimeoutError: as `until`.
        """
        waiting = self.gateway.until(condition, within_s=within_s)
        return self._run(waiting, within_s=within_s + ANSWER_MAX_S)

    def call(self, order: Callable[[SimulatedGateway], Any]) -> Any:  # noqa: ANN401  # whatever the order returns
        """Run an order in the gateway's thread and return its result, e.g. ``call(lambda gateway: gateway.drop(0))``.

        Raises:
            Exception: whatever the order raises.
        """
        return self._run(_order(order, self.gateway))

    def allow_violations(self) -> None:
        """Let the test pass although a limit is broken, as for a test that shows just that."""
        self._violations_are_allowed = True

    def check(self) -> None:
        """Fail the test if Discord would have refused an IDENTIFY. It is called at the end of each test.

        Raises:
            pytest.fail.Exception: it would; each refused IDENTIFY is reported once.
        """
        refused = self._run(self._refused())
        new = refused[self._violations_reported :]
        self._violations_reported = len(refused)
        if new and not self._violations_are_allowed:
            pytest.fail("\n".join([f"Discord would have refused {len(new)} IDENTIFYs:", *new]), pytrace=False)

    def start(self) -> None:
        """Start the thread, and the gateway in it.

        Raises:
            OSError: its port is in use.
        """
        self._thread.start()
        try:
            self._run(self.gateway.__aenter__())
        except BaseException:
            self._end_thread()
            raise

    def stop(self) -> None:
        """Stop the gateway and the thread; connections that are open are closed."""
        try:
            self._run(self.gateway.__aexit__(None, None, None))
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_MAX_S)
        self._loop.close()

    def _run(self, waiting: Coroutine[Any, Any, ResultT], *, within_s: float = ANSWER_MAX_S) -> ResultT:
        return asyncio.run_coroutine_threadsafe(waiting, self._loop).result(within_s)

    async def _report(self) -> Report:
        return self.gateway.record.report()

    async def _refused(self) -> list[str]:
        judged = self.gateway.record.of(Identified)
        return [_describe(event) for event in judged if event.verdict is not Verdict.ACCEPTED]


def _describe(event: Identified) -> str:
    if event.verdict is Verdict.OVER_LIMIT:
        return f"  shard {event.shard_id}: over the day's limit; Discord would end every session and reset the token"
    gap_s = (event.gap_ns or 0) / NS_PER_S
    return f"  shard {event.shard_id}, bucket {event.bucket}: {gap_s:.3f} s after the IDENTIFY before it"


async def _order(order: Callable[[SimulatedGateway], Any], gateway: SimulatedGateway) -> Any:  # noqa: ANN401  # its result
    result = order(gateway)
    return await result if isinstance(result, Awaitable) else result


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker, for ``--strict-markers``."""
    config.addinivalue_line(
        "markers", f"{MARKER}(**options): options of SimulatedGateway for the fixture simulated_discord"
    )


@pytest.fixture
def simulated_discord(request: pytest.FixtureRequest) -> Generator[SimulatedDiscord, None, None]:
    """A simulated Discord on loopback; the test fails if it would have refused an IDENTIFY.

    Its options are those of `SimulatedGateway`: ``@pytest.mark.simulated_discord(max_concurrency=2, window_s=0.5)``.
    """
    marker = request.node.get_closest_marker(MARKER)
    discord = SimulatedDiscord(**({} if marker is None else marker.kwargs))
    discord.start()
    try:
        yield discord
        discord.check()  # what a bot did while other fixtures ended
    finally:
        discord.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Judge right after the test, so that a violation is the test's own failure."""
    result = yield
    discord = getattr(item, "funcargs", {}).get(simulated_discord.__name__)
    if isinstance(discord, SimulatedDiscord):
        discord.check()
    return result
