"""The ledger in JetStream KV: read from the stream's leader, written by compare-and-set. It decides nothing.

A read or a write has one outcome, within about a second; what an unsettled one means is the core's to find out.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from nats import errors
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from coordinator.core.ledger import Ledger, LedgerRead, LedgerUnreadable, Write, WriteUnsettled, Written
from coordinator.edge.bucket import KvBucket
from coordinator.edge.connections import TROUBLE, Connection
from coordinator.edge.cures import cure_of, is_refusal, words_of
from coordinator.edge.ledger_json import LedgerWriter, decode
from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.edge.trouble import Trouble
from coordinator.settings import SettingsError
from nats_identify.clock import NS_PER_S, Clock

ANSWER_WITHIN_S: Final = 1.0
"""Timeout of a call. A stream without a leader does not answer for seconds; the core repeats the call."""

ASK_AGAIN_S: Final = 0.1
"""Interval of repeated calls: a stream without a leader drops requests, and the next leader answers at once."""

MAKE_AGAIN_NS: Final = NS_PER_S
"""Interval of tries to create the KV bucket; after a cure it is there within two seconds."""

UNWRITTEN_NS: Final = 5 * NS_PER_S
"""Writes unanswered for this long are logged: for less, an election of the stream's leader explains it."""

INSTANCE_HEADER: Final = "Identify-Instance"
"""Header with the writer's instance id, for headers-only consumers."""

LINEAGE_HEADER: Final = "Identify-Lineage"
"""The ledger's lineage. A header, so that an entry that is put back by hand has none, and no lineage."""

_KEY: Final = "ledger"
_STREAM_MISSING: Final = 10059  # JetStream's err_code, as against 10037: no message
_NO_STREAM: Final = b"NATS/1.0 503"  # the server's answer where no stream takes the subject
_END: Final = "\r\n"

_Answer = TypeVar("_Answer")


class _NotMadeError(Exception):
    """There is no KV bucket; the reason has been logged."""


