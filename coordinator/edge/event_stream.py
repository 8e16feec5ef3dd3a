"""Makes the JetStream stream that keeps the events for a while, where IDENTIFY_HISTORY says so. It publishes nothing.

Events are published as they are without it, and no one waits for them to be stored. What goes wrong here is logged and
tried again; it touches neither grants nor /readyz.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from nats import errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from coordinator.edge.bucket import CLUSTER_REPLICAS
from coordinator.edge.connections import TROUBLE, Connection
from coordinator.edge.cures import LOOK_AT_NATS, NAME_IN_USE, NOT_A_CLUSTER, words_of
from coordinator.edge.log import Log
from coordinator.settings import Settings
from nats_identify.clock import NS_PER_S
from nats_identify.wire import Subjects

RETRY_MIN_S: Final = 2.0
RETRY_MAX_S: Final = 60.0
"""A try that fails is followed by another after this, at first and at most; the pause doubles each time."""

BEGIN_LOOK_EVERY_S: Final = 0.05
LOOK_EVERY_S: Final = 60.0
"""A stream that was deleted is made again within this."""

NOT_KEPT: Final = "no history of events is kept; trying again"
KEPT: Final = "the history of events is kept"

_NO_STREAM: Final = 10059
"""Stream not found: any other 404 is another trouble."""

_BYTES: Final = (
    "lower IDENTIFY_HISTORY_MAX_BYTES, or raise max_file of the NATS account and max_file_store of the server "
    "(nats account info)"
)
_ENABLE: Final = "enable JetStream on the NATS server and for this account, or unset IDENTIFY_HISTORY"
_CURES: Final = {
    10002: _BYTES,  # resource limits exceeded for account
    10005: "set IDENTIFY_KV_REPLICAS to no more than the NATS servers with JetStream that are up",  # no suitable peers
    10023: _BYTES,  # insufficient resources
    10027: "raise max_streams of the NATS account, or unset IDENTIFY_HISTORY",  # maximum streams
    10028: _BYTES,  # insufficient memory
    10039: _ENABLE,  # JetStream not enabled for account
    10047: _BYTES,  # insufficient storage resources available
    10065: "another stream keeps these subjects: delete it (nats stream ls), or unset IDENTIFY_HISTORY",  # overlap
    10074: "set IDENTIFY_KV_REPLICAS=1",  # replicas > 1 not supported in non-clustered mode
    10076: _ENABLE,  # JetStream not enabled
    10122: _BYTES,  # stream max bytes exceeds account limit
}


class ForeignStreamError(errors.Error):
    """A stream of this name is there, and is another's: it is left as it is."""


class EventStream:
    """The stream of one prefix's events.

    Args:
        connection: to the server that keeps it.
        subjects: its events, and its name.
        settings: how long, how many bytes, how many copies.
        has_ledger: whether there is a ledger: it comes first where the account has room for one stream.
        log: for what was made, and what stands in the way.
    """

    def __init__(
        self,
        connection: Connection,
        subjects: Subjects,
        settings: Settings,
        *,
        has_ledger: Callable[[], bool],
        log: Log,
    ) -> None:
        self.name = subjects.event_stream
        self._connection = connection
        self._jetstream = connection.jetstream(timeout=2.0)
        self._subjects = [subjects.all_events]
        self._settings = settings
        self._has_ledger = has_ledger
        self._log = log
        self._said: str | None = None
        self._is_set = False

    async def run(self) -> None:
        """Make it, or give it the settings' bounds, and make it again where it was deleted; until cancelled.

        Without IDENTIFY_HISTORY nothing is made, and a stream that is there is left as it is.
        """
        while not self._has_ledger():  # noqa: ASYNC110  # another task reads it
            await asyncio.sleep(BEGIN_LOOK_EVERY_S)
        pause_s = RETRY_MIN_S
        while self._settings.history_ns is not None:
            try:
                await self._keep()
            except TROUBLE as error:
                self._say(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
            else:
                pause_s = RETRY_MIN_S
                await asyncio.sleep(LOOK_EVERY_S)

    async def _keep(self) -> None:
        """Make sure that the stream exists.

        Its bounds are set once in each process: two coordinators with different settings must not overwrite the bounds
        of each other again and again.

        Raises:
            nats.errors.Error: it is not.
        """
        try:
            await self._look()
        except NotFoundError as error:
            if error.err_code != _NO_STREAM:
                raise
            await self._make()
        if self._said is not None or not self._is_set:
            self._log.info(KEPT, stream=self.name, max_bytes=self._settings.identify_history_max_bytes)
        self._said, self._is_set = None, True

    async def _look(self) -> None:
        """Look that it is there, and set its bounds where this process has not done so."""
        info = await self._jetstream.stream_info(self.name)
        if not self._is_set:
            await self._set_bounds(info.config)

    async def _make(self) -> None:
        """Make it; where another coordinator was faster it has settings of its own, and gets these bounds."""
        asked = self._settings.identify_kv_replicas
        replicas = asked or (CLUSTER_REPLICAS if self._connection.is_clustered else 1)
        try:
            await self._create(replicas)
        except APIError as error:
            if error.err_code == NAME_IN_USE:
                await self._look()
                return
            if error.err_code != NOT_A_CLUSTER or asked is not None:
                raise
            await self._create(1)  # a single server names a cluster too where it has leaf nodes

    async def _create(self, replicas: int) -> None:
        config = api.StreamConfig(
            name=self.name,
            description="What happened in the IDENTIFY queue",
            subjects=self._subjects,
            storage=api.StorageType.FILE,
            num_replicas=replicas,
        )
        await self._jetstream.add_stream(self._bounded(config))
        self._is_set = False  # it is logged

    async def _set_bounds(self, found: api.StreamConfig) -> None:
        if found.subjects != self._subjects:
            message = f"stream {self.name} is there, and keeps {', '.join(found.subjects or ['nothing'])}"
            raise ForeignStreamError(message)
        wanted = self._bounded(found)
        if wanted != found:
            window_s = min(found.duplicate_window, wanted.max_age or found.duplicate_window)
            await self._jetstream.update_stream(replace(wanted, duplicate_window=window_s))

    def _bounded(self, config: api.StreamConfig) -> api.StreamConfig:
        return replace(
            config,
            max_age=(self._settings.history_ns or 0) / NS_PER_S,
            max_bytes=self._settings.identify_history_max_bytes,
            discard=api.DiscardPolicy.OLD,
        )

    def _say(self, error: Exception) -> None:
        """Log a trouble once; that NATS is away is the connection's to log."""
        words = words_of(error)
        if words != self._said and self._connection.is_connected:
            self._said = words
            self._log.warning(NOT_KEPT, stream=self.name, error=words, do=self._cure_of(error))

    def _cure_of(self, error: Exception) -> str:
        if isinstance(error, ForeignStreamError):
            return "delete it or copy it under another name, or unset IDENTIFY_HISTORY"
        if isinstance(error, TimeoutError | errors.TimeoutError):
            allowed = f"$JS.API.STREAM.INFO.{self.name}, $JS.API.STREAM.CREATE.{self.name} and the same with UPDATE"
            return f"let the coordinator's NATS user publish to {allowed}"
        return _CURES.get(getattr(error, "err_code", None) or 0, LOOK_AT_NATS)
