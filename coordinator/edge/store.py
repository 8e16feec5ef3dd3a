"""The ledger in JetStream KV: read from the stream's leader, written by compare-and-set. It decides nothing.

A read or a write has one outcome, within about a second; what an unsettled one means is the core's to find out.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from nats import errors
from nats.js import JetStreamContext, api
from nats.js.errors import BadRequestError, NotFoundError

from coordinator.core.ledger import Ledger, LedgerRead, LedgerUnreadable, Write, WriteUnsettled, Written
from coordinator.edge.connections import Connection
from coordinator.edge.ledger_json import LedgerWriter, decode
from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.settings import SettingsError
from nats_identify.clock import NS_PER_S, Clock

ANSWER_WITHIN_S: Final = 1.0
"""A stream whose leader died answers nobody for seconds; the core asks again by itself."""

ASK_AGAIN_S: Final = 0.1
"""A stream between two leaders drops what it is asked; whoever asks again soon hears of the next one at once."""

CLUSTER_REPLICAS: Final = 3

INSTANCE_HEADER: Final = "Identify-Instance"
"""Says whose commit it is to whoever watches the headers alone."""

LINEAGE_HEADER: Final = "Identify-Lineage"
"""The ledger's lineage. A header, so that an entry that somebody puts back by hand has none, and is of no lineage."""

_KEY: Final = "ledger"
_STREAM_MISSING: Final = 10059  # JetStream's err_code, as against 10037: no message
_TROUBLE: Final = (errors.Error, OSError, LookupError, ValueError, TypeError)

_Answer = TypeVar("_Answer")


class LedgerStore:
    """One KV entry.

    Args:
        connection: carries nothing else.
        bucket: the KV bucket's name.
        prefix: whose ledger it must be.
        replicas: copies to make the KV bucket with; None for what the server allows.
        fresh_start: whether it matters that nobody has ever written here; finding out takes one more right.
        clock: stamps what was answered.
        metrics: measures the commits.
        log: told of troubles.

    Attributes:
        revision: the newest that was read or written.
        answered_at_ns: when that was.
        called_at_ns: when the call began that is still under way, else None.
        log: as given.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        bucket: str,
        prefix: str,
        replicas: int | None,
        fresh_start: bool,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self.subject = f"$KV.{bucket}.{_KEY}"
        self.stream = f"KV_{bucket}"
        self.jetstream: JetStreamContext = connection.jetstream(timeout=ANSWER_WITHIN_S)
        self.revision = 0
        self.answered_at_ns: int | None = None
        self.called_at_ns: int | None = None
        self._connection = connection
        self._bucket = bucket
        self._prefix = prefix
        self._replicas = replicas
        self._fresh_start = fresh_start
        self._clock = clock
        self._metrics = metrics
        self.log = log
        self._writer = LedgerWriter()
        self._has_seen_one = False

    async def read(self) -> LedgerRead | LedgerUnreadable:
        """Read the ledger from the stream's leader; make the KV bucket where there is none.

        Raises:
            SettingsError: the KV bucket belongs to another prefix.
        """
        self.called_at_ns = self._clock()
        try:
            return await self.look()
        finally:
            self.called_at_ns = None

    async def look(self) -> LedgerRead | LedgerUnreadable:
        """Read, as `read` does, beside a call that the core waits for.

        Raises:
            SettingsError: the KV bucket belongs to another prefix.
        """
        try:
            read = await self._read()
        except _TROUBLE as error:
            self._connection.complain("ledger", f"the ledger cannot be read: {_said(error)}")
            return LedgerUnreadable()
        self._answered(read.revision)
        return read

    async def write(self, write: Write) -> Written | WriteUnsettled:
        """Write the ledger if ``write.revision`` is still the newest."""
        self.called_at_ns = began_ns = self._clock()
        headers = {
            api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(write.revision),
            INSTANCE_HEADER: write.ledger.instance,
            LINEAGE_HEADER: write.ledger.lineage,
        }
        try:
            done = await self.jetstream.publish(self.subject, self._writer.write(write.ledger), headers=headers)
        except _TROUBLE as error:
            self._metrics.commits_unsettled.inc()
            self.log.debug("a commit is unsettled", revision=write.revision, error=_said(error))
            return WriteUnsettled()
        finally:
            self.called_at_ns = None
        self._answered(done.seq)
        self._metrics.commit.observe((self._clock() - began_ns) / NS_PER_S)
        return Written(done.seq)

    def _answered(self, revision: int) -> None:
        self.revision, self.answered_at_ns = revision, self._clock()
        self._has_seen_one = self._has_seen_one or revision > 0

    async def _read(self) -> LedgerRead:
        try:
            message = await first_answer(lambda: self.jetstream.get_msg(self.stream, subject=self.subject))
        except NotFoundError as error:
            if error.err_code == _STREAM_MISSING:
                await self._make()
            return LedgerRead(None, 0, never_written=await self._was_never_written())
        revision = message.seq or 0
        headers = message.headers or {}
        if "KV-Operation" in headers:  # a delete marker
            return LedgerRead(None, revision)
        ledger = self.decode(message.data or b"", headers.get(LINEAGE_HEADER, ""))
        written_on = headers.get(api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value)
        return LedgerRead(ledger, revision, written_on=int(written_on) if written_on else None)

    def decode(self, payload: bytes, lineage: str) -> Ledger:
        """Read an entry of ours.

        Raises:
            SettingsError: it belongs to another prefix.
            ValueError: it is no ledger.
        """
        try:
            ledger = decode(payload, lineage)
        except ValueError as error:
            message = f"KV bucket {self._bucket} holds no ledger that this version can read; mend or delete its key"
            raise ValueError(message) from error
        if ledger.prefix != self._prefix:
            line = f"IDENTIFY_PREFIX: KV bucket {self._bucket} belongs to {ledger.prefix!r}; give another prefix"
            raise SettingsError(line)
        return ledger

    async def _make(self) -> None:
        replicas = self._replicas or (CLUSTER_REPLICAS if self._connection.is_clustered else 1)
        config = api.KeyValueConfig(
            bucket=self._bucket,
            description="Who leads the IDENTIFY queue, what it granted, and what is left of the day",
            history=1,
            storage=api.StorageType.FILE,
            replicas=replicas,
        )
        try:
            await self.jetstream.create_key_value(config)
        except BadRequestError:  # another coordinator was faster, perhaps with other settings
            await self.jetstream.stream_info(self.stream)
        else:
            self.log.info("KV bucket made", bucket=self._bucket, replicas=replicas)

    async def _was_never_written(self) -> bool:
        """Whether nobody has ever led here; a stream that was made anew, or is not ours to look at, proves nothing."""
        if self._has_seen_one or not self._fresh_start:
            return False
        try:
            return (await self.jetstream.stream_info(self.stream)).state.last_seq == 0
        except errors.TimeoutError:
            return False


async def first_answer(ask: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
    """Ask again and again, and return what is answered first, to whichever asking.

    Raises:
        TimeoutError: nothing was answered within `ANSWER_WITHIN_S`.
    """
    asked: set[asyncio.Task[_Answer]] = set()
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                task = asyncio.create_task(ask())
                task.add_done_callback(_look_at)  # nobody else does, where another was quicker
                asked.add(task)
                done, asked = await asyncio.wait(asked, timeout=ASK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    return done.pop().result()
    finally:
        for unanswered in asked:
            unanswered.cancel()


def _look_at(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
