"""Copies the waiting queue to a replica that starts. It does not change the order.

The order is kept to the nanosecond: each request carries the age of its place, all of one page counted from the
same instant here. Later pages count from the first one's instant plus the time between the two where they were written.

A rolling update replaces every coordinator within seconds, while a shard far back in the queue renews once a
minute: without this it would be unknown for that time. A copied request is as fresh as it was there, or a little less:
its age counts from before the copy was requested. If it were stale, one that renews here sooner would be granted first.
"""

import asyncio
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from nats import errors
from nats.aio.msg import Msg
from pydantic import ValidationError

from coordinator.edge.connections import Connection
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.log import Log
from coordinator.edge.peer_messages import CopiedRequest, QueueCopy, QueuePage
from nats_identify.clock import Clock
from nats_identify.schedule.bucket_queue import QueuedRequest
from nats_identify.schedule.model import MS, RequestReceived
from nats_identify.schedule.state import ScheduleState
from nats_identify.wire import Subjects

ANSWER_WITHIN_S: Final = 3.0
"""A replica with a crowd to serve takes its time; where there is no other replica, NATS says so at once."""

PAGE_BYTES_MAX: Final = 256 * 1024
"""Bytes of a page, a thousand ordinary requests; half of the server's max_payload where that is less."""

FRAME_BYTES: Final = 256
"""Bytes of a page beside its requests, at most."""

ATTEMPTS: Final = 3
"""How often a copy is begun at most where it is cut short, and how often a page is asked for where none comes."""

CUT_SHORT: Final = "a copy of the queue was cut short"


