"""Watches the ledger's headers, so that a standby reads a commit at once. A hint: what it misses, a read finds.

The headers alone: an entry may have hundreds of kilobytes, and is read where it is another replica's. A leader does not
watch: it would be sent each of its own commits, and its next write shows whether another replica has written.

A watch can fall silent when its consumer's server dies or the stream is made anew: it is started again when
the store knows of more than it has shown. Where NATS gives no consumer at all, because others use up what the account
may have, the core's reads each third of a lease stand in: grants are as fast, a takeover takes that much longer.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from nats import errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from coordinator.core.ledger import LedgerRead, LedgerSeen
from coordinator.edge.connections import TROUBLE
from coordinator.edge.store import INSTANCE_HEADER, LedgerStore
from coordinator.settings import SettingsError

HEARTBEAT_S: Final = 0.5
READ_EVERY_S: Final = 0.025
"""A ledger of a thousand grants takes some 5 ms to take in, and a busy leader writes hundreds a second."""

LOOK_EVERY_S: Final = 1.0


class LedgerWatch:
    """An ordered consumer on the ledger's subject.

    Args:
        store: reads the ledger; its subject is watched.
        instance: this replica's own commits are skipped.
        show: called with each newer ledger.
    """

    def __init__(self, store: LedgerStore, instance: str, show: Callable[[LedgerSeen], object]) -> None:
        self._store = store
        self._is_refused = False
        self._instance = instance
        self._show = show
        self._news = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._is_wanted.set()
        self._heard_revision = 0

    def set_wanted(self, *, is_wanted: bool) -> None:
        """Watch, or do not: a replica that leads or leaves needs no watch."""
        if is_wanted:
            self._is_wanted.set()
            return
        self._is_wanted.clear()
        if self._is_refused:
            self._store.log.info("no watch of the ledger is needed any more", stream=self._store.stream)
        self._is_refused = False

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._tell())

    async def _listen(self) -> None:
        while await self._is_wanted.wait():
            subscription: JetStreamContext.PushSubscription | None = None
            try:
                subscription = await self._store.jetstream.subscribe(
                    self._store.subject,
                    stream=self._store.stream,
                    cb=self._hear,
                    ordered_consumer=True,
                    idle_heartbeat=HEARTBEAT_S,
                    deliver_policy=api.DeliverPolicy.LAST,
                    config=api.ConsumerConfig(headers_only=True),
                )
                self._take_note(None)
                await self._until_silent()
            except TROUBLE as error:
                if self._is_wanted.is_set():
                    self._take_note(error)  # or there is no stream yet, or no leader: the next try comes in a second
            finally:
                if subscription is not None:
                    with suppress(*TROUBLE):
                        await subscription.unsubscribe()
            if self._is_wanted.is_set():
                await asyncio.sleep(LOOK_EVERY_S)

    def _take_note(self, error: Exception | None) -> None:
        """Log that NATS refuses the consumer, or answers nonsense, and when that is over; the store reports outages."""
        is_nonsense = error is not None and not isinstance(error, errors.Error | OSError)
        is_refused = is_nonsense or (isinstance(error, APIError) and not isinstance(error, NotFoundError))
        if is_refused and not self._is_refused:
            self._store.log.warning(
                "NATS refuses a watch of the ledger; it is read each third of a lease instead, and asked for again",
                stream=self._store.stream,
                error=str(error) or repr(error),
            )
        elif error is None and self._is_refused:
            self._store.log.info("the ledger is watched again", stream=self._store.stream)
        self._is_refused = is_refused or (self._is_refused and error is not None)

    async def _until_silent(self) -> None:
        """Return when no watch is wanted, when what was known a while ago was not shown, or the stream began anew."""
        known = self._heard_revision = self._store.revision
        while self._is_wanted.is_set() and known <= self._heard_revision and known <= self._store.revision:
            known = self._store.revision
            await asyncio.sleep(LOOK_EVERY_S)

    async def _hear(self, message: Msg) -> None:
        self._heard_revision = message.metadata.sequence.stream
        if message.headers is None or message.headers.get(INSTANCE_HEADER) != self._instance:
            self._news.set()

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            with suppress(SettingsError):  # the core's next read raises the same, and logs it
                read = await self._store.look()
                if isinstance(read, LedgerRead) and read.ledger is not None:
                    self._show(LedgerSeen(read.ledger, read.revision))
            await asyncio.sleep(READ_EVERY_S)