class LedgerStore:
    """One KV entry.

    Args:
        connection: carries nothing else.
        bucket: the KV bucket, made where there is none.
        prefix: whose ledger it must be.
        fresh_start: whether to check that the stream was never written to; that needs one more permission.
        clock: stamps what was answered.
        metrics: measures the commits.
        log: for troubles.

    Attributes:
        revision: the newest that was read or written.
        answered_at_ns: when that was.
        called_at_ns: when the call began that is still under way, else None.
        unread: why the newest read came to nothing, else None.
        making, writing: why the KV bucket cannot be made, or the ledger not be written.
        log: as given.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        bucket: KvBucket,
        prefix: str,
        fresh_start: bool,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self.subject = f"$KV.{bucket.name}.{_KEY}"
        self.stream = bucket.stream
        self.jetstream: JetStreamContext = connection.jetstream(timeout=ANSWER_WITHIN_S)
        self.revision = 0
        self.answered_at_ns: int | None = None
        self.called_at_ns: int | None = None
        self.unread: str | None = None
        self.making = Trouble("the KV bucket cannot be made", "the KV bucket is there", clock, log)
        self.writing = Trouble("the ledger cannot be written", "the ledger is written again", clock, log)
        metrics.unwritten.set_function(lambda: self.writing.lasts_s)
        self._connection = connection
        self.bucket = bucket
        self._prefix = prefix
        self._fresh_start = fresh_start
        self._clock = clock
        self._metrics = metrics
        self.log = log
        self._writer = LedgerWriter()
        self._has_seen_one = False
        self._tried_on = -1  # the revision that a write is tried on, in vain so far
        self._unwritten_since_ns: int | None = None
        self._make_at_ns = 0

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
        except _NotMadeError:
            return LedgerUnreadable()
        except TROUBLE as error:
            self._connection.warn_throttled("ledger", f"the ledger cannot be read: {words_of(error)}")
            self.unread = words_of(error)
            self._unwritten_since_ns = None  # no more is known of writes
            return LedgerUnreadable()
        self.unread = None
        self.making.ended()
        if read.revision != self._tried_on:  # another write was done since
            self._written()
        self._answered(read.revision)
        return read

    def write(self, write: Write) -> Awaitable[Written | WriteUnsettled]:
        """Send the ledger at once, to be stored if ``write.revision`` is the newest; return the future outcome."""
        self.called_at_ns = began_ns = self._clock()
        payload, header = self._writer.write(write.ledger), _header_of(write)
        answer = self._connection.ask(self.subject, payload, header=header, within_s=ANSWER_WITHIN_S)
        return self._outcome(write, answer, began_ns)

    async def _outcome(
        self, write: Write, answer: "asyncio.Future[tuple[bytes, bytes]]", began_ns: int
    ) -> Written | WriteUnsettled:
        try:
            revision = _revision_in(*await answer)
        except TROUBLE as error:
            return self._unsettled(write, error)
        finally:
            self.called_at_ns = None
        self._written()
        self._answered(revision)
        self._metrics.commit.observe((self._clock() - began_ns) / NS_PER_S)
        return Written(revision)

    def _unsettled(self, write: Write, error: Exception) -> WriteUnsettled:
        """Record a write that was not acknowledged; log it where it is refused or lasts."""
        now_ns = self._clock()
        self._tried_on = write.revision
        self._unwritten_since_ns = self._unwritten_since_ns or now_ns
        self._metrics.commits_unsettled.inc()
        self.log.debug("a commit is unsettled", revision=write.revision, error=words_of(error))
        is_refused = is_refusal(error)
        if is_refused:
            self._metrics.writes_refused.inc()
        # No stream at all is how an election looks too: as with a timeout, it is logged only where it lasts.
        is_sure = is_refused and not isinstance(error, NoStreamResponseError)
        if is_sure or now_ns - self._unwritten_since_ns >= UNWRITTEN_NS:
            self.writing.met(words_of(error), cure_of(error, self.stream), since_ns=self._unwritten_since_ns)
        return WriteUnsettled(is_refused=is_refused)

    def _written(self) -> None:
        """The stream stores ledgers."""
        self._tried_on, self._unwritten_since_ns = -1, None
        self.writing.ended()

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
            message = f"KV bucket {self.bucket.name} holds no ledger that this version can read; mend or delete its key"
            raise ValueError(message) from error
        if ledger.prefix != self._prefix:
            line = f"IDENTIFY_PREFIX: KV bucket {self.bucket.name} belongs to {ledger.prefix!r}; give another prefix"
            raise SettingsError(line)
        return ledger

    async def _make(self) -> None:
        now_ns = self._clock()
        if now_ns < self._make_at_ns:
            raise _NotMadeError
        try:
            await self.bucket.make()
        except APIError as error:
            self._make_at_ns = now_ns + MAKE_AGAIN_NS
            self.making.met(words_of(error), cure_of(error, self.stream))
            raise _NotMadeError from error

    async def _was_never_written(self) -> bool:
        """Whether there has never been a leader; one that was recreated, or cannot be inspected, proves nothing."""
        if self._has_seen_one or not self._fresh_start:
            return False
        try:
            return (await self.jetstream.stream_info(self.stream)).state.last_seq == 0
        except errors.TimeoutError:
            return False


def _revision_in(header: bytes, body: bytes) -> int:
    """Return the revision that the stream acknowledges, as `JetStreamContext.publish` does.

    Raises:
        nats.errors.Error: it refuses the write, or there is no stream.
        LookupError, TypeError, ValueError: it is no answer of JetStream.
    """
    if header.startswith(_NO_STREAM):
        raise NoStreamResponseError
    acknowledged = json.loads(body)
    if "error" in acknowledged:
        raise APIError.from_error(acknowledged["error"])
    return int(acknowledged["seq"])


def _header_of(write: Write) -> bytes:
    """The header block of an entry: what it is written on, and whose it is."""
    lines = {
        api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(write.revision),
        INSTANCE_HEADER: write.ledger.instance,
        LINEAGE_HEADER: " ".join(write.ledger.lineage.split()),  # it may have been read, and stays on its line
    }
    return f"NATS/1.0\r\n{''.join([f'{name}: {value}{_END}' for name, value in lines.items()])}{_END}".encode()


async def first_answer(ask: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
    """Repeat a call each `ASK_AGAIN_S`, and return the first answer to any of them.

    Raises:
        TimeoutError: nothing was answered within `ANSWER_WITHIN_S`.
    """
    asked: set[asyncio.Task[_Answer]] = set()
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                task = asyncio.create_task(ask())
                task.add_done_callback(_look_at)  # its exception is retrieved where another task was first
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