class QueueTransfer:
    """The waiting queue, page by page.

    Args:
        traffic: carries the pages.
        subjects: where they are asked for.
        instance: its id; later pages come from the same replica.
        state: the queue.
        event_queue: gets the copied requests.
        clock: the replica's time.
        log: for the size of the copy, and failures.
    """

    def __init__(
        self,
        traffic: Connection,
        subjects: Subjects,
        instance: str,
        *,
        state: ScheduleState,
        event_queue: EventQueue,
        clock: Clock,
        log: Log,
    ) -> None:
        self._traffic = traffic
        self._subject = f"{subjects.prefix}.queue"
        self._instance = instance
        self._state = state
        self._event_queue = event_queue
        self._clock = clock
        self._log = log

    async def take(self) -> None:
        """Take the queue from a replica that has it; without it where there is none.

        A copy that is cut short is logged and begun again, with any replica that answers: `ATTEMPTS` in all.
        """
        taken: set[str] = set()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._copy(taken)
            except errors.NoRespondersError:
                if attempt == 1:  # NATS answers 503 at once where no other replica is there
                    self._log.debug("there is no queue to take from another replica")
                    return
                break
            except (errors.Error, TimeoutError, ValidationError) as error:
                self._log.info(CUT_SHORT, requests=len(taken), why=_reason(error), attempt=attempt, attempts=ATTEMPTS)
            else:
                self._log.info("queue taken from another replica", requests=len(taken))
                return
        what = "part of the queue was taken; the others" if taken else "no queue was taken; requests"
        self._log.info(f"{what} are known when they renew", requests=len(taken))

    async def _copy(self, taken: set[str]) -> None:
        """Take all pages of the replica that answers first, and note the request ids.

        A page is applied while the next one is on its way.

        Raises:
            NoRespondersError: no other replica gives its queue.
            Error, TimeoutError, ValidationError: a page did not come, or cannot be read.
        """
        first = page = await self._page(self._subject, 0)
        while page.copy.next is not None:
            following = asyncio.create_task(self._next(first, page.copy.next, taken))
            try:
                await self._apply(first, page, taken)
                page = await following
            finally:
                following.cancel()
        await self._apply(first, page, taken)

    async def _apply(self, first: "_TakenPage", page: "_TakenPage", taken: set[str]) -> None:
        """Put a whole page into the event queue, and return when it is applied: the loop turns meanwhile."""
        page_at_ns = first.asked_at_ns + page.copy.at_ns - first.copy.at_ns
        copies = [_copy(request, page.asked_at_ns, page_at_ns) for request in page.copy.requests]
        await self._event_queue.put_and_wait(*copies)
        taken.update(copy.request_id for copy in copies)

    async def _next(self, first: "_TakenPage", after: int, taken: set[str]) -> "_TakenPage":
        """Ask the replica that gave the first page for a later one, again where no answer comes.

        Raises:
            Error, TimeoutError, ValidationError: as in `_copy`; the replica has gone.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._page(f"{self._subject}.{first.copy.instance}", after)
            except errors.NoRespondersError as error:
                raise errors.Error("the replica that gave it has gone") from error
            except TimeoutError as error:
                if attempt == ATTEMPTS:
                    raise
                why, requests = _reason(error), len(taken)
                self._log.info(CUT_SHORT, requests=requests, why=why, attempt=attempt, attempts=ATTEMPTS)
        raise AssertionError  # the last attempt returns or raises

    async def _page(self, subject: str, after: int) -> "_TakenPage":
        asked_at_ns = self._clock()
        payload = QueuePage(after=after).model_dump_json().encode()
        answer = await self._traffic.request(subject, payload, timeout=ANSWER_WITHIN_S)
        return _TakenPage(asked_at_ns, QueueCopy.model_validate_json(answer.data))

    async def open(self) -> None:
        """Give the queue to each replica that starts from now on."""
        await self._traffic.subscribe(self._subject, cb=self._give)
        await self._traffic.subscribe(f"{self._subject}.{self._instance}", cb=self._give)

    async def _give(self, message: Msg) -> None:
        if not message.reply:
            return
        try:
            after = QueuePage.model_validate_json(message.data or b"{}").after
        except ValidationError:
            return
        page = self._next_page(after, min(PAGE_BYTES_MAX, self._traffic.max_payload // 2))
        try:
            await self._traffic.publish(message.reply, page.encoded())
        except errors.MaxPayloadError as error:
            self._log.info(
                "a page of the queue is left out: it cannot be sent",
                requests=len(page.requests),
                max_payload=self._traffic.max_payload,
                error=str(error),
            )
            await self._traffic.publish(message.reply, replace(page, requests=()).encoded())

    def _next_page(self, after: int, most_bytes: int) -> "_GivenPage":
        """Return the requests admitted after this one, as many as have ``most_bytes``, but at least one."""
        now_ns = self._clock()
        requests = list(self._state.requests.by_id.values())  # in order of admission; a millisecond for 200,000
        encoded: list[bytes] = []
        left, last, rest = most_bytes - FRAME_BYTES, after, None
        for request in islice(requests, bisect_right(requests, after, key=_order), None):
            one = _copied(request, now_ns).model_dump_json(exclude_none=True).encode()
            left -= len(one) + 1
            if left < 0 and encoded:
                rest = last
                break
            encoded.append(one)
            last = request.order
        return _GivenPage(QueueCopy(instance=self._instance, requests=[], next=rest, at_ns=now_ns), tuple(encoded))


@dataclass(frozen=True, slots=True)
class _TakenPage:
    """A page that came, and when it was asked for."""

    asked_at_ns: int
    copy: QueueCopy


@dataclass(frozen=True, slots=True)
class _GivenPage:
    """A page to send: all but its requests, and these as JSON."""

    frame: QueueCopy
    requests: tuple[bytes, ...]

    def encoded(self) -> bytes:
        """Return it as JSON."""
        frame = self.frame.model_dump_json(by_alias=True, exclude_none=True).encode()
        return frame.replace(b'"askings":[]', b'"askings":[%s]' % b",".join(self.requests), 1)


def _reason(error: Exception) -> str:
    """Return why a page did not come, without what it holds."""
    match error:
        case TimeoutError():
            return f"no answer within {ANSWER_WITHIN_S:g} s"
        case ValidationError():
            return "a page cannot be read"
        case _:
            return str(error)


def _order(request: QueuedRequest) -> int:
    return request.order


def _copy(request: CopiedRequest, asked_at_ns: int, page_at_ns: int) -> RequestReceived:
    """The replica's event for it; ``page_at_ns`` is its page's instant, by this process's clock."""
    ask = request.ask(bucket=request.bucket, reply_to=request.reply_to, request_id="")
    renewed_at_ns = None if request.heard_ms is None else asked_at_ns - request.heard_ms * MS
    place_at_ns = None if request.placed_ns is None else page_at_ns - request.placed_ns
    return ask._replace(is_copy=True, renewed_at_ns=renewed_at_ns, place_at_ns=place_at_ns)


def _copied(request: QueuedRequest, now_ns: int) -> CopiedRequest:
    ask = request.message
    timeout_ns = None if request.timeout_at_ns is None else max(MS, request.timeout_at_ns - now_ns)
    heard_ms = None if request.is_unresponsive else (now_ns - request.renewed_at_ns) // MS + 1
    return CopiedRequest(
        shard_id=ask.shard_id,
        request_id=ask.request_id,
        renewal=ask.renewal,
        waited_ms=max(0, now_ns - request.asked_at_ns) // MS,
        max_concurrency=ask.max_concurrency,
        priority=ask.priority,
        managed=ask.managed,
        timeout_ms=None if timeout_ns is None else timeout_ns // MS,
        client=ask.client.encode().decode() or None,  # a copy of it: the encoder leaves its UTF-8 in what it was given
        bucket=request.bucket,
        reply_to=ask.reply_to,
        heard_ms=heard_ms,
        placed_ns=now_ns - request.place_ns,
        source=ask.source or None,
        asked_us=ask.asked_us if ask.source else None,
    )
